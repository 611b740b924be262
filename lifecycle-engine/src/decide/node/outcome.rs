//! Takes in how an effect on a node ended.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::plugin::provider::{InstanceState, ObservedNode};

use super::super::effect::{Action, Done, Effect, Outcome, Subject};
use super::super::planted;
use super::super::{Cx, Why, jobs, passes, placement};
use super::{Flow, Goal, Phase, command, end, ready, remake, set_phase};
use lifecycle_core::model::NodeInstance;

/// Takes in how an effect on a node ended.
pub(in super::super) fn take(cx: &mut Cx<'_>, id: NodeId, asked: &Effect, outcome: Outcome) {
    let (effect, action) = (asked.id, &asked.action);
    if matches!(action, Action::ProbeReady { .. }) {
        return ready::take(cx, id, effect, outcome);
    }
    if action.is_at_subject() && cx.world.nodes.get(&id).is_some() {
        let step = cx.world.step;
        cx.world.last_done.insert(id, step);
    }
    let Some(work) = cx.world.node_work.get_mut(&id).filter(|work| work.effect == Some(effect)) else {
        // Nobody waits for it any more, so what it did is unknown to the rows: look.
        return cx.world.touch_node(id);
    };
    work.effect = None;
    let (goal, phase) = (work.goal, work.phase);
    let outcome = planted::believe(cx.world, phase, outcome);
    match outcome {
        Ok(done) => succeeded(cx, id, phase, goal, done),
        Err(error) if planted::tries_again_blindly(cx.world, phase, &error) => {}
        Err(error) if calls_for_a_look(phase, error.kind()) => {
            jobs::log(cx, id, [format!("{}; looking at what is true", error.chain())]);
            cx.change_node(id, |node| node.budget.last_error = Some(error.chain()));
            set_phase(cx.world, id, Phase::Look);
        }
        Err(error) => failed(cx, id, phase, asked, &error),
    }
    cx.world.touch_node(id);
}

/// Whether a failure leaves open what is true. Having an image or running commands leaves nothing behind that would have
/// to be looked for; an instance that is not found is looked for once more before it is given up.
fn calls_for_a_look(phase: Phase, error: ErrorKind) -> bool {
    match phase {
        Phase::Create | Phase::Stop | Phase::Start | Phase::Destroy => {
            error.is_unknown() || error == ErrorKind::NotFound
        }
        Phase::Look | Phase::Image | Phase::Fetch | Phase::Configure => false,
        Phase::Place | Phase::Wire | Phase::Prepare => false,
    }
}

fn succeeded(cx: &mut Cx<'_>, id: NodeId, phase: Phase, goal: Goal, done: Done) {
    match (phase, done) {
        (Phase::Image, _) => {
            placement::image_arrived(cx, id);
            set_phase(cx.world, id, Phase::Create);
        }
        (Phase::Fetch, _) => {
            placement::image_arrived(cx, id);
            let next = remake::touch_old(cx, id);
            set_phase(cx.world, id, next);
        }
        (Phase::Create, Done::Created(created)) => {
            let instance = NodeInstance { reference: created.instance, management: created.management };
            cx.change_node(id, |node| node.instance = Some(instance));
            set_phase(cx.world, id, Phase::Wire);
            cx.world.touch_links_at(id);
        }
        (Phase::Start, _) => runs(cx, id),
        (Phase::Configure, Done::Commands { log, ok }) => {
            jobs::log(cx, id, log.iter().cloned());
            commands_ended(cx, id, (!ok).then(|| log.last().cloned().unwrap_or_default()));
        }
        (Phase::Stop, _) if goal == Goal::Remove => {
            cx.node_becomes(id, NodeState::Stopped, Why::outcome());
            set_phase(cx.world, id, Phase::Destroy);
        }
        (Phase::Stop, _) => stopped(cx, id),
        (Phase::Destroy, _) if planted::trusts_a_destroy(cx.world) => gone(cx, id),
        // It may be wanted again at any time, and then elsewhere, so that it is gone is worth a look.
        (Phase::Destroy, _) => set_phase(cx.world, id, Phase::Look),
        (Phase::Look, Done::Node(found)) => looked(cx, id, goal, found),
        // An answer to another question: ask again.
        _ => {}
    }
}

