//! Turns: nodes of some kinds must not start all at once on one host.

use std::time::Duration;

use lifecycle_core::id::NodeId;

use super::super::Cx;

/// How long a node has to wait until it may start. Without a wait it has taken its turn, and others of its kind wait.
pub(super) fn wait(cx: &mut Cx<'_>, id: NodeId) -> Option<Duration> {
    let (_, kind) = cx.world.kinds.get(&cx.world.spec(id)?.kind)?;
    if kind.stagger == 0 {
        return None;
    }
    let (distance, kind) = (Duration::from_secs(kind.stagger.into()), kind.kind.clone());
    let turn = (cx.world.nodes.get(&id)?.host.clone()?, kind);
    let now = cx.now.boot;
    let last = cx.world.turns.get(&turn).and_then(|last| now.since(*last));
    let left = last.map_or(Duration::ZERO, |since| distance.saturating_sub(since));
    if !left.is_zero() {
        return Some(left);
    }
    cx.world.turns.insert(turn, now);
    None
}
