//! The short-lived process between the controller and the keeper: it writes the keeper's user map from outside, tells
//! the controller how the start went, and is gone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use nix::unistd::getpid;
use serde::{Deserialize, Serialize};

use super::userns;
use crate::failure::{Doing, Failure};

/// What the keeper tells its parent, one JSON object per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// Write the user map of this process; answered by a line `true` or `false`.
    Map(i32),
    /// The keeper listens.
    Ready,
    Failed(Failure),
}

/// The keeper's side.
#[derive(Debug)]
pub(super) struct Parent(pub(super) UnixStream);

impl Parent {
    fn say(&mut self, report: &Report) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(report).doing("write a report")?;
        line.push(b'\n');
        self.0.write_all(&line).doing("report to the process that started the keeper")
    }

    /// Has the user and group map of this process written; says whether that worked.
    pub(super) fn map_ids(&mut self) -> Result<bool, Failure> {
        self.say(&Report::Map(getpid().as_raw()))?;
        let mut line = String::new();
        BufReader::new(&self.0).read_line(&mut line).doing("hear from the process that started the keeper")?;
        Ok(line.trim() == "true")
    }

    /// Tells how the start went. A parent that is gone does not matter any more.
    pub(super) fn finish(mut self, result: Result<(), Failure>) {
        let _ = self.say(&match result {
            Ok(()) => Report::Ready,
            Err(failure) => Report::Failed(failure),
        });
    }
}

/// The parent's side: serves the keeper until it is ready or has failed.
pub(super) fn attend(keeper: UnixStream) -> Result<(), Failure> {
    let mut lines = BufReader::new(&keeper);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).doing("hear from the keeper")?;
        match serde_json::from_str(&line).doing("start the keeper: it ended before it was ready")? {
            Report::Ready => return Ok(()),
            Report::Failed(failure) => return Err(failure),
            Report::Map(pid) => {
                let mapped = userns::map_with_helpers(pid);
                writeln!(&keeper, "{mapped}").doing("answer the keeper")?;
            }
        }
    }
}
