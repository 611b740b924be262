//! How work on a node ends: done, failed, blocked, or dropped.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::model::SubjectKind;
use lifecycle_core::name::HostName;
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::enforcement::Spent;
use lifecycle_core::time::Deadline;

use super::super::effect::{Effect, Subject};
use super::super::ledger::Entry;
use super::super::planted::Bug;
use super::super::{Cx, Ledger, Why, apply, jobs, link, placement};
use super::{Goal, NodeWork, Phase, remake, slot};

/// The work reached its goal.
pub(super) fn done(cx: &mut Cx<'_>, id: NodeId) {
    slot::give(cx, id);
    let Some(work) = cx.world.node_work.remove(&id) else { return };
    if work.then_run {
        // The job stays: the node is halfway to where it was asked to be.
        // A place that was lost meanwhile is chosen anew, which says why nothing can be done.
        let target = work.target.filter(|target| remake::answers(cx.world, id, target));
        let phase = if work.goal == Goal::Stop || target.is_some() { Phase::Image } else { Phase::Place };
        if let Some(target) = target {
            placement::settle_at(cx, id, target);
        }
        cx.world.node_work.insert(id, NodeWork::new(Goal::Run, phase));
        if work.goal == Goal::Remove {
            cx.node_becomes(id, NodeState::Pending, Why::enforcement());
        }
        cx.world.touch_node(id);
        cx.world.touch_links_at(id);
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

/// An operation on the node failed, on a host that answered.
pub(super) fn failed(cx: &mut Cx<'_>, id: NodeId, asked: &Effect, error: &Error) {
    match blocked_by(cx, id, error, asked.host.clone()) {
        Some(reason) => block(cx, id, reason, error.chain()),
        None => attempt_failed(cx, id, &error.chain()),
    }
}

/// A node cannot be made as its vendor would have it.
pub(super) fn refused(cx: &mut Cx<'_>, id: NodeId, error: &Error) {
    let what = error.chain();
    block(cx, id, Blocked::Unsupported { what: what.clone() }, what);
}

/// What a failed operation is blocked by, if no retry can help.
fn blocked_by(cx: &Cx<'_>, id: NodeId, error: &Error, host: HostName) -> Option<Blocked> {
    let what = error.chain();
    match error.kind() {
        ErrorKind::ImageUnavailable => {
            let image = cx.world.spec(id).and_then(|spec| cx.world.complete(spec).image).unwrap_or_default();
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
    let untouched = is_untouched(cx, id);
    slot::give(cx, id);
    cx.world.node_work.remove(&id);
    cx.change_node(id, |node| {
        node.budget.first_error.get_or_insert_with(|| text.clone());
        node.budget.last_error = Some(text.clone());
        node.blocked = Some(reason);
    });
    if !untouched {
        to_error(cx, id, &text);
    }
    jobs::leave(cx, id, Some(&text));
}

/// An attempt failed: it counts, and the next one waits its time.
pub(super) fn attempt_failed(cx: &mut Cx<'_>, id: NodeId, error: &str) {
    let untouched = is_untouched(cx, id);
    if !cx.world.has_bug(Bug::KeepsASlot) {
        slot::give(cx, id);
    }
    cx.world.node_work.remove(&id);
    count_failure(cx, id, error);
    let text = error.to_owned();
    if !untouched {
        to_error(cx, id, &text);
    }
    jobs::leave(cx, id, Some(&text));
    cx.world.touch_node(id);
}

/// Whether the node runs as it did before, since only its next place was being got ready: then it is not in error,
/// though what went wrong can be read of it.
fn is_untouched(cx: &Cx<'_>, id: NodeId) -> bool {
    let preparing = cx.world.node_work.get(&id).is_some_and(|work| matches!(work.phase, Phase::Prepare | Phase::Fetch));
    preparing && cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Running)
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
    if ledger.world.has_bug(Bug::OverwritesTheFirstCause) {
        budget.first_error = budget.last_error.clone();
    }
    // What is to be removed is tried for ever, at the longest interval.
    if spent == Spent::GiveUp && ledger.world.nodes.get(&id).is_some_and(|node| node.deleting) {
        budget.next_attempt = Some(Deadline::after(now.boot, policy.cap));
    }
    ledger.change_node(id, |node| node.budget = budget);
    spent
}

/// Drops the work without judging it: what stood in the way is not the node's fault. That something has to be looked at is
/// not forgotten.
pub(super) fn drop_work(cx: &mut Cx<'_>, id: NodeId) {
    slot::give(cx, id);
    if let Some(work) = cx.world.node_work.get_mut(&id).filter(|work| work.phase == Phase::Look) {
        (work.effect, work.target) = (None, None);
        return jobs::leave(cx, id, Some("its host cannot be reached; work goes on when it can"));
    }
    if cx.world.node_work.remove(&id).is_some() {
        jobs::leave(cx, id, Some("its host cannot be reached; work goes on when it can"));
        cx.world.freed = true;
        let now = cx.now.boot;
        if cx.world.nodes.get(&id).is_some_and(|node| node.actual.is_transitional()) {
            // Nobody works towards the end of that state, so it is looked at as soon as the host is back.
            cx.change_node(id, |node| node.deadline = Some(Deadline { from: now, wait_millis: 0 }));
        }
    }
}

/// Ends work that is no longer called for and has done nothing yet.
pub(super) fn call_off(cx: &mut Cx<'_>, id: NodeId) {
    slot::give(cx, id);
    cx.world.node_work.remove(&id);
    cx.world.freed = true;
    jobs::leave(cx, id, None);
    cx.world.touch_node(id);
}

/// The node's instance is confirmed to be gone.
pub(in super::super) fn lose_instance(ledger: &mut Ledger<'_>, id: NodeId) {
    if ledger.world.nodes.get(&id).is_some_and(|node| node.instance.is_none()) {
        return;
    }
    let step = u64::from(!ledger.world.has_bug(Bug::ReusesAnIncarnation));
    ledger.change_node(id, |node| {
        node.instance = None;
        node.incarnation += step;
        (node.configured, node.healthy_commands) = (false, None);
        node.recreate = false;
    });
    ledger.world.freed = true;
    ledger.world.places.remove(&id);
    link::lose_end(ledger, id);
}

/// Removes the row of a node of which nothing is left, once its links are gone.
pub(super) fn forget(cx: &mut Cx<'_>, id: NodeId) {
    if cx.world.node_links.get(&id).is_some_and(|links| !links.is_empty()) {
        return cx.world.touch_links_at(id);
    }
    jobs::leave(cx, id, None);
    let Some(node) = cx.world.nodes.remove(&id) else { return };
    cx.world.node_work.remove(&id);
    cx.world.freed = true;
    cx.world.places.remove(&id);
    cx.world.blocked.remove(&id);
    cx.world.node_links.remove(&id);
    if !cx.world.has_bug(Bug::IndexKeepsTheDead) {
        cx.world.last_done.remove(&id);
    }
    cx.world.probes.remove(&id);
    cx.world.touch_waiters(id);
    cx.world.spec_index.remove(&id);
    cx.world.unsettled.remove(&id);
    cx.world.tally.take(id);
    if cx.world.has_bug(Bug::FeedMissesARemoval) {
        cx.world.tally.take_stirred();
    }
    if let Some(names) = cx.world.lab_nodes.get_mut(&node.lab) {
        names.remove(&node.name);
    }
    let entry = Entry::new(lifecycle_core::model::AuditAction::Deleted, Why::enforcement())
        .states(Some(node.actual.to_string()), None)
        .metadata(serde_json::json!({ "incarnation": node.incarnation, "host": node.host }));
    cx.record(SubjectKind::Node, id.to_string(), node.name.to_string(), Some(node.lab), entry);
    apply::forget_lab_if_empty(cx, node.lab);
}
