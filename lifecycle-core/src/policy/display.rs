//! What people are shown of a node. It follows intent, so that a click is never answered by the old colour.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::enforcement::{Budget, EnforcementPolicy};
use crate::machine::{NodeIntent, NodeState};

/// What people are shown of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DisplayState {
    /// It is on its way to running, or will be.
    Starting,
    /// It runs.
    Running,
    /// It is on its way to a stop.
    Stopping,
    /// It does not run, as wanted.
    Stopped,
    /// Nothing of it exists, as wanted.
    Undeployed,
    /// Somebody has to look at it.
    Error,
}

/// Whether enforcement will try a failed node again by itself.
pub fn will_retry(
    state: NodeState,
    intent: NodeIntent,
    budget: &Budget,
    blocked: bool,
    policy: &EnforcementPolicy,
) -> bool {
    state == NodeState::Error
        && intent == NodeIntent::Running
        && budget.attempts < policy.max_attempts
        && budget.given_up_at.is_none()
        && !blocked
}

/// What people are shown of a node; `will_retry` is [`will_retry`]'s answer.
pub const fn display(state: NodeState, intent: NodeIntent, will_retry: bool) -> DisplayState {
    use DisplayState as D;
    use NodeState as S;
    match (intent, state) {
        (_, S::Stopping) => D::Stopping,
        (NodeIntent::Running, S::Error) if will_retry => D::Starting,
        (_, S::Error) => D::Error,
        (NodeIntent::Running, S::Running) => D::Running,
        (NodeIntent::Running, S::Undeployed | S::Pending | S::Starting | S::Stopped | S::Exited) => D::Starting,
        (NodeIntent::Stopped, S::Undeployed) => D::Undeployed,
        (NodeIntent::Stopped, S::Pending | S::Stopped | S::Exited) => D::Stopped,
        (NodeIntent::Stopped, S::Starting | S::Running) => D::Stopping,
    }
}

/// The state in words: `starting (attempt 2 of 3)` for a node that failed once and will be tried again.
pub fn display_text(
    state: NodeState,
    intent: NodeIntent,
    budget: &Budget,
    blocked: bool,
    policy: &EnforcementPolicy,
) -> String {
    let retry = will_retry(state, intent, budget, blocked, policy);
    let shown = display(state, intent, retry);
    if retry {
        format!("{shown} (attempt {} of {})", budget.attempts + 1, policy.max_attempts)
    } else {
        shown.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_intent() {
        // undeployed, pending, starting, running, stopping, stopped, exited, error
        let table = [
            (NodeIntent::Running, false, "starting starting starting running stopping starting starting error"),
            (NodeIntent::Running, true, "starting starting starting running stopping starting starting starting"),
            (NodeIntent::Stopped, false, "undeployed stopped stopping stopping stopping stopped stopped error"),
            (NodeIntent::Stopped, true, "undeployed stopped stopping stopping stopping stopped stopped error"),
        ];
        for (intent, retry, row) in table {
            let found: Vec<String> =
                NodeState::VARIANTS.iter().map(|&state| display(state, intent, retry).to_string()).collect();
            assert_eq!(found.join(" "), row, "desired={intent}, will_retry={retry}");
        }
    }

    #[test]
    fn will_retry_needs_all_its_conditions() {
        let policy = EnforcementPolicy::default();
        let given_up = "2026-08-01T12:00:00Z".parse().ok();
        for &state in NodeState::VARIANTS {
            for &intent in NodeIntent::VARIANTS {
                for (attempts, given_up_at, blocked) in
                    [(0, None, false), (2, None, false), (3, None, false), (2, given_up, false), (2, None, true)]
                {
                    let budget = Budget { attempts, given_up_at, ..Budget::default() };
                    let expected = state == NodeState::Error
                        && intent == NodeIntent::Running
                        && attempts < 3
                        && given_up_at.is_none()
                        && !blocked;
                    assert_eq!(will_retry(state, intent, &budget, blocked, &policy), expected);
                    let text = display_text(state, intent, &budget, blocked, &policy);
                    assert_eq!(text.contains(&format!("starting (attempt {} of 3)", attempts + 1)), expected, "{text}");
                }
            }
        }
    }
}
