//! The feed and the audit trail.

use lifecycle_core::id::{ControllerId, JobId, LabId, LinkId, NodeId};
use lifecycle_core::model::{AuditAction, AuditResult, SubjectKind, Trigger};
use lifecycle_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Job, Lab, Link, Node};

/// The first message of the feed: where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Whose feed it is; another one means another state directory, or one that was made anew.
    pub controller: ControllerId,
    /// Grows each time a controller takes the state over.
    pub epoch: u64,
    /// Number of the last event so far.
    pub seq: u64,
}

/// Events were lost to this follower: it has to take snapshots, and goes on from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Number of the last event that was lost.
    pub lost_up_to: u64,
}

/// One entry of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the feed; numbers have no gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The lab it belongs to, where one can still be told.
    pub lab_id: Option<LabId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened: what something looks like now, or that it is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// A lab came to be or changed.
    Lab {
        /// The lab.
        lab: Box<Lab>,
    },
    /// A lab is gone.
    LabGone {
        /// Its identifier.
        id: LabId,
    },
    /// A node came to be or changed.
    Node {
        /// The node.
        node: Box<Node>,
    },
    /// A node is gone.
    NodeGone {
        /// Its identifier.
        id: NodeId,
    },
    /// A link came to be or changed.
    Link {
        /// The link.
        link: Box<Link>,
    },
    /// A link is gone.
    LinkGone {
        /// Its identifier.
        id: LinkId,
    },
    /// A job came to be or changed.
    Job {
        /// The job.
        job: Box<Job>,
    },
    /// A job is gone.
    JobGone {
        /// Its identifier.
        id: JobId,
    },
}

impl EventBody {
    /// The word for its kind, as in `type`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lab { .. } => "lab",
            Self::LabGone { .. } => "lab_gone",
            Self::Node { .. } => "node",
            Self::NodeGone { .. } => "node_gone",
            Self::Link { .. } => "link",
            Self::LinkGone { .. } => "link_gone",
            Self::Job { .. } => "job",
            Self::JobGone { .. } => "job_gone",
        }
    }
}

impl From<&lifecycle_core::model::Event> for Event {
    fn from(event: &lifecycle_core::model::Event) -> Self {
        use lifecycle_core::model::EventBody as Core;
        let body = match event.body.clone() {
            Core::Lab(view) => EventBody::Lab { lab: Box::new((*view).into()) },
            Core::LabGone { id } => EventBody::LabGone { id },
            Core::Node(view) => EventBody::Node { node: Box::new((*view).into()) },
            Core::NodeGone { id } => EventBody::NodeGone { id },
            Core::Link(view) => EventBody::Link { link: Box::new((*view).into()) },
            Core::LinkGone { id } => EventBody::LinkGone { id },
            Core::Job(view) => EventBody::Job { job: Box::new((*view).into()) },
            Core::JobGone { id } => EventBody::JobGone { id },
        };
        Self { seq: event.seq, at: event.at, lab_id: event.lab, body }
    }
}

/// One row of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Place in the trail; rows are numbered without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What kind of thing it is about.
    pub subject: SubjectKind,
    /// Its identifier, kept after the thing is gone.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its lab, if it has one.
    pub lab_id: Option<LabId>,
    /// What was done.
    pub action: AuditAction,
    /// State before.
    pub from: Option<String>,
    /// State after.
    pub to: Option<String>,
    /// What set it off.
    pub trigger: Trigger,
    /// What became of it.
    pub result: AuditResult,
    /// Who decided: a user's name, `enforcement`, `sync`, a policy's name.
    pub decided_by: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// The error, if there was one.
    pub error: Option<String>,
    /// Which attempt it was.
    pub attempt: Option<u32>,
    /// The job it belongs to.
    pub job_id: Option<JobId>,
    /// Whatever else helps to understand it.
    pub metadata: serde_json::Value,
}

impl From<lifecycle_core::model::AuditRow> for AuditRow {
    fn from(row: lifecycle_core::model::AuditRow) -> Self {
        Self {
            seq: row.seq,
            at: row.at,
            subject: row.subject,
            id: row.id,
            name: row.name,
            lab_id: row.lab,
            action: row.action,
            from: row.from,
            to: row.to,
            trigger: row.trigger,
            result: row.result,
            decided_by: row.decided_by,
            reason: row.reason,
            error: row.error,
            attempt: row.attempt,
            job_id: row.job,
            metadata: row.metadata,
        }
    }
}
