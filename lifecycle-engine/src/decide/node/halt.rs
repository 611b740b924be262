//! The phases that stop and remove a node, the turn from running to stopping, and the look at what is true.

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};

use super::super::effect::Action;
use super::super::{Cx, Why};
use super::{Flow, Goal, Phase, ask, end, outcome, reference, remake, slot};

/// Turns work that makes a node run into work that stops it, when its user no longer wants it to run, and drops work that
/// is no longer called for before it began.
///
/// An effect on the instance that is under way is waited for: two of them never run side by side. Fetching an image and
/// running commands in the node take their time, and are not waited for.
pub(super) fn redirect(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let wanted = node.desired == NodeIntent::Running && !node.deleting;
    let (deleting, state, exists) = (node.deleting, node.actual, node.instance.is_some());
    let recreate = node.recreate;
    let Some(work) = cx.world.node_work.get_mut(&id) else { return };
    if !wanted {
        work.then_run = false;
    }
    if work.is_at_instance() || work.phase == Phase::Look {
        return;
    }
    let next = match (work.goal, work.phase) {
        _ if deleting => Some((Goal::Remove, Phase::Destroy)),
        (Goal::Run, Phase::Configure) if wanted => return,
        // What is on its way up is no longer what is wanted.
        (Goal::Run, _) if wanted && recreate && exists => {
            work.then_run = true;
            Some((Goal::Remove, Phase::Prepare))
        }
        (Goal::Run, _) | (Goal::Remove, Phase::Prepare | Phase::Fetch) if wanted => return,
        (Goal::Run, _) => match state {
            // What was never started is taken back altogether.
            NodeState::Pending => Some((Goal::Remove, Phase::Destroy)),
            NodeState::Starting | NodeState::Running | NodeState::Error if exists => Some((Goal::Stop, Phase::Stop)),
            // It does not run yet, and its instance is its user's.
            _ => None,
        },
        // It was to be removed, and is wanted again.
        (Goal::Remove, Phase::Stop | Phase::Destroy) if wanted && recreate && exists && !work.then_run => {
            work.then_run = true;
            Some((Goal::Remove, Phase::Prepare))
        }
        // A restart of what is to be made anew makes it anew.
        (Goal::Stop, Phase::Stop) if work.then_run && recreate && exists => Some((Goal::Remove, Phase::Prepare)),
        (Goal::Remove, Phase::Prepare | Phase::Fetch) => None,
        (Goal::Remove, Phase::Stop) if !wanted => Some((Goal::Stop, Phase::Stop)),
        // A stop that was taken back before it began.
        (Goal::Stop, Phase::Stop)
            if wanted && !work.then_run && matches!(state, NodeState::Running | NodeState::Error) =>
        {
            None
        }
        _ => return,
    };
    match next {
        Some((goal, phase)) => (work.goal, work.phase, work.effect) = (goal, phase, None),
        None => end::call_off(cx, id),
    }
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
    if remake::place_is_lost(cx.world, id) {
        return Flow::Next(Phase::Prepare);
    }
    if !slot::take(cx, id) {
        return Flow::Wait;
    }
    cx.node_becomes(id, NodeState::Stopping, Why::enforcement());
    let limits = &cx.world.settings.limits;
    let (grace, timeout) = (limits.stop_grace, limits.stopping);
    ask(cx, id, Action::StopNode { instance: instance.reference, grace }, timeout)
}

/// Removes the instance.
pub(super) fn destroy(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    let then_run = cx.world.node_work.get(&id).is_some_and(|work| work.then_run);
    // What was never placed cannot be anywhere.
    if node.host.is_none() || node.instance.is_none() && then_run {
        outcome::gone(cx, id);
        return Flow::Wait;
    }
    if remake::place_is_lost(cx.world, id) {
        return Flow::Next(Phase::Prepare);
    }
    if !slot::take(cx, id) {
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
