//! What a controller with a thousand nodes uses while nothing happens.

use std::time::{Duration, Instant};

use super::Row;
use super::thousand::NODES;
use crate::lab;
use crate::measure::{Result, Sample};
use crate::process;
use crate::table::{Goal, Line};

pub(super) const ROW: Row = Row { name: "idle", about: "a controller with 1,000 nodes while nothing happens", measure };

/// Time in which what follows a start dies down.
const SETTLE: Duration = Duration::from_secs(5);
/// Every pass of the engine comes once within it.
const WINDOW: Duration = Duration::from_secs(60);

fn measure() -> Result<Vec<Line>> {
    lab::with(async |bench| {
        bench.up(lab::mesh(NODES)?).await?;
        let processes = [("the controller", std::process::id()), ("its keeper", bench.keeper()?)];
        tokio::time::sleep(SETTLE).await;
        let used = || processes.iter().map(|(_, pid)| process::cpu_seconds(*pid)).collect::<Result<Vec<f64>>>();
        let (begin, before) = (Instant::now(), used()?);
        tokio::time::sleep(WINDOW).await;
        let (window, after) = (begin.elapsed().as_secs_f64(), used()?);
        let mut lines = Vec::new();
        for (at, (name, pid)) in processes.into_iter().enumerate() {
            let percent = (after[at] - before[at]) / window * 100.0;
            let line = |what: &str, unit, figure| {
                Line::new(format!("idle with 1,000 nodes: {what} of {name}"), unit, Sample::of(vec![figure]))
            };
            lines.push(line("processor time", "%", percent).goal(Goal::AtMost(1.0)));
            lines.push(line("memory", "MB", process::megabytes(pid)?).goal(Goal::AtMost(100.0)));
        }
        Ok(lines)
    })
}
