//! Where the present comes from.

use std::fmt;
use std::fs;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::time::{BootId, BootInstant, Now, Timestamp};

/// Tells the time. The engine never reads a clock otherwise.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present.
    fn now(&self) -> Now;
}

/// The clocks of this machine: `CLOCK_BOOTTIME`, which counts sleep and never jumps, and the wall clock for people.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    boot: BootId,
}

impl SystemClock {
    /// The clocks of this machine in its present boot.
    ///
    /// # Errors
    /// When the kernel does not tell its boot id.
    pub fn new() -> Result<Self> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let fail = |message: &str| Error::new(ErrorKind::Unsupported, "read boot id", message).about(PATH);
        let text = fs::read_to_string(PATH).map_err(|error| fail("the kernel does not tell it").because(error))?;
        let boot = text.parse().map_err(|error| fail("the kernel tells something else").because(error))?;
        Ok(Self { boot })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let millis =
            u64::try_from(boot.tv_sec).unwrap_or(0) * 1000 + u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000;
        Now { wall: Timestamp::now(), boot: BootInstant { boot: self.boot, millis } }
    }
}
