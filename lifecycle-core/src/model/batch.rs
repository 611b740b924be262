//! What one step of decisions changes, committed as one transaction.

use serde::{Deserialize, Serialize};

use crate::id::{ControllerId, JobId, LabId, LinkId, NodeId};
use crate::model::{AuditRow, Event, HostRecord, JobRecord, LabRecord, LinkRecord, NodeRecord};

/// One change of one row.
///
/// A row that is put has the generation that it gets; the stored one must be exactly one less, or absent for 1. A row
/// that is dropped names the generation that is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Writes a lab.
    PutLab(Box<LabRecord>),
    /// Removes a lab.
    DropLab {
        /// Which.
        id: LabId,
        /// As stored.
        generation: u64,
    },
    /// Writes a node.
    PutNode(Box<NodeRecord>),
    /// Removes a node.
    DropNode {
        /// Which.
        id: NodeId,
        /// As stored.
        generation: u64,
    },
    /// Writes a link.
    PutLink(Box<LinkRecord>),
    /// Removes a link.
    DropLink {
        /// Which.
        id: LinkId,
        /// As stored.
        generation: u64,
    },
    /// Writes a job.
    PutJob(Box<JobRecord>),
    /// Removes a job.
    DropJob {
        /// Which.
        id: JobId,
        /// As stored.
        generation: u64,
    },
    /// Writes a host.
    PutHost(Box<HostRecord>),
}

/// Everything that one step of decisions changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Epoch of the controller that decided; a store refuses one older than its own.
    pub epoch: u64,
    /// Number of the batch: one more than the store's. The store's own number means a repetition, which succeeds
    /// without doing anything.
    pub number: u64,
    /// Changed rows: labs before their nodes, nodes before their links; drops in the opposite order, before puts.
    pub changes: Vec<Change>,
    /// Rows for the audit trail, numbered on from the store's last.
    pub audit: Vec<AuditRow>,
    /// Entries for the feed, numbered on from the store's last.
    pub events: Vec<Event>,
}

impl Batch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.audit.is_empty() && self.events.is_empty()
    }
}

/// Where a store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The controller whose state it is.
    pub controller: ControllerId,
    /// Epoch of the last take-over.
    pub epoch: u64,
    /// Number of the last batch.
    pub batch: u64,
    /// Number of the last audit row.
    pub audit: u64,
    /// Number of the last event.
    pub event: u64,
}

/// The whole state of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where the store stands.
    pub head: Head,
    /// All labs.
    pub labs: Vec<LabRecord>,
    /// All nodes.
    pub nodes: Vec<NodeRecord>,
    /// All links.
    pub links: Vec<LinkRecord>,
    /// All jobs.
    pub jobs: Vec<JobRecord>,
    /// All hosts.
    pub hosts: Vec<HostRecord>,
}
