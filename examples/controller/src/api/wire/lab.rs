//! Labs and jobs.

use lifecycle_core::id::{JobId, LabId};
use lifecycle_core::machine::{JobState, LabState, NodeIntent};
use lifecycle_core::model::{JobView, LabView};
use lifecycle_core::name::LabName;
use lifecycle_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Link, Node};

/// A lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lab {
    /// Its identifier.
    pub id: LabId,
    /// Its name, by which it is addressed.
    pub name: LabName,
    /// What its nodes do together.
    pub state: LabState,
    /// Number of its nodes.
    pub node_count: u32,
    /// Number of its links.
    pub link_count: u32,
    /// Number of its nodes whose host is not heard of.
    pub stale_count: u32,
    /// It is being removed.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Number of the last change of its topology.
    pub generation: u64,
}

impl From<LabView> for Lab {
    fn from(view: LabView) -> Self {
        let LabView { id, name, state, nodes, links, stale, deleting, created_at, generation } = view;
        Self {
            id,
            name,
            state,
            node_count: nodes,
            link_count: links,
            stale_count: stale,
            deleting,
            created_at,
            generation,
        }
    }
}

/// A lab with all that is in it, at one moment of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabSnapshot {
    /// The lab.
    pub lab: Lab,
    /// Its nodes, by name.
    pub nodes: Vec<Node>,
    /// Its links.
    pub links: Vec<Link>,
    /// Its jobs that are under way, and the last finished ones.
    pub jobs: Vec<Job>,
    /// Number of the last event that it contains: follow the feed from there.
    pub as_of_seq: u64,
}

impl From<lifecycle_engine::drive::LabSnapshot> for LabSnapshot {
    fn from(snapshot: lifecycle_engine::drive::LabSnapshot) -> Self {
        Self {
            lab: snapshot.lab.into(),
            nodes: snapshot.nodes.into_iter().map(Into::into).collect(),
            links: snapshot.links.into_iter().map(Into::into).collect(),
            jobs: snapshot.jobs.into_iter().map(Into::into).collect(),
            as_of_seq: snapshot.as_of_seq,
        }
    }
}

/// A piece of work on nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its identifier.
    pub id: JobId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// How far it is.
    pub state: JobState,
    /// What its nodes are to become.
    pub intent: NodeIntent,
    /// Who asked for it.
    pub owner: String,
    /// Number of its nodes.
    pub total: u32,
    /// Nodes that are done.
    pub done: u32,
    /// Nodes that failed.
    pub failed: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl From<JobView> for Job {
    fn from(view: JobView) -> Self {
        let JobView { id, lab_id, state, intent, owner, total, done, failed, created_at, finished_at } = view;
        Self { id, lab_id, state, intent, owner, total, done, failed, created_at, finished_at }
    }
}
