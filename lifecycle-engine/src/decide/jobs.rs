//! Jobs: pieces of work on nodes that people can follow and call off.

use lifecycle_core::id::{JobId, LabId, NodeId};
use lifecycle_core::machine::{JobState, NodeIntent};
use lifecycle_core::model::{JobAction, JobRecord};

use super::Ledger;
use super::planted::Bug;

/// Finished jobs of a lab that are kept.
const KEPT: usize = 50;

/// Opens a job on nodes and gives it to them. Nodes that another job works on are taken over from it.
pub(super) fn open(ledger: &mut Ledger<'_>, lab: LabId, nodes: Vec<NodeId>, intent: NodeIntent, owner: &str) -> JobId {
    let id = JobId::random(ledger.rng);
    let action = match nodes[..] {
        [node] => JobAction::Node { node },
        _ => JobAction::Bulk { nodes: nodes.clone() },
    };
    for &node in &nodes {
        let old = ledger.world.nodes.get(&node).and_then(|row| row.job);
        if old.is_some() && !ledger.world.has_bug(Bug::LeavesAJobOpen) {
            leave(ledger, node, Some("another request took over"));
        }
        ledger.change_node(node, |row| row.job = Some(id));
    }
    let job = JobRecord {
        id,
        lab,
        action,
        intent,
        state: JobState::Running,
        owner: owner.to_owned(),
        epoch: ledger.world.head.epoch,
        done: 0,
        failed: 0,
        log: Vec::new(),
        created_at: ledger.now.wall,
        finished_at: None,
        generation: 0,
    };
    ledger.world.jobs.insert(id, job);
    forget_old(ledger, lab);
    id
}

/// Takes a node off its job: as done, or as failed for a reason.
pub(super) fn leave(ledger: &mut Ledger<'_>, node: NodeId, failure: Option<&str>) {
    let Some(row) = ledger.world.nodes.get(&node) else { return };
    let (Some(id), name) = (row.job, row.name.clone()) else { return };
    ledger.change_node(node, |row| row.job = None);
    let now = ledger.now.wall;
    let hasty = ledger.world.has_bug(Bug::JobEndsWithItsFirstNode);
    let Some(job) = ledger.world.jobs.get_mut(&id) else { return };
    match failure {
        None => job.done += 1,
        Some(reason) => {
            job.failed += 1;
            push_line(job, format!("{name}: {reason}"));
        }
    }
    let over = hasty || (job.done + job.failed) as usize >= job.action.nodes().len();
    if over && job.state == JobState::Running {
        job.state = if job.failed == 0 { JobState::Completed } else { JobState::Failed };
        job.finished_at = Some(now);
        let lab = job.lab;
        ledger.world.finished_jobs.entry(lab).or_default().insert((now, id));
    }
}

/// Adds lines to the log of a node's job.
pub(super) fn log(ledger: &mut Ledger<'_>, node: NodeId, lines: impl IntoIterator<Item = String>) {
    let Some(row) = ledger.world.nodes.get(&node) else { return };
    let (Some(id), name) = (row.job, row.name.clone()) else { return };
    let Some(job) = ledger.world.jobs.get_mut(&id) else { return };
    for line in lines {
        push_line(job, format!("{name}: {line}"));
    }
}

fn push_line(job: &mut JobRecord, line: String) {
    if job.log.len() >= JobRecord::LOG_LIMIT {
        job.log.remove(0);
    }
    job.log.push(line);
}

/// Ends a job whose controller is gone, or that a user called off.
pub(super) fn end(ledger: &mut Ledger<'_>, id: JobId, state: JobState, reason: &str) {
    let now = ledger.now.wall;
    let Some(job) = ledger.world.jobs.get_mut(&id) else { return };
    if job.state != JobState::Running && job.state != JobState::Pending {
        return;
    }
    job.state = state;
    job.finished_at = Some(now);
    push_line(job, reason.to_owned());
    let lab = job.lab;
    let nodes = job.action.nodes().to_vec();
    ledger.world.finished_jobs.entry(lab).or_default().insert((now, id));
    for node in nodes {
        if ledger.world.nodes.get(&node).is_some_and(|row| row.job == Some(id)) {
            ledger.change_node(node, |row| row.job = None);
        }
    }
}

/// Drops the oldest finished jobs of a lab beyond those that are kept.
fn forget_old(ledger: &mut Ledger<'_>, lab: LabId) {
    let Some(finished) = ledger.world.finished_jobs.get_mut(&lab) else { return };
    while finished.len() > KEPT
        && let Some((_, id)) = finished.pop_first()
    {
        ledger.world.jobs.remove(&id);
    }
}

/// Drops all jobs of a lab that is gone.
pub(super) fn forget_lab(ledger: &mut Ledger<'_>, lab: LabId) {
    let ids: Vec<_> = ledger.world.jobs.values().filter(|job| job.lab == lab).map(|job| job.id).collect();
    for id in ids {
        ledger.world.jobs.remove(&id);
    }
    ledger.world.finished_jobs.remove(&lab);
}
