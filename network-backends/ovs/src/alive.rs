//! Whether the switch runs. What the database says stands there also when `ovs-vswitchd` has died or hangs, and a link
//! through a switch that does not run is neither up nor broken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifecycle_core::error::ErrorKind;
use lifecycle_linux::wiring::{Failure, Outcome};

use crate::ovsdb::{Client, Heard};
use crate::removal::{LET_GO, commit};
use crate::switch::{Draft, carried_out};
use crate::worker::Worker;

/// Within this time a switch answers that passes no frame, if it does anything at all.
const PATIENCE: Duration = Duration::from_secs(1);
/// For so long nothing is asked of a switch that did not answer.
const SILENCE: Duration = Duration::from_millis(500);

/// What is known without asking, so that nobody who only reads waits behind work that waits for the switch.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The connection to the database broke.
    lost: AtomicBool,
    /// The switch has ended.
    dead: AtomicBool,
}

impl Health {
    /// Takes in what was heard.
    pub(crate) fn note(&self, heard: &Heard<'_>) {
        match heard {
            Heard::Synced(_) => self.lost.store(false, Ordering::Relaxed),
            Heard::Lost => {
                self.lost.store(true, Ordering::Relaxed);
                self.dead.store(false, Ordering::Relaxed);
            }
            Heard::Holder { lives } => self.dead.store(!lives, Ordering::Relaxed),
            Heard::Changed(_) => {}
        }
    }

    /// Refuses to read anything of a switch that is known not to run.
    pub(crate) fn check(&self) -> Outcome<()> {
        if self.lost.load(Ordering::Relaxed) {
            let message = "the connection to the database of Open vSwitch broke; is it running?";
            return Err(Failure::new(ErrorKind::Unreachable, message));
        }
        if self.dead.load(Ordering::Relaxed) { Err(silent()) } else { Ok(()) }
    }
}

impl Worker {
    /// Refuses to read anything of a switch that did not answer a moment ago.
    pub(crate) fn see_switch(&self) -> Outcome<()> {
        self.health.check()?;
        if self.silent.is_some_and(|since| since.elapsed() < SILENCE) { Err(silent()) } else { Ok(()) }
    }

    /// Asks a switch that lost a frame whether it runs: it has to carry out all that was committed. In user space it forwards
    /// nothing while it lets go of ports.
    pub(crate) fn question_switch(&mut self, client: &Client) -> Outcome<()> {
        if self.removal <= client.read(carried_out) {
            self.leaving = 0;
        }
        let patience = PATIENCE + LET_GO * self.leaving;
        let number = commit(client, &Draft::default().finish("ask"))?;
        let done = client.wait(patience, |db| carried_out(db).filter(|done| *done >= number));
        self.silent = done.is_none().then(Instant::now);
        done.map(drop).ok_or_else(silent)
    }
}

fn silent() -> Failure {
    Failure::new(ErrorKind::Unreachable, "ovs-vswitchd does not answer; is it running?")
}
