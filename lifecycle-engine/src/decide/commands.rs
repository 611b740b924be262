//! Takes in what users want: checks whether it may be asked for, records the intent, and answers.

use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::machine::{JobState, NodeIntent, NodeState};
use lifecycle_core::model::{AuditAction, AuditResult, NodeRecord, SubjectKind};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::policy::bulk::{BulkAction, BulkClass, classify};
use lifecycle_core::policy::guard::{self, GuardFacts, Refusal, Verdict};
use lifecycle_core::policy::tunnel;
use lifecycle_core::topology::LinkAttrs;

use super::input::{Command, CommandError, NodeAction, Reply};
use super::ledger::Entry;
use super::node::{Goal, NodeWork, Phase};
use super::planted::Bug;
use super::{Cx, Ledger, Why, World, apply, jobs, link};

/// Names that an error lists at most.
const LISTED: usize = 20;

/// Takes a command in. An error means that nothing was changed.
pub(super) fn take(cx: &mut Cx<'_>, user: &str, command: Command) -> Result<Reply, CommandError> {
    match command {
        Command::Apply { topology, dry_run } => apply::apply(cx, user, *topology, dry_run),
        Command::Destroy { lab } => apply::destroy(cx, user, &lab),
        Command::Node { lab, node, action } => on_node(cx, user, &lab, &node, action),
        Command::Bulk { lab, action } => bulk(cx, user, &lab, action),
        Command::SetLink { lab, link, attrs } => set_link(cx, user, &lab, link, attrs),
        Command::Reconcile { lab } => reconcile(cx, &lab),
        Command::CancelJob { job } => cancel(cx, user, job),
    }
}

pub(super) fn find_lab(world: &World, name: &LabName) -> Result<LabId, CommandError> {
    world.lab_by_name(name).map(|lab| lab.id).ok_or_else(|| CommandError::NotFound {
        what: "lab".to_owned(),
        name: name.to_string(),
        known: world.lab_names().take(LISTED).map(ToString::to_string).collect(),
    })
}

fn find_node(world: &World, lab: LabId, name: &NodeName) -> Result<NodeId, CommandError> {
    world.node_by_name(lab, name).map(|node| node.id).ok_or_else(|| CommandError::NotFound {
        what: "node".to_owned(),
        name: name.to_string(),
        known: world.nodes_of(lab).take(LISTED).map(|node| node.name.to_string()).collect(),
    })
}

fn on_node(
    cx: &mut Cx<'_>,
    user: &str,
    lab: &LabName,
    name: &NodeName,
    action: NodeAction,
) -> Result<Reply, CommandError> {
    let lab = find_lab(cx.world, lab)?;
    let id = find_node(cx.world, lab, name)?;
    let Some(node) = cx.world.nodes.get(&id) else { unreachable!("the node was just found") };
    let command = match action {
        NodeAction::Start => guard::Command::Start,
        NodeAction::Stop { abort } => guard::Command::Stop { abort },
        NodeAction::Restart => guard::Command::Restart,
    };
    match guard::judge(command, &facts(cx.world, node)) {
        Verdict::AlreadyThere => Ok(Reply::Accepted { job: None, changed: false }),
        Verdict::Refuse(refusal) => {
            refused(cx, user, id, &refusal);
            Err(CommandError::Refused(Box::new(refusal)))
        }
        Verdict::Accept => {
            let restart = action == NodeAction::Restart;
            let intent =
                if matches!(action, NodeAction::Stop { .. }) { NodeIntent::Stopped } else { NodeIntent::Running };
            want(cx, user, id, intent);
            let job = jobs::open(cx, lab, vec![id], intent, user);
            // One that is to be made anew is restarted by that.
            if restart && cx.world.nodes.get(&id).is_some_and(|it| it.actual == NodeState::Running && !it.recreate) {
                let work = NodeWork::new(Goal::Stop, Phase::Stop).then_run();
                cx.world.node_work.insert(id, work);
            }
            Ok(Reply::Accepted { job: Some(job), changed: true })
        }
    }
}

fn facts(world: &World, node: &NodeRecord) -> GuardFacts {
    let working = world.node_work.get(&node.id);
    let live_job = working.map(|work| match work.goal {
        Goal::Run => NodeIntent::Running,
        Goal::Stop | Goal::Remove if work.then_run => NodeIntent::Running,
        Goal::Stop | Goal::Remove => NodeIntent::Stopped,
    });
    GuardFacts {
        state: node.actual,
        since: Some(node.state_since),
        intent: node.desired,
        live_job,
        deleting: node.deleting,
    }
}

/// Records a refused command on a node.
fn refused(ledger: &mut Ledger<'_>, user: &str, id: NodeId, refusal: &Refusal) {
    let Some(node) = ledger.world.nodes.get(&id) else { return };
    let (name, lab) = (node.name.to_string(), node.lab);
    let entry = Entry::new(AuditAction::Refused, Why::user(user).because(refusal.to_string()))
        .states(Some(refusal.state.to_string()), None)
        .result(AuditResult::Rejected);
    ledger.record(SubjectKind::Node, id.to_string(), name, Some(lab), entry);
}

