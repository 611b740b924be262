//! Hands the end of an effect to whoever asked for it.

use lifecycle_core::error::ErrorKind;

use super::effect::{EffectId, Outcome, Subject};
use super::{Cx, collect, link, node, passes};

/// Takes in how an effect ended. An effect that nobody knows, because the controller's memory was rebuilt meanwhile, is
/// news about its subject and no more.
pub(super) fn take(cx: &mut Cx<'_>, id: EffectId, outcome: Outcome) {
    let Some(in_flight) = cx.world.in_flight.remove(&id) else { return };
    let effect = &in_flight.effect;
    if let Err(error) = &outcome
        && error.kind() == ErrorKind::Fenced
    {
        // A newer controller acts now; this one's commits will be refused too, and its driver stops.
        return;
    }
    match effect.subject {
        Subject::Node(node) => node::take_outcome(cx, node, effect, outcome),
        Subject::Link(link) => link::take_outcome(cx, link, effect, outcome),
        Subject::Host => {
            if effect.action.is_mutating() {
                collect::removed(cx, &in_flight, outcome);
            } else {
                passes::read(cx, &in_flight, outcome);
            }
        }
    }
}
