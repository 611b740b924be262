//! Several runs of one thing, and what came of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Why something could not be measured, in words.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of a measurement.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Several runs of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) runs: usize,
}

impl Sample {
    /// # Panics
    /// Without a run.
    pub(crate) fn of(mut runs: Vec<f64>) -> Self {
        assert!(!runs.is_empty(), "a sample needs a run");
        runs.sort_by(f64::total_cmp);
        let middle = runs.len() / 2;
        let median = if runs.len() % 2 == 1 { runs[middle] } else { (runs[middle - 1] + runs[middle]) / 2.0 };
        Self { median, min: runs[0], max: runs[runs.len() - 1], runs: runs.len() }
    }
}

/// Does something several times; each time returns its own figure.
pub(crate) fn sample(runs: usize, mut run: impl FnMut() -> Result<f64>) -> Result<Sample> {
    Ok(Sample::of((0..runs).map(|_| run()).collect::<Result<_>>()?))
}

/// Milliseconds since `begin`.
pub(crate) fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// Waits for something that is looked at ten times per millisecond.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !holds()? {
        if begin.elapsed() > limit {
            return Err(format!("this did not come true within {limit:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
