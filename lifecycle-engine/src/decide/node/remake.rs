//! The phases that get the place of a node's next instance ready, while the present one is left alone.

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeRecord;
use lifecycle_core::name::HostName;
use lifecycle_core::policy::enforcement;

use super::super::effect::{Action, Subject};
use super::super::planted::Bug;
use super::super::{Cx, World, apply, placement};
use super::{Flow, Goal, Phase, ask_at, begin, end, slot};

/// Whether a node is to be made anew before anything else is done about it. A node that is not to run waits for its
/// start.
pub(super) fn is_due(node: &NodeRecord) -> bool {
    node.recreate && node.instance.is_some() && node.desired == NodeIntent::Running && !node.actual.is_transitional()
}

/// Whether what was to be made anew never came to be, or is gone.
pub(super) fn is_moot(node: &NodeRecord) -> bool {
    node.recreate && node.instance.is_none()
}

/// The next instance is made of what is wanted now. Should the old one appear late, it is of another incarnation.
pub(super) fn forget(cx: &mut Cx<'_>, id: NodeId) {
    cx.change_node(id, |node| {
        node.recreate = false;
        node.incarnation += 1;
    });
}

/// Something else is wanted of the node: the place that was chosen and the image that is being fetched were for what was
/// wanted before.
pub(in super::super) fn reconsider(world: &mut World, id: NodeId) {
    let Some(work) = world.node_work.get_mut(&id) else { return };
    work.target = None;
    match work.phase {
        Phase::Prepare | Phase::Fetch => (work.phase, work.effect) = (Phase::Prepare, None),
        Phase::Image if work.effect.is_some() => (work.phase, work.effect) = (Phase::Place, None),
        _ => {}
    }
    world.touch_node(id);
}

/// Begins to make a node anew, within its budget.
pub(super) fn begin(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    if node.stale_since.is_some() || node.blocked.is_some() || node.budget.given_up_at.is_some() {
        return begin::settled(cx, id);
    }
    let due = enforcement::due_millis(node.budget.next_attempt, cx.now.boot);
    if due > cx.now.boot.millis {
        cx.wake_after(std::time::Duration::from_millis(due - cx.now.boot.millis), Subject::Node(id));
        return begin::settled(cx, id);
    }
    begin::open(cx, id, Goal::Remove, Phase::Prepare, true);
}

/// Chooses the place of the next instance and reserves what it needs there.
pub(super) fn prepare(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    slot::give(cx, id);
    if cx.world.nodes.get(&id).is_some_and(|node| node.instance.is_none()) {
        // The old one went by itself.
        return Flow::Done;
    }
    match placement::reserve(cx, id) {
        Ok(None) => Flow::Wait,
        Ok(Some(host)) => {
            if let Some(work) = cx.world.node_work.get_mut(&id) {
                work.target = Some(host);
            }
            let early = cx.world.has_bug(Bug::MovesBeforeTheTargetIsReady);
            Flow::Next(if early { touch_old(cx, id) } else { Phase::Fetch })
        }
        Err(blocked) => {
            end::blocked(cx, id, blocked);
            Flow::Wait
        }
    }
}

/// Has the image there.
pub(super) fn fetch(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(target) = cx.world.node_work.get(&id).and_then(|work| work.target.clone()) else {
        return Flow::Next(Phase::Prepare);
    };
    let Some(spec) = cx.world.spec(id).map(|spec| cx.world.complete(spec)) else { return Flow::Wait };
    let name = apply::provider_of_node(cx.world, id);
    if !answers(cx.world, id, &target) {
        // Between choosing and fetching it was lost: choose again.
        let blocked = lifecycle_core::policy::blocked::Blocked::HostOffline { host: target };
        end::blocked(cx, id, blocked);
        return Flow::Wait;
    }
    let provider = cx.world.hosts.get(&target).and_then(|host| host.providers.get(&name));
    if !provider.is_some_and(|provider| provider.capabilities.images) {
        return Flow::Next(touch_old(cx, id));
    }
    let timeout = cx.world.settings.limits.pending;
    ask_at(cx, id, target, name, Action::EnsureImage(Box::new(spec)), timeout)
}

/// Whether the place of the next instance was lost after it had been made ready, or something else is wanted since: then
/// the old one is left alone until another place is ready.
pub(super) fn place_is_lost(world: &World, id: NodeId) -> bool {
    let Some(work) = world.node_work.get(&id).filter(|work| work.goal == Goal::Remove && work.then_run) else {
        return false;
    };
    let Some(target) = &work.target else { return true };
    !answers(world, id, target) && !world.has_bug(Bug::MovesBeforeTheTargetIsReady)
}

/// Whether the provider that the node's next instance is to have can be reached on a host.
pub(super) fn answers(world: &World, id: NodeId, target: &HostName) -> bool {
    world.answers(target, &apply::provider_of_node(world, id))
}

/// The phase that follows once everything is ready for the next instance.
pub(super) fn touch_old(cx: &mut Cx<'_>, id: NodeId) -> Phase {
    // Its links lose their place now.
    cx.world.touch_links_at(id);
    match cx.world.nodes.get(&id).map(|node| node.actual) {
        Some(NodeState::Running) => Phase::Stop,
        _ => Phase::Destroy,
    }
}
