//! How work on a node ends: done, failed, blocked, or dropped.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::model::SubjectKind;
use lifecycle_core::name::HostName;
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::enforcement::Spent;
use lifecycle_core::time::Deadline;

use super::super::effect::Subject;
use super::super::ledger::Entry;
use super::super::{Cx, Ledger, Why, jobs, passes};
use super::{Goal, NodeWork, Phase, give_slot};

/// The work reached its goal.
pub(super) fn done(cx: &mut Cx<'_>, id: NodeId) {
    give_slot(cx, id);
    let Some(work) = cx.world.node_work.remove(&id) else { return };
    if work.goal == Goal::Remove && work.then_run {
        cx.change_node(id, |node| node.recreate = false);
    }
    if work.then_run {
        // The job stays: the node is halfway to where it was asked to be.
        let (goal, phase) = (Goal::Run, Phase::Place);
        let next = if work.goal == Goal::Stop { Phase::Image } else { phase };
        cx.world.node_work.insert(id, NodeWork::new(goal, next));
        if work.goal == Goal::Remove {
            cx.node_becomes(id, NodeState::Pending, Why::enforcement());
        }
        cx.world.touch_node(id);
        return;
    }
    jobs::leave(cx, id, None);
    cx.world.touch_links_at(id);
    cx.world.touch_node(id);
}

/// The node reached what its user wants: what went wrong before is forgotten.
pub(super) fn succeeded(cx: &mut Cx<'_>, id: NodeId) {
    cx.change_node(id, |node| {
        node.budget.success();
        node.blocked = None;
    });
    let policy = cx.world.settings.enforcement;
    if cx.world.nodes.get(&id).is_some_and(|node| node.budget.attempts > 0) {
        cx.wake_after(policy.stable_after, Subject::Node(id));
    }
}

/// A node that has run for long enough gets its budget back.
pub(super) fn regain_budget(cx: &mut Cx<'_>, id: NodeId) {
    let policy = cx.world.settings.enforcement;
    let Some(node) = cx.world.nodes.get(&id).filter(|node| node.budget.attempts > 0) else { return };
    let Some(ran) = node.running_since.and_then(|since| cx.now.boot.since(since)) else { return };
    if ran >= policy.stable_after {
        cx.change_node(id, |node| node.budget.ran_stably());
    } else {
        cx.wake_after(policy.stable_after - ran, Subject::Node(id));
    }
}

/// An operation on the node failed.
pub(super) fn failed(cx: &mut Cx<'_>, id: NodeId, error: &Error) {
    if error.kind().is_unreachable() {
        passes::provider_lost(cx, id, error);
        return drop_work(cx, id);
    }
    if let Some(host) = cx.world.nodes.get(&id).and_then(|node| node.host.clone())
        && let Some(reason) = blocked_by(cx, id, error, host)
    {
        return block(cx, id, reason, error.chain());
    }
    attempt_failed(cx, id, &error.chain());
}

/// What a failed operation is blocked by, if no retry can help.
fn blocked_by(cx: &Cx<'_>, id: NodeId, error: &Error, host: HostName) -> Option<Blocked> {
    let what = error.chain();
    match error.kind() {
        ErrorKind::ImageUnavailable => {
            let image = cx.world.spec(id).and_then(|spec| spec.image.clone()).unwrap_or_default();
            Some(Blocked::ImageMissing { image, host })
        }
        ErrorKind::Foreign => Some(Blocked::ForeignObject { object: what, host }),
        ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
            Some(Blocked::Unsupported { what })
        }
        _ => None,
    }
}

/// The work cannot go on until the world changes; no attempt is counted.
pub(super) fn blocked(cx: &mut Cx<'_>, id: NodeId, reason: Blocked) {
    let text = reason.to_string();
    block(cx, id, reason, text);
}

fn block(cx: &mut Cx<'_>, id: NodeId, reason: Blocked, text: String) {
    give_slot(cx, id);
    cx.world.node_work.remove(&id);
    cx.change_node(id, |node| {
        node.budget.first_error.get_or_insert_with(|| text.clone());
        node.budget.last_error = Some(text.clone());
        node.blocked = Some(reason);
    });
    to_error(cx, id, &text);
    jobs::leave(cx, id, Some(&text));
}

/// An attempt failed: it counts, and the next one waits its time.
pub(super) fn attempt_failed(cx: &mut Cx<'_>, id: NodeId, error: &str) {
    give_slot(cx, id);
    cx.world.node_work.remove(&id);
    count_failure(cx, id, error);
    let text = error.to_owned();
    to_error(cx, id, &text);
    jobs::leave(cx, id, Some(&text));
    cx.world.touch_node(id);
}

fn to_error(cx: &mut Cx<'_>, id: NodeId, text: &str) {
    cx.node_becomes(id, NodeState::Error, Why::outcome().error(text));
    cx.world.touch_links_at(id);
}

/// Counts a failure against the budget.
pub(in super::super) fn count_failure(ledger: &mut Ledger<'_>, id: NodeId, error: &str) -> Spent {
    let (policy, now) = (ledger.world.settings.enforcement, ledger.now);
    let Some(mut budget) = ledger.world.nodes.get(&id).map(|node| node.budget.clone()) else { return Spent::Retry };
    let spent = budget.failed(error, &policy, now, ledger.rng);
    // What is to be removed is tried for ever, at the longest interval.
    if spent == Spent::GiveUp && ledger.world.nodes.get(&id).is_some_and(|node| node.deleting) {
        budget.next_attempt = Some(Deadline::after(now.boot, policy.cap));
    }
    ledger.change_node(id, |node| node.budget = budget);
    spent
}

/// Drops the work without judging it: what stood in the way is not the node's fault.
pub(super) fn drop_work(cx: &mut Cx<'_>, id: NodeId) {
    give_slot(cx, id);
    if cx.world.node_work.remove(&id).is_some() {
        jobs::leave(cx, id, Some("its host cannot be reached; work goes on when it can"));
    }
}

/// The node's instance is confirmed to be gone.
pub(in super::super) fn lose_instance(ledger: &mut Ledger<'_>, id: NodeId) {
    if ledger.world.nodes.get(&id).is_some_and(|node| node.instance.is_none()) {
        return;
    }
    ledger.change_node(id, |node| {
        node.instance = None;
        node.incarnation += 1;
        node.configured = false;
    });
    ledger.world.touch_links_at(id);
}

/// Removes the row of a node of which nothing is left, once its links are gone.
pub(super) fn forget(cx: &mut Cx<'_>, id: NodeId) {
    if cx.world.node_links.get(&id).is_some_and(|links| !links.is_empty()) {
        return cx.world.touch_links_at(id);
    }
    jobs::leave(cx, id, None);
    let Some(node) = cx.world.nodes.remove(&id) else { return };
    cx.world.node_work.remove(&id);
    cx.world.node_links.remove(&id);
    cx.world.last_done.remove(&id);
    cx.world.probes.remove(&id);
    cx.world.spec_index.remove(&id);
    cx.world.unsettled.remove(&id);
    if let Some(names) = cx.world.lab_nodes.get_mut(&node.lab) {
        names.remove(&node.name);
    }
    let entry = Entry::new(lifecycle_core::model::AuditAction::Deleted, Why::enforcement())
        .states(Some(node.actual.to_string()), None)
        .metadata(serde_json::json!({ "incarnation": node.incarnation, "host": node.host }));
    cx.record(SubjectKind::Node, id.to_string(), node.name.to_string(), Some(node.lab), entry);
    super::super::apply::forget_lab_if_empty(cx, node.lab);
}