fn commands_ended(cx: &mut Cx<'_>, id: NodeId, warning: Option<String>) {
    if matches!(command::ended(cx, id, warning), Flow::Done) {
        end::done(cx, id);
    }
}

/// The process runs.
fn runs(cx: &mut Cx<'_>, id: NodeId) {
    planted::override_a_stop(cx, id);
    cx.node_becomes(id, NodeState::Running, Why::outcome());
    end::succeeded(cx, id);
    cx.change_node(id, |node| (node.configured, node.healthy_commands) = (false, None));
    set_phase(cx.world, id, Phase::Configure);
    // It may have ended right away, and only a look tells where its interfaces are.
    passes::observe_node(cx, id);
}

/// The process ended, as asked.
fn stopped(cx: &mut Cx<'_>, id: NodeId) {
    planted::lose_links(cx, id);
    if cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Stopping) {
        cx.node_becomes(id, NodeState::Stopped, Why::outcome());
    } else {
        // Something else was seen of it meanwhile.
        cx.node_is(id, NodeState::Stopped, Why::outcome());
    }
    end::succeeded(cx, id);
    end::done(cx, id);
}

/// Nothing of the instance is left.
pub(super) fn gone(cx: &mut Cx<'_>, id: NodeId) {
    end::lose_instance(cx, id);
    if cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Stopping) {
        cx.node_becomes(id, NodeState::Stopped, Why::outcome());
    }
    cx.node_becomes(id, NodeState::Undeployed, Why::outcome());
    end::succeeded(cx, id);
    end::done(cx, id);
}

fn failed(cx: &mut Cx<'_>, id: NodeId, phase: Phase, asked: &Effect, error: &Error) {
    if error.kind().is_unreachable() {
        passes::lose(cx, &asked.host, &asked.plugin, error);
        return end::drop_work(cx, id);
    }
    if phase == Phase::Create && error.kind() == ErrorKind::Conflict && placement::leftovers_are_in_the_way(cx, id) {
        // Something of ours bears its name and is about to be removed.
        return cx.wake_after(cx.world.settings.limits.reconnect, Subject::Node(id));
    }
    if phase == Phase::Configure {
        // The node runs; that its commands could not be run is a warning, not the node's end.
        jobs::log(cx, id, [error.chain()]);
        return commands_ended(cx, id, Some(error.chain()));
    }
    end::failed(cx, id, asked, error);
}

/// What was found when looking decides how the work goes on. What was asked for and did not come to be is a failed
/// attempt; there is never a second blind one.
fn looked(cx: &mut Cx<'_>, id: NodeId, goal: Goal, found: Option<ObservedNode>) {
    let error = cx.world.nodes.get(&id).and_then(|node| node.budget.last_error.clone());
    let error = error.unwrap_or_else(|| "it took too long".to_owned());
    let Some(found) = found else {
        return match goal {
            Goal::Run => {
                end::lose_instance(cx, id);
                end::attempt_failed(cx, id, &error);
            }
            Goal::Stop => {
                end::lose_instance(cx, id);
                stopped(cx, id);
            }
            Goal::Remove => gone(cx, id),
        };
    };
    let instance = NodeInstance { reference: found.instance, management: found.management };
    cx.change_node(id, |node| node.instance = Some(instance));
    cx.world.touch_links_at(id);
    let state = cx.world.nodes.get(&id).map(|node| node.actual);
    match (goal, found.state) {
        (Goal::Run, InstanceState::Running | InstanceState::Paused) if state == Some(NodeState::Starting) => {
            runs(cx, id);
        }
        (Goal::Run, _) if state == Some(NodeState::Pending) => set_phase(cx.world, id, Phase::Wire),
        (Goal::Run, _) => end::attempt_failed(cx, id, &error),
        (Goal::Stop, InstanceState::Created | InstanceState::Exited(_) | InstanceState::Broken { .. }) => {
            stopped(cx, id);
        }
        // It was asked to stop before it is removed, and it did.
        (Goal::Remove, InstanceState::Created | InstanceState::Exited(_) | InstanceState::Broken { .. })
            if state == Some(NodeState::Stopping) =>
        {
            cx.node_becomes(id, NodeState::Stopped, Why::outcome());
            set_phase(cx.world, id, Phase::Destroy);
        }
        (Goal::Stop | Goal::Remove, _) => end::attempt_failed(cx, id, &error),
    }
}
