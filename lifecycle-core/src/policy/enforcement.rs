//! What enforcement does about a node, when, and when it gives up.
//!
//! [`decide`] is the table: what to do about a node that is not as its user wants it. A [`Budget`] counts the failures
//! of what was tried, spaces the attempts out and ends them. Only failures of an operation count: an unreachable host
//! costs no attempt, and what no retry can mend is not tried.

use std::time::Duration;

use rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::machine::{NodeIntent, NodeState};
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

/// The moment on this boot's clock at which a wait ends, in milliseconds, for [`EnforcementFacts::due_millis`]; 0
/// without a wait. A wait of another boot counts from now.
pub fn due_millis(wait: Option<Deadline>, now: BootInstant) -> u64 {
    wait.map_or(0, |wait| wait.rebased(now).end().millis)
}

/// What enforcement looks at: 16 bytes, so that a pass over a million nodes stays in the milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnforcementFacts {
    /// The node's state.
    pub state: NodeState,
    /// What its user wants.
    pub intent: NodeIntent,
    /// Whether an instance was observed.
    pub instance_exists: bool,
    /// What the live job on the node works towards, if there is one.
    pub live_job: Option<NodeIntent>,
    /// Whether no retry can help until the world changes.
    pub blocked: bool,
    /// Whether its host or daemon cannot be reached.
    pub stale: bool,
    /// Whether its budget is used up.
    pub given_up: bool,
    /// When that ends which is waited for, in milliseconds of this boot's clock, 0 for nothing: in a transitional
    /// state its deadline, in any other the time of the next attempt.
    pub due_millis: u64,
}

/// What to do about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnforcementAction {
    /// Nothing, until a fact changes.
    None {
        /// Why.
        reason: SkipReason,
    },
    /// Nothing, until a fact changes or the boot clock reaches a time.
    WaitUntil {
        /// Why.
        reason: SkipReason,
        /// The time, in milliseconds of this boot's clock.
        millis: u64,
    },
    /// Make its instance, wire and start it.
    Deploy,
    /// Start its instance.
    Start,
    /// Stop its instance, interrupting what starts it.
    Stop,
    /// Interrupt its deploy and undo what was done of it.
    Abort,
    /// Ask the provider what is true: its transitional state has lasted too long and nobody works on it.
    Resolve,
}

/// Why nothing is done, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SkipReason {
    /// The node is as its user wants it.
    Matches,
    /// A job is at work on it.
    LiveJob,
    /// It is on its way and within its deadline.
    UnderWay,
    /// The next attempt is not due yet.
    Backoff,
    /// Its budget is used up.
    GivenUp,
    /// No retry can help until the world changes.
    Blocked,
    /// Its host or daemon cannot be reached.
    Stale,
}

/// What enforcement does about a node now.
#[inline]
pub fn decide(facts: &EnforcementFacts, now: BootInstant) -> EnforcementAction {
    if facts.state.matches(facts.intent) {
        return EnforcementAction::None { reason: SkipReason::Matches };
    }
    correct(facts, now.millis)
}

/// [`decide`] for a node that is not as its user wants it.
fn correct(facts: &EnforcementFacts, now: u64) -> EnforcementAction {
    use EnforcementAction::{Abort, Deploy, Resolve, Start, Stop};
    use NodeIntent::{Running, Stopped};
    use NodeState as S;

    let none = |reason| EnforcementAction::None { reason };
    let due = facts.due_millis;
    let until = |reason| EnforcementAction::WaitUntil { reason, millis: due };
    let begin = if facts.instance_exists { Start } else { Deploy };
    // A failed operation is tried again, within the budget and not before its time.
    let within_budget = |action| match action {
        Deploy | Start if facts.blocked => none(SkipReason::Blocked),
        _ if facts.given_up => none(SkipReason::GivenUp),
        _ if now < due => until(SkipReason::Backoff),
        _ => action,
    };

    if facts.stale {
        return none(SkipReason::Stale);
    }
    if let Some(goal) = facts.live_job {
        // Nothing but a recorded intent to stop may cross a job, and only one that deploys or starts.
        return match (facts.intent, facts.state, goal) {
            (Stopped, S::Pending, Running) => Abort,
            (Stopped, S::Starting, Running) => Stop,
            _ => none(SkipReason::LiveJob),
        };
    }
    match (facts.intent, facts.state) {
        (Running, S::Starting) | (Running | Stopped, S::Stopping) => {
            if now < due {
                until(SkipReason::UnderWay)
            } else {
                Resolve
            }
        }
        (Running, S::Pending) if facts.blocked && now < due => none(SkipReason::Blocked),
        (Running, S::Pending) if facts.blocked => Resolve,
        (Running, S::Pending) => Deploy,
        (Running, S::Undeployed) => within_budget(Deploy),
        (Running, S::Stopped | S::Exited | S::Error) => within_budget(begin),
        (Stopped, S::Pending) => Abort,
        (Stopped, S::Starting) => Stop,
        (Stopped, S::Running | S::Error) => within_budget(Stop),
        (Running, S::Running) | (Stopped, S::Undeployed | S::Stopped | S::Exited) => none(SkipReason::Matches),
    }
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
