//! Begins work on a node that nobody works on: what enforcement decides, and removal.

use std::time::Duration;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeRecord;
use lifecycle_core::policy::enforcement::{self, EnforcementAction, EnforcementFacts, SkipReason};

use lifecycle_core::policy::blocked::Blocked;

use super::super::effect::Subject;
use super::super::planted::{self, Bug};
use super::super::{Cx, Why, jobs};
use super::{Goal, NodeWork, Phase, command, end, ready, remake, stage};

/// Begins the work that a node needs, if any.
pub(super) fn begin(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    if node.deleting {
        return remove(cx, id);
    }
    if remake::is_moot(node) {
        remake::forget(cx, id);
        return begin(cx, id);
    }
    if remake::is_due(node) {
        return remake::begin(cx, id);
    }
    if matches!(node.blocked, Some(Blocked::Dependency { .. })) && !stage::is_still_vain(cx.world, id) {
        cx.change_node(id, |node| node.blocked = None);
        return begin(cx, id);
    }
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let facts = planted::facts(cx.world, facts(node, cx.now.boot));
    match enforcement::decide(&facts, cx.now.boot) {
        EnforcementAction::Resolve if cx.world.has_bug(Bug::ForgetsLostWork) => {}
        EnforcementAction::None { reason } => {
            let waits_for_others =
                reason == SkipReason::GivenUp || reason == SkipReason::Blocked && !facts.state.is_transitional();
            if waits_for_others {
                cx.world.leave_to_rest(id);
            }
            settled(cx, id);
        }
        EnforcementAction::WaitUntil { millis, .. } => {
            let wait = Duration::from_millis(millis.saturating_sub(cx.now.boot.millis));
            cx.wake_after(wait, Subject::Node(id));
            cx.world.leave_to_rest(id);
        }
        EnforcementAction::Deploy => open(cx, id, Goal::Run, Phase::Place, false),
        EnforcementAction::Start => open(cx, id, Goal::Run, Phase::Image, false),
        EnforcementAction::Stop if !facts.instance_exists => {
            // Nothing is there to be stopped: what failed never came to be.
            cx.node_is(id, NodeState::Stopped, Why::enforcement().because("there is no instance"));
        }
        EnforcementAction::Stop => open(cx, id, Goal::Stop, Phase::Stop, false),
        EnforcementAction::Abort => open(cx, id, Goal::Remove, Phase::Destroy, false),
        EnforcementAction::Resolve => look(cx, id),
    }
}

fn facts(node: &NodeRecord, now: lifecycle_core::time::BootInstant) -> EnforcementFacts {
    let wait = if node.actual.is_transitional() { node.deadline } else { node.budget.next_attempt };
    EnforcementFacts {
        state: node.actual,
        intent: node.desired,
        instance_exists: node.instance.is_some(),
        live_job: None,
        blocked: node.blocked.is_some(),
        stale: node.stale_since.is_some(),
        given_up: node.budget.given_up_at.is_some(),
        due_millis: enforcement::due_millis(wait, now),
    }
}

/// Opens work, with a job of its own unless a user's request already gave the node one.
pub(super) fn open(cx: &mut Cx<'_>, id: NodeId, goal: Goal, phase: Phase, then_run: bool) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let lab = node.lab;
    if node.job.is_none() {
        if !super::super::passes::take_token(cx) {
            cx.wake_after(Duration::from_millis(100), Subject::Node(id));
            return;
        }
        let intent = if goal == Goal::Run || then_run { NodeIntent::Running } else { NodeIntent::Stopped };
        jobs::open(cx, lab, vec![id], intent, "enforcement");
    }
    let wait = cx.world.nodes.get(&id).and_then(|node| node.budget.next_attempt);
    if wait.is_some_and(|wait| wait.is_over(cx.now.boot)) {
        // This is the attempt that was waited for: a reboot in the middle of it starts no wait again.
        cx.change_node(id, |node| node.budget.next_attempt = None);
    }
    cx.world.node_work.insert(id, NodeWork { then_run, ..NodeWork::new(goal, phase) });
    let pending = cx.world.nodes.get(&id).filter(|node| node.actual == NodeState::Pending);
    if goal == Goal::Run && pending.is_some_and(|node| node.deadline.is_some_and(|it| it.is_over(cx.now.boot))) {
        // The time that work before this one took is not taken from it: the node's links are waited for.
        cx.renew_deadline(id);
    } else if goal == Goal::Run && phase == Phase::Place && pending.is_none() {
        cx.node_becomes(id, NodeState::Pending, Why::enforcement());
    }
    cx.world.touch_node(id);
    // What the work is to achieve decides whether the node's links are to have carrier.
    cx.world.touch_links_at(id);
}

