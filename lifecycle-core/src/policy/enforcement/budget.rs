//! How often enforcement tries, and what it has tried.

use std::time::Duration;

use rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::time::{BootInstant, Deadline, Now, Timestamp};

/// How often and how soon enforcement tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnforcementPolicy {
    /// Longest wait after the first failure; it doubles with each further one. In seconds when written as text.
    #[serde(with = "seconds")]
    pub base: Duration,
    /// Longest wait of all.
    #[serde(with = "seconds")]
    pub cap: Duration,
    /// Attempts before giving up; at least one is made.
    pub max_attempts: u32,
    /// A node that ran for so long gets its budget back.
    #[serde(with = "seconds")]
    pub stable_after: Duration,
}

impl Default for EnforcementPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(300),
            max_attempts: 3,
            stable_after: Duration::from_secs(60),
        }
    }
}

impl EnforcementPolicy {
    /// The longest wait after failure number `failures`, counted from 1: `min(base · 2^(failures − 1), cap)`.
    pub fn longest_wait(&self, failures: u32) -> Duration {
        let factor = 2u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait after failure number `failures`: any time up to the longest, so that a thousand nodes that failed
    /// together do not come back together.
    pub fn wait(&self, failures: u32, rng: &mut dyn Rng) -> Duration {
        let longest = u64::try_from(self.longest_wait(failures).as_millis()).unwrap_or(u64::MAX);
        let share = u128::from(rng.next_u64()) * (u128::from(longest) + 1);
        Duration::from_millis((share >> 64) as u64)
    }
}

/// Durations as seconds, fractions allowed.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// What became of enforcing one node since a user, or a stable run, last reset it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Failed attempts.
    pub attempts: u32,
    /// The error of the first of them. It outlives a success, until the run proves stable, so that giving up on a
    /// crash loop can name its first cause.
    pub first_error: Option<String>,
    /// The error of the last of them; cleared only by success.
    pub last_error: Option<String>,
    /// When the next attempt may be made.
    pub next_attempt: Option<Deadline>,
    /// When enforcement gave up.
    pub given_up_at: Option<Timestamp>,
}

/// What is left after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// There will be another attempt, at [`Budget::next_attempt`].
    Retry,
    /// There will not.
    GiveUp,
}

impl Budget {
    /// Counts a failed attempt.
    ///
    /// A failure that comes in after giving up changes the last error and is not counted.
    pub fn failed(
        &mut self,
        error: impl Into<String>,
        policy: &EnforcementPolicy,
        now: Now,
        rng: &mut dyn Rng,
    ) -> Spent {
        let error = error.into();
        if self.attempts == 0 || self.first_error.is_none() {
            self.first_error = Some(error.clone());
        }
        self.last_error = Some(error);
        if self.given_up_at.is_some() {
            return Spent::GiveUp;
        }
        self.attempts += 1;
        if self.attempts >= policy.max_attempts {
            self.next_attempt = None;
            self.given_up_at = Some(now.wall);
            Spent::GiveUp
        } else {
            self.next_attempt = Some(Deadline::after(now.boot, policy.wait(self.attempts, rng)));
            Spent::Retry
        }
    }

    /// Starts over for a user's command: the next attempt waits for nothing. Errors stay readable until success, or
    /// until another takes their place.
    pub fn reset_by_user(&mut self) {
        self.attempts = 0;
        self.next_attempt = None;
        self.given_up_at = None;
    }

    /// The node became what its user wants. Attempts stay counted until the run proves stable, else a crash loop would
    /// never end.
    pub fn success(&mut self) {
        self.last_error = None;
        self.next_attempt = None;
        if self.attempts == 0 {
            self.first_error = None;
        }
    }

    /// The node ran for [`EnforcementPolicy::stable_after`]: its budget is whole again.
    pub fn ran_stably(&mut self) {
        *self = Self::default();
    }

    /// Starts the wait again if it began in another boot; to be called when a budget is loaded.
    pub fn rebase(&mut self, now: BootInstant) {
        self.next_attempt = self.next_attempt.map(|wait| wait.rebased(now));
    }

    /// What people read when enforcement gives up.
    pub fn give_up_message(&self) -> String {
        let text = |error: &Option<String>| error.clone().unwrap_or_else(|| "unknown".to_owned());
        format!(
            "State enforcement failed after {} attempts. Last error: {}. First error: {}",
            self.attempts,
            text(&self.last_error),
            text(&self.first_error)
        )
    }
}
