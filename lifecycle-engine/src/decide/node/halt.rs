//! The phases that stop and remove a node, the turn from running to stopping, and the look at what is true.

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};

use super::super::effect::Action;
use super::super::{Cx, Why};
use super::{Flow, Goal, Phase, ask, reference, take_slot};

/// Turns work that makes a node run into work that stops it, when its user no longer wants it to run.
///
/// An effect that is under way is waited for: two effects on one node never run side by side.
pub(super) fn redirect(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let unwanted = node.desired == NodeIntent::Stopped || node.deleting;
    let (deleting, state, exists) = (node.deleting, node.actual, node.instance.is_some());
    let Some(work) = cx.world.node_work.get_mut(&id) else { return };
    if unwanted {
        work.then_run = false;
    }
    if !unwanted || work.effect.is_some() || work.goal != Goal::Run || work.phase == Phase::Look {
        return;
    }
    let (goal, phase) = match state {
        NodeState::Starting | NodeState::Running if exists && !deleting => (Goal::Stop, Phase::Stop),
        _ => (Goal::Remove, Phase::Destroy),
    };
    (work.goal, work.phase) = (goal, phase);
    cx.world.touch_links_at(id);
}

/// Ends the process.
pub(super) fn stop(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(instance) = cx.world.nodes.get(&id).and_then(|node| node.instance.clone()) else {
        cx.node_is(id, NodeState::Stopped, Why::enforcement().because("there is no instance"));
        return Flow::Done;
    };
    match cx.world.nodes.get(&id).map(|node| node.actual) {
        Some(NodeState::Running | NodeState::Starting | NodeState::Error | NodeState::Stopping) => {}
        _ => return Flow::Done,
    }
    if !take_slot(cx, id) {
        return Flow::Wait;
    }
    cx.node_becomes(id, NodeState::Stopping, Why::enforcement());
    let limits = &cx.world.settings.limits;
    let (grace, timeout) = (limits.stop_grace, limits.stopping);
    ask(cx, id, Action::StopNode { instance: instance.reference, grace }, timeout)
}

/// Removes the instance.
pub(super) fn destroy(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    if !take_slot(cx, id) {
        return Flow::Wait;
    }
    let Some(state) = cx.world.nodes.get(&id).map(|node| node.actual) else { return Flow::Wait };
    if matches!(state, NodeState::Running | NodeState::Starting | NodeState::Error) {
        cx.node_becomes(id, NodeState::Stopping, Why::enforcement());
    }
    let timeout = cx.world.settings.limits.stopping;
    let Some(instance) = reference(cx.world, id) else { return Flow::Wait };
    ask(cx, id, Action::DestroyNode(instance), timeout)
}

/// Reads what is true.
pub(super) fn look(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let timeout = cx.world.settings.limits.reading;
    let Some(instance) = reference(cx.world, id) else { return Flow::Wait };
    ask(cx, id, Action::ObserveNode(instance), timeout)
}
