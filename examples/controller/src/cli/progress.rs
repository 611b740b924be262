//! How far a lab is from what its user wants.

use std::collections::BTreeSet;

use lifecycle_core::id::JobId;
use lifecycle_core::machine::{JobState, LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::name::NodeName;
use lifecycle_core::policy::display::DisplayState;
use lifecycle_core::policy::link::OperReason;

use crate::api::wire::{Link, Node};
use crate::client::LabMirror;
use crate::output::note;

/// How far a lab is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Nodes that are where they are wanted, and all.
    pub(super) nodes: (usize, usize),
    /// Links that are where they are wanted, and all.
    pub(super) links: (usize, usize),
    /// What is waited for; empty when nothing is.
    pub(super) waiting: Vec<String>,
    /// Links in error that may still be repaired.
    pub(super) doubtful: Vec<String>,
    /// What will not come about by itself, with the reason.
    pub(super) failed: Vec<String>,
}

/// What of a lab somebody waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// These nodes and their links; everything without a choice.
    pub(super) nodes: Option<BTreeSet<NodeName>>,
    /// Jobs that have to end.
    pub(super) jobs: Vec<JobId>,
}

impl Scope {
    /// All nodes and links, and a job if there is one.
    pub(super) fn all(job: Option<JobId>) -> Self {
        Self { nodes: None, jobs: job.into_iter().collect() }
    }

    fn has_node(&self, name: &NodeName) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(name))
    }

    fn has_link(&self, link: &Link) -> bool {
        link.ends.iter().any(|end| end.node.as_ref().is_some_and(|node| self.has_node(node)))
    }
}

enum Standing {
    Done,
    Waiting,
    Doubtful(String),
    Failed(String),
}

impl Progress {
    /// How far a part of a lab is.
    pub(super) fn of(mirror: &LabMirror, scope: &Scope) -> Self {
        let mut progress = Self::default();
        let stopped: BTreeSet<&NodeName> = mirror
            .nodes
            .values()
            .filter(|node| node.desired_state == NodeIntent::Stopped)
            .map(|node| &node.node_name)
            .collect();
        for node in mirror.nodes.values().filter(|node| scope.has_node(&node.node_name)) {
            progress.count(node_standing(node), node.node_name.to_string(), |it| &mut it.nodes);
        }
        let nodes_done = progress.waiting.is_empty();
        let is_failed = |node: &&Node| matches!(node_standing(node), Standing::Failed(_));
        let failed: BTreeSet<&NodeName> = mirror.nodes.values().filter(is_failed).map(|node| &node.node_name).collect();
        for link in mirror.links.values().filter(|link| scope.has_link(link)) {
            let label = label(link);
            progress.count(link_standing(link, [&stopped, &failed], nodes_done), label, |it| &mut it.links);
        }
        // As people look for them, not as they are kept.
        progress.waiting.sort_unstable();
        let under_way = |job: &&JobId| {
            mirror.jobs.get(job).is_some_and(|job| matches!(job.state, JobState::Pending | JobState::Running))
        };
        if progress.waiting.is_empty() {
            progress.waiting.extend(scope.jobs.iter().filter(under_way).map(|job| format!("job {job}")));
        }
        progress
    }

    fn count(&mut self, standing: Standing, name: String, of: impl Fn(&mut Self) -> &mut (usize, usize)) {
        of(self).1 += 1;
        match standing {
            Standing::Done => of(self).0 += 1,
            Standing::Waiting => self.waiting.push(name),
            Standing::Doubtful(why) => self.doubtful.push(format!("{name}: {why}")),
            Standing::Failed(why) => self.failed.push(format!("{name}: {why}")),
        }
    }
}

/// A link as people write it.
pub(super) fn label(link: &Link) -> String {
    format!("{} -- {}", link.ends[0].label(), link.ends[1].label())
}

fn node_standing(node: &Node) -> Standing {
    let there = match node.desired_state {
        NodeIntent::Running => node.actual_state == NodeState::Running && node.is_ready,
        NodeIntent::Stopped => node.actual_state.matches(NodeIntent::Stopped),
    };
    match node.display_state {
        _ if there && !node.deleting => Standing::Done,
        DisplayState::Error => Standing::Failed(note(node)),
        _ => Standing::Waiting,
    }
}

fn link_standing(link: &Link, [stopped, failed]: [&BTreeSet<&NodeName>; 2], nodes_done: bool) -> Standing {
    let ends_in = |these: &BTreeSet<&NodeName>| {
        link.ends.iter().any(|end| end.node.as_ref().is_some_and(|node| these.contains(node)))
    };
    let down_within = link
        .ends
        .iter()
        .all(|end| matches!(end.reason, Some(OperReason::LocalInterfaceDown | OperReason::PeerInterfaceDown)));
    match link.actual_state {
        _ if link.deleting => Standing::Waiting,
        LinkState::Up if link.desired_state == LinkIntent::Up => Standing::Done,
        LinkState::Down | LinkState::Pending if ends_in(stopped) => Standing::Done,
        LinkState::Down if link.desired_state == LinkIntent::Down => Standing::Done,
        LinkState::Down | LinkState::Pending if ends_in(failed) => {
            Standing::Failed("the node at an end of it is in error".to_owned())
        }
        // What a node does to its own interface is its own business, and nobody will set it up again.
        LinkState::Down if down_within && nodes_done => {
            Standing::Failed("an interface was set down inside its node".to_owned())
        }
        LinkState::Error => Standing::Doubtful(link.error_message.clone().unwrap_or_else(|| "in error".to_owned())),
        _ => Standing::Waiting,
    }
}
