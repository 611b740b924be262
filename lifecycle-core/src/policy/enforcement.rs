//! What enforcement does about a node, when, and when it gives up.
//!
//! [`decide`] is the table: what to do about a node that is not as its user wants it. A [`Budget`] counts the failures
//! of what was tried, spaces the attempts out and ends them. Only failures of an operation count: an unreachable host
//! costs no attempt, and what no retry can mend is not tried.

mod budget;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use budget::{Budget, EnforcementPolicy, Spent};

use crate::machine::{NodeIntent, NodeState};
use crate::time::{BootInstant, Deadline};

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
