//! Many seeds, on several threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use lifecycle_engine::decide::invariant::Violation;

use super::record::Digest;
use super::simulation::Simulation;

/// How a seed is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Steps of the engine before the faults stop.
    pub steps: u64,
    /// Keep a trace for people.
    pub trace: bool,
    /// Keep a digest of everything that was decided.
    pub digest: bool,
    /// A planted bug, by name; only with the feature `planted-bugs`.
    pub bug: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 500, trace: false, digest: false, bug: None }
    }
}

/// What became of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Steps of the engine in all.
    pub steps: u64,
    /// Milliseconds of simulated time.
    pub millis: u64,
    /// The digest of all batches and effects, if asked for.
    pub digest: Option<u64>,
    /// The trace, if asked for.
    pub trace: Vec<String>,
    /// What was violated; empty when nothing was.
    pub violations: Vec<Violation>,
}

/// A seed in which something was violated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What became of it.
    pub outcome: Outcome,
    /// The command that shows it in every detail.
    pub command: String,
}

/// Runs one seed.
///
/// # Errors
/// When a planted bug is asked for that is not known, or that this build does not have.
pub fn run_seed(seed: u64, options: &Options) -> Result<Outcome, String> {
    let mut simulation = Simulation::new(seed);
    simulation.plant(options.bug.as_deref())?;
    simulation.trace.on = options.trace;
    simulation.digest = options.digest.then(Digest::new);
    simulation.live(options.steps);
    Ok(Outcome {
        seed,
        steps: simulation.steps,
        millis: simulation.clock.millis,
        digest: simulation.digest.map(|digest| digest.0),
        trace: simulation.trace.lines,
        violations: simulation.violations,
    })
}

/// Many seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// How each is run.
    pub options: Options,
    /// Stop at the first failure.
    pub first_only: bool,
    /// Threads; 0 means one per processor.
    pub threads: usize,
}

impl Campaign {
    /// Runs all seeds and hands each outcome on as it comes, in no order. Returns the failures by seed.
    ///
    /// # Errors
    /// As [`run_seed`].
    pub fn run(&self, mut each: impl FnMut(&Outcome)) -> Result<Vec<Failure>, String> {
        let threads = if self.threads == 0 {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        } else {
            self.threads
        };
        let (next, stop) = (AtomicU64::new(self.from), AtomicBool::new(false));
        let end = self.from.saturating_add(self.seeds);
        let (sender, receiver) = mpsc::channel();
        let mut failures = Vec::new();
        std::thread::scope(|scope| -> Result<(), String> {
            for _ in 0..threads {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        if sender.send(run_seed(seed, &self.options)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for outcome in receiver {
                let outcome = outcome.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                each(&outcome);
                if !outcome.violations.is_empty() {
                    if self.first_only {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let command = self.command(outcome.seed);
                    failures.push(Failure { outcome, command });
                }
            }
            Ok(())
        })?;
        failures.sort_by_key(|failure| failure.outcome.seed);
        Ok(failures)
    }

    /// The command that shows one seed in every detail.
    pub fn command(&self, seed: u64) -> String {
        let mut command = String::from("cargo run -q --release -p lifecycle-testkit");
        if let Some(bug) = &self.options.bug {
            command.push_str(&format!(" --features planted-bugs --bin simulate -- --bug {bug}"));
        } else {
            command.push_str(" --bin simulate --");
        }
        command.push_str(&format!(" --seed {seed} --steps {} --trace", self.options.steps));
        command
    }
}
