//! What a link's identity records besides its ends.

use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;

/// The type of interface that stands in for one that the kernel lacks.
pub(crate) const STAND_IN: &str = "stand_in";
/// The side of the only end of a link that has one, when it is not the first.
pub(crate) const ONLY_SIDE: &str = "only_side";

/// The index of the bridge that an end is a port of.
pub(crate) fn bridge(side: Side) -> String {
    format!("bridge_{side}")
}

/// The index of the bridge that an end was made a port of.
pub(crate) fn recorded_bridge(identity: &LinkIdentity, side: Side) -> Option<u32> {
    identity.detail.get(&bridge(side))?.parse().ok()
}

/// The side that the identity's first end stands for.
pub(crate) fn first_side(identity: &LinkIdentity) -> Side {
    match identity.detail.get(ONLY_SIDE) {
        Some(side) if *side == Side::B.to_string() => Side::B,
        _ => Side::A,
    }
}
