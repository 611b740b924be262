//! Takes in how an effect on a node ended.

use lifecycle_core::error::Error;
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::plugin::provider::{InstanceState, ObservedNode};

use super::super::effect::{Action, Done, EffectId, Outcome};
use super::super::{Cx, Why, jobs};
use super::{Goal, Phase, end, ready, set_phase};
use lifecycle_core::model::NodeInstance;

/// Takes in how an effect on a node ended.
pub(in super::super) fn take(cx: &mut Cx<'_>, id: NodeId, effect: EffectId, action: &Action, outcome: Outcome) {
    if matches!(action, Action::ProbeReady { .. }) {
        return ready::take(cx, id, outcome);
    }
    let step = cx.world.step;
    cx.world.last_done.insert(id, step);
    let Some(work) = cx.world.node_work.get_mut(&id).filter(|work| work.effect == Some(effect)) else {
        // Nobody waits for it any more, so what it did is unknown to the rows: look.
        return cx.world.touch_node(id);
    };
    work.effect = None;
    let (goal, phase) = (work.goal, work.phase);
    match outcome {
        Ok(done) => succeeded(cx, id, phase, goal, done),
        Err(error) if error.kind().is_unknown() && phase != Phase::Look => {
            jobs::log(cx, id, [format!("{}; looking at what is true", error.chain())]);
            cx.change_node(id, |node| node.budget.last_error = Some(error.chain()));
            set_phase(cx.world, id, Phase::Look);
        }
        Err(error) => failed(cx, id, phase, &error),
    }
    cx.world.touch_node(id);
}

fn succeeded(cx: &mut Cx<'_>, id: NodeId, phase: Phase, goal: Goal, done: Done) {
    match (phase, done) {
        (Phase::Image, _) => set_phase(cx.world, id, Phase::Create),
        (Phase::Create, Done::Created(created)) => {
            let instance = NodeInstance { reference: created.instance, management: created.management };
            cx.change_node(id, |node| node.instance = Some(instance));
            set_phase(cx.world, id, Phase::Wire);
            cx.world.touch_links_at(id);
        }
        (Phase::Start, _) => runs(cx, id),
        (Phase::Configure, Done::Commands { log, ok }) => {
            jobs::log(cx, id, log.iter().cloned());
            cx.change_node(id, |node| {
                node.configured = true;
                node.ready.warning = (!ok).then(|| log.last().cloned().unwrap_or_default());
            });
            end::done(cx, id);
        }
        (Phase::Stop, _) => stopped(cx, id),
        (Phase::Destroy, _) => gone(cx, id),
        (Phase::Look, Done::Node(found)) => looked(cx, id, goal, found),
        // An answer to another question: ask again.
        _ => {}
    }
}

/// The process runs.
fn runs(cx: &mut Cx<'_>, id: NodeId) {
    cx.node_becomes(id, NodeState::Running, Why::outcome());
    end::succeeded(cx, id);
    cx.change_node(id, |node| node.configured = false);
    set_phase(cx.world, id, Phase::Configure);
}

/// The process ended, as asked.
fn stopped(cx: &mut Cx<'_>, id: NodeId) {
    cx.node_becomes(id, NodeState::Stopped, Why::outcome());
    end::succeeded(cx, id);
    end::done(cx, id);
}

/// Nothing of the instance is left.
fn gone(cx: &mut Cx<'_>, id: NodeId) {
    end::lose_instance(cx, id);
    if cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Stopping) {
        cx.node_becomes(id, NodeState::Stopped, Why::outcome());
    }
    cx.node_becomes(id, NodeState::Undeployed, Why::outcome());
    end::succeeded(cx, id);
    end::done(cx, id);
}

fn failed(cx: &mut Cx<'_>, id: NodeId, phase: Phase, error: &Error) {
    if phase == Phase::Configure {
        // The node runs; that its commands could not be run is a warning, not the node's end.
        cx.change_node(id, |node| {
            node.configured = true;
            node.ready.warning = Some(error.chain());
        });
        jobs::log(cx, id, [error.chain()]);
        return end::done(cx, id);
    }
    end::failed(cx, id, error);
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
        (Goal::Stop | Goal::Remove, _) => end::attempt_failed(cx, id, &error),
    }
}
