//! Time as the rest of core takes it: always an argument, never read from a clock.
//!
//! Two clocks matter. The wall clock is for people: it may jump. The boot clock counts milliseconds since the machine
//! started, sleep included (`CLOCK_BOOTTIME`), and never jumps; together with the boot id it says when a wait ends,
//! across restarts of the controller and whatever happens to the wall clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Wall-clock time, for people.
pub type Timestamp = jiff::Timestamp;

/// Names one boot of one machine: the kernel's random boot id. Another boot id voids all kernel identities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// The text is not a boot id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a boot id: expected a UUID")]
pub struct InvalidBootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({self})")
    }
}

impl FromStr for BootId {
    type Err = InvalidBootId;

    fn from_str(text: &str) -> Result<Self, InvalidBootId> {
        let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
        let valid = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let number = valid.then(|| u128::from_str_radix(&hex, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| InvalidBootId(text.chars().take(80).collect()))
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment on the boot clock of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootInstant {
    /// The boot.
    pub boot: BootId,
    /// Milliseconds since it.
    pub millis: u64,
}

impl BootInstant {
    /// The moment `wait` later on the same clock.
    pub fn after(self, wait: Duration) -> Self {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self { boot: self.boot, millis: self.millis.saturating_add(wait) }
    }

    /// Time since `earlier`, or nothing when that was another boot: then nobody knows.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        (self.boot == earlier.boot).then(|| Duration::from_millis(self.millis.saturating_sub(earlier.millis)))
    }
}

/// The present, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For people.
    pub wall: Timestamp,
    /// For waits.
    pub boot: BootInstant,
}

/// The end of a wait that no clock jump shortens and a reboot starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Deadline {
    /// When the wait began.
    pub from: BootInstant,
    /// How long it is, in milliseconds.
    pub wait_millis: u64,
}

impl Deadline {
    /// A wait of `wait` that begins now.
    pub fn after(now: BootInstant, wait: Duration) -> Self {
        Self { from: now, wait_millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Whether the wait is over.
    ///
    /// A deadline of another boot is never over: see [`Deadline::rebased`].
    pub fn is_over(self, now: BootInstant) -> bool {
        now.since(self.from).is_some_and(|passed| passed >= Duration::from_millis(self.wait_millis))
    }

    /// The same wait, started again now if it began in another boot.
    pub fn rebased(self, now: BootInstant) -> Self {
        if self.from.boot == now.boot { self } else { Self { from: now, ..self } }
    }

    /// The moment at which the wait ends, on the clock on which it began.
    pub fn end(self) -> BootInstant {
        self.from.after(Duration::from_millis(self.wait_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(boot: u128, millis: u64) -> BootInstant {
        BootInstant { boot: BootId(boot), millis }
    }

    #[test]
    fn boot_id_text() {
        let text = "0a1b2c3d-0000-4000-8000-00000000000f";
        assert_eq!(text.parse::<BootId>().unwrap().to_string(), text);
        assert!("0a1b".parse::<BootId>().is_err());
        assert!("+a1b2c3d-0000-4000-8000-00000000000f".parse::<BootId>().is_err());
    }

    #[test]
    fn a_reboot_starts_a_wait_again() {
        let deadline = Deadline::after(at(1, 1_000), Duration::from_secs(5));
        assert!(!deadline.is_over(at(1, 5_999)));
        assert!(deadline.is_over(at(1, 6_000)));
        assert!(!deadline.is_over(at(2, 60_000)));
        let again = deadline.rebased(at(2, 10));
        assert!(!again.is_over(at(2, 5_009)));
        assert!(again.is_over(at(2, 5_010)));
    }
}
