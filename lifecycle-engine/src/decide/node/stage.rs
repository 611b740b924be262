//! Stages: a node enters one only when the nodes that it waits for have reached theirs.
//!
//! What holds a node back is its start, never its instance, so that interfaces at both ends of its links are there for
//! those that start before it. Whoever waits is looked at again when anything about those that it waits for changes.

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeRecord;
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::stage::{Awaited, StageFacts, judge};
use lifecycle_core::time::Deadline;
use lifecycle_core::topology::{Stage, WaitFor};

use super::super::effect::Subject;
use super::super::{Cx, World};
use super::command;

/// Whether a node may enter a stage.
pub(super) enum Gate {
    /// It may, and has.
    Open,
    /// It has to wait.
    Shut,
    /// It has waited for as long as it may.
    Overdue(String),
    /// It would wait in vain.
    Vain(Blocked),
}

/// Lets a node that is on its way up into a stage, if it may enter it.
pub(super) fn enter(cx: &mut Cx<'_>, id: NodeId, stage: Stage) -> Gate {
    let Some(work) = cx.world.node_work.get(&id) else { return Gate::Shut };
    if work.stage >= Some(stage) {
        return Gate::Open;
    }
    let held = work.held;
    let Some((wait, awaited, why)) = obstacle(cx.world, id, stage) else {
        opened(cx, id, stage, held);
        return Gate::Open;
    };
    if matches!(awaited, Awaited::Failed | Awaited::NotWanted) {
        return Gate::Vain(Blocked::Dependency { node: wait.node, until: wait.until, why });
    }
    let reason = format!("waits for {} to reach `{}`: {why}", wait.node, wait.until);
    if !held {
        shut(cx, id);
    }
    if is_overdue(cx, id) {
        return Gate::Overdue(format!("not within {:?}: it {reason}", cx.world.settings.limits.pending));
    }
    tell(cx, id, Some(reason));
    Gate::Shut
}

/// What keeps a running node from being ready, besides itself.
pub(super) fn unhealthy_neighbour(cx: &mut Cx<'_>, id: NodeId) -> Option<String> {
    let (wait, _, why) = obstacle(cx.world, id, Stage::Healthy)?;
    Some(format!("waits for {} to reach `{}`: {why}", wait.node, wait.until))
}

/// Whether what a node is blocked by is still so. One that waits for another node is looked at again with that one.
pub(super) fn is_still_vain(world: &mut World, id: NodeId) -> bool {
    let stages = [Stage::Create, Stage::CreateLinks];
    stages
        .into_iter()
        .filter_map(|stage| obstacle(world, id, stage))
        .any(|(_, awaited, _)| matches!(awaited, Awaited::Failed | Awaited::NotWanted))
}

/// The first of the nodes that a node waits for before a stage that has not got there, and why. The node is looked at
/// again when that changes.
fn obstacle(world: &mut World, id: NodeId, stage: Stage) -> Option<(WaitFor, Awaited, String)> {
    let lab = world.nodes.get(&id)?.lab;
    let waits: Vec<WaitFor> = world.spec(id)?.wait_for.iter().filter(|wait| wait.stage == stage).cloned().collect();
    let mut found: Option<(WaitFor, Awaited, String)> = None;
    for wait in waits {
        // A lab file names nodes that it has; one that is gone all the same holds nobody back.
        let Some(other) = world.node_by_name(lab, &wait.node) else { continue };
        let (other, awaited) = (other.id, judge(wait.until, &facts(world, other)));
        if awaited == Awaited::Reached {
            continue;
        }
        let why = world.nodes.get(&other).map_or_else(String::new, |other| why(other, awaited));
        world.waiters.entry(other).or_default().insert(id);
        // What cannot come weighs more than what may.
        if found.as_ref().is_none_or(|(_, first, _)| *first == Awaited::Coming && awaited != Awaited::Coming) {
            found = Some((wait, awaited, why));
        }
    }
    found
}

fn facts(world: &World, node: &NodeRecord) -> StageFacts {
    let spec = world.spec(node.id);
    let awaits_links = spec.is_some_and(|spec| spec.wait_for.iter().any(|wait| wait.stage == Stage::CreateLinks));
    let entered = world.node_work.get(&node.id).is_some_and(|work| work.stage >= Some(Stage::Create));
    StageFacts {
        state: node.actual,
        intent: if node.deleting { NodeIntent::Stopped } else { node.desired },
        awaits_links: awaits_links && entered && node.instance.is_some(),
        next: command::next(world, node.id),
        ready: node.ready.ready,
        ended: node.exit.is_some(),
        stale: node.stale_since.is_some(),
        hopeless: node.blocked.is_some() || node.budget.given_up_at.is_some(),
    }
}

/// Why a node has not reached a stage, in words about it.
fn why(node: &NodeRecord, awaited: Awaited) -> String {
    let error = node.budget.last_error.as_deref();
    match (awaited, &node.blocked) {
        (Awaited::NotWanted, _) => "it is not wanted to run".to_owned(),
        // In a long row of nodes, all name the one that it began with.
        (_, Some(Blocked::Dependency { node, why, .. })) => format!("it waits for {node} in turn: {why:.300}"),
        _ if node.stale_since.is_some() => "its host cannot be reached".to_owned(),
        _ if node.actual == NodeState::Running => match node.ready.reason.as_deref() {
            Some(reason) => format!("it runs, {reason:.300}"),
            None => "it runs".to_owned(),
        },
        _ => match error {
            Some(error) => format!("it is `{}`: {error:.300}", node.actual),
            None => format!("it is `{}`", node.actual),
        },
    }
}

/// A node begins to wait.
fn shut(cx: &mut Cx<'_>, id: NodeId) {
    if let Some(work) = cx.world.node_work.get_mut(&id) {
        work.held = true;
    }
    // One that is pending has its time already; a start leaves none for others.
    if cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Starting) {
        let deadline = Deadline::after(cx.now.boot, cx.world.settings.limits.pending);
        cx.change_node(id, |node| node.deadline = Some(deadline));
    }
    let limit = cx.world.settings.limits.pending;
    cx.wake_after(limit, Subject::Node(id));
}

fn is_overdue(cx: &Cx<'_>, id: NodeId) -> bool {
    let Some(node) = cx.world.nodes.get(&id) else { return false };
    let limit = cx.world.settings.limits.pending;
    match (node.deadline, node.running_since) {
        (Some(deadline), _) => deadline.is_over(cx.now.boot),
        (None, Some(since)) => cx.now.boot.since(since).is_some_and(|ran| ran >= limit),
        (None, None) => false,
    }
}

/// A node enters a stage; others may wait for just that.
fn opened(cx: &mut Cx<'_>, id: NodeId, stage: Stage, held: bool) {
    if let Some(work) = cx.world.node_work.get_mut(&id) {
        (work.stage, work.held) = (Some(stage), false);
    }
    if held {
        tell(cx, id, None);
        if cx.world.nodes.get(&id).is_some_and(|node| node.actual == NodeState::Starting) {
            // The time that it waited for others is not taken from its start.
            cx.renew_deadline(id);
        }
    }
    cx.world.touch_waiters(id);
}

/// Lets people read what a node waits for.
pub(super) fn tell(cx: &mut Cx<'_>, id: NodeId, reason: Option<String>) {
    if cx.world.nodes.get(&id).is_some_and(|node| node.ready.reason != reason) {
        cx.change_node(id, |node| node.ready.reason = reason);
    }
}