/// Records a user's intent for a node: it gets its whole budget back, and what stood in its way is looked at again.
pub(super) fn want(ledger: &mut Ledger<'_>, user: &str, id: NodeId, intent: NodeIntent) {
    ledger.node_desired(id, intent, Why::user(user));
    ledger.change_node(id, |node| {
        node.budget.reset_by_user();
        node.blocked = None;
    });
    let links: Vec<LinkId> = ledger.world.links_at(id).map(|link| link.id).collect();
    links.into_iter().for_each(|link| try_again(ledger, link));
}

/// A link that was given up is tried again.
fn try_again(ledger: &mut Ledger<'_>, id: LinkId) {
    if ledger.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some()) {
        ledger.change_link(id, |link| link.budget.reset_by_user());
        ledger.world.touch_link(id);
    }
}

fn bulk(cx: &mut Cx<'_>, user: &str, lab: &LabName, action: BulkAction) -> Result<Reply, CommandError> {
    let lab = find_lab(cx.world, lab)?;
    let (mut affected, mut skipped_transitional, mut already_in_state) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = Vec::new();
    for node in cx.world.nodes_of(lab) {
        let class =
            if node.deleting { BulkClass::SkippedTransitional } else { classify(action, node.actual, node.desired) };
        match class {
            BulkClass::Affected => {
                affected.push(node.name.clone());
                ids.push(node.id);
            }
            BulkClass::AlreadyInState => already_in_state.push(node.name.clone()),
            BulkClass::SkippedTransitional if cx.world.has_bug(Bug::BulkOmitsTransitions) => {}
            BulkClass::SkippedTransitional => skipped_transitional.push(node.name.clone()),
        }
    }
    for &id in &ids {
        want(cx, user, id, action.intent());
    }
    let job = (!ids.is_empty()).then(|| jobs::open(cx, lab, ids, action.intent(), user));
    Ok(Reply::Bulk { job, affected, skipped_transitional, already_in_state })
}

fn set_link(cx: &mut Cx<'_>, user: &str, lab: &LabName, id: LinkId, attrs: LinkAttrs) -> Result<Reply, CommandError> {
    let lab = find_lab(cx.world, lab)?;
    let link = cx.world.links.get(&id).filter(|link| link.lab == lab).ok_or_else(|| CommandError::NotFound {
        what: "link".to_owned(),
        name: id.to_string(),
        known: cx.world.links_of(lab).take(LISTED).map(|link| link.id.to_string()).collect(),
    })?;
    if link.spec.attrs == attrs {
        return Ok(Reply::Accepted { job: None, changed: false });
    }
    let sets_mtu = link.spec.attrs.mtu != attrs.mtu;
    if let Some(path) = link.path_mtu.filter(|_| sets_mtu) {
        tunnel::mtu(Some(attrs.mtu), path)
            .map_err(|error| CommandError::Invalid { problems: vec![error.to_string()] })?;
    }
    let explicit = link.spec.explicit_mtu || sets_mtu;
    apply::change_attrs(cx, user, id, attrs, explicit);
    Ok(Reply::Accepted { job: None, changed: true })
}

fn reconcile(cx: &mut Cx<'_>, lab: &LabName) -> Result<Reply, CommandError> {
    let lab = find_lab(cx.world, lab)?;
    let ids: Vec<LinkId> = cx.world.links_of(lab).map(|link| link.id).collect();
    let now = cx.now.boot;
    for &id in &ids {
        try_again(cx, id);
        link::doubt(cx.world, id, now);
    }
    Ok(Reply::Reconciling { links: u32::try_from(ids.len()).unwrap_or(u32::MAX) })
}

/// Calls a job off: its nodes are left where they are, and what was wanted of them becomes what is true.
fn cancel(cx: &mut Cx<'_>, user: &str, id: JobId) -> Result<Reply, CommandError> {
    let job = cx.world.jobs.get(&id).ok_or_else(|| CommandError::NotFound {
        what: "job".to_owned(),
        name: id.to_string(),
        known: Vec::new(),
    })?;
    if job.finished_at.is_some() {
        return Ok(Reply::Accepted { job: Some(id), changed: false });
    }
    let (intent, nodes) = (job.intent, job.action.nodes().to_vec());
    for node in nodes {
        let Some(row) = cx.world.nodes.get(&node).filter(|row| row.job == Some(id)) else { continue };
        // A start that is called off means that the node is not wanted to run; a stop cannot be taken back half way.
        if intent == NodeIntent::Running && row.actual != NodeState::Running {
            cx.node_desired(node, NodeIntent::Stopped, Why::user(user).because("the job was cancelled").of(Some(id)));
        }
    }
    jobs::end(cx, id, JobState::Cancelled, &format!("cancelled by {user}"));
    Ok(Reply::Accepted { job: Some(id), changed: true })
}