/// A transitional state that has lasted too long, or whose work was lost, is resolved by looking.
fn look(cx: &mut Cx<'_>, id: NodeId) {
    let (goal, phase) = match cx.world.nodes.get(&id) {
        // It has no place, so there is nothing to look at.
        Some(node) if node.host.is_none() && node.actual == NodeState::Stopping => (Goal::Remove, Phase::Destroy),
        Some(node) if node.host.is_none() => (Goal::Run, Phase::Place),
        Some(node) if node.actual == NodeState::Stopping => (Goal::Stop, Phase::Look),
        Some(_) => (Goal::Run, Phase::Look),
        None => return,
    };
    open(cx, id, goal, phase, false);
}

/// A node that is where it is wanted, or cannot get there by itself.
pub(super) fn settled(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    if node.job.is_some() && node.actual.matches(node.desired) {
        jobs::leave(cx, id, None);
    } else if node.job.is_some() && (node.blocked.is_some() || node.budget.given_up_at.is_some()) {
        jobs::leave(cx, id, Some("it cannot go on by itself"));
    }
    let Some(node) = cx.world.nodes.get(&id) else { return };
    if node.actual != NodeState::Running || node.desired != NodeIntent::Running {
        return;
    }
    if command::are_due(cx, id) {
        return open(cx, id, Goal::Run, Phase::Configure, false);
    }
    ready::watch(cx, id);
    end::regain_budget(cx, id);
}

/// Removes a node: first what is left of it outside, then its row.
fn remove(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    if node.instance.is_none() && node.actual == NodeState::Undeployed {
        return end::forget(cx, id);
    }
    let due = enforcement::due_millis(node.budget.next_attempt, cx.now.boot);
    if due > cx.now.boot.millis {
        let wait = Duration::from_millis(due - cx.now.boot.millis);
        cx.wake_after(wait, Subject::Node(id));
        return;
    }
    if node.host.is_none() {
        // It was never placed, so nothing of it can be anywhere.
        cx.node_is(id, NodeState::Undeployed, Why::enforcement().because("it was never deployed"));
        return end::forget(cx, id);
    }
    open(cx, id, Goal::Remove, Phase::Destroy, false);
}

/// A node whose provider was not read yet, or cannot be reached: nothing is done, and its work is dropped once the
/// effects that are under way have ended.
pub(super) fn without_provider(cx: &mut Cx<'_>, id: NodeId) {
    if cx.world.node_work.get(&id).is_some_and(|work| work.effect.is_none()) {
        end::drop_work(cx, id);
    }
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let Some(host) = &node.host else { return };
    let provider = cx.world.hosts.get(host).and_then(|host| host.providers.get(&node.provider));
    let unreachable = provider.is_some_and(|provider| provider.unreachable);
    if unreachable && remake::is_due(node) && node.blocked.is_none() {
        // Nobody can tell whether the old instance is gone, so no other may come to be.
        let reason = Blocked::SourceUnreachable { host: host.clone() };
        let text = reason.to_string();
        return cx.change_node(id, |node| {
            node.budget.last_error = Some(text);
            node.blocked = Some(reason);
        });
    }
    if provider.is_none() && node.deleting && node.instance.is_none() {
        // Its host or provider is no longer part of this controller and nothing of it was left there.
        cx.node_is(id, NodeState::Undeployed, Why::enforcement().because("nothing of it was left"));
        end::forget(cx, id);
    }
}
