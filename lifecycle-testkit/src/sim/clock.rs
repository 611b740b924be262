//! Virtual time: milliseconds since the simulation began, from which the clocks of the simulated machine are derived.

use lifecycle_core::time::{BootId, BootInstant, Now, Timestamp};

/// Seconds between 1970 and the beginning of every simulation.
const EPOCH: i64 = 1_800_000_000;

/// The clocks of the machine.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// Milliseconds since the simulation began.
    pub(super) millis: u64,
    boots: u128,
    booted_at: u64,
    /// What the wall clock shows beyond the truth, in milliseconds.
    skew: i64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { millis: 0, boots: 1, booted_at: 0, skew: 0 }
    }

    /// The present as a controller reads it.
    pub(super) fn now(&self) -> Now {
        let wall = EPOCH * 1000 + i64::try_from(self.millis).unwrap_or(0) + self.skew;
        let wall = Timestamp::from_millisecond(wall).unwrap_or(Timestamp::UNIX_EPOCH);
        // Machines do not boot in no time, so that an instant of one boot may also be one of the next.
        let millis = self.millis - self.booted_at + 5_000;
        Now { wall, boot: BootInstant { boot: self.boot(), millis } }
    }

    /// The present boot.
    pub(super) fn boot(&self) -> BootId {
        BootId(self.boots)
    }

    /// When an instant of the present boot comes, on the simulation's clock.
    pub(super) fn at(&self, instant: BootInstant) -> u64 {
        (instant.millis + self.booted_at).saturating_sub(5_000)
    }

    /// Sets the wall clock forward or back.
    pub(super) fn jump(&mut self, millis: i64) {
        self.skew += millis;
    }

    /// Boots the machine anew.
    pub(super) fn reboot(&mut self) {
        self.boots += 1;
        self.booted_at = self.millis;
    }
}
