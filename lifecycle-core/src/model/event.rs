//! The feed: what changed, in sequence, so that whoever follows it ends with the controller's own view.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LabId, LinkId, NodeId};
use crate::model::view::{JobView, LabView, LinkView, NodeView};
use crate::time::Timestamp;

/// Kinds of things that audit rows and events are about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SubjectKind {
    /// A lab.
    Lab,
    /// A node.
    Node,
    /// A link.
    Link,
    /// A job.
    Job,
    /// A host.
    Host,
    /// Something outside that belongs to no row.
    Object,
}

/// One entry of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the feed; entries are numbered without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The lab it belongs to, where one can still be told.
    pub lab: Option<LabId>,
    /// What happened.
    pub body: EventBody,
}

/// What happened: the new view of what changed, or that it is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// A lab came to be or changed.
    Lab(Box<LabView>),
    /// A lab is gone.
    LabGone {
        /// Which.
        id: LabId,
    },
    /// A node came to be or changed.
    Node(Box<NodeView>),
    /// A node is gone.
    NodeGone {
        /// Which.
        id: NodeId,
    },
    /// A link came to be or changed.
    Link(Box<LinkView>),
    /// A link is gone.
    LinkGone {
        /// Which.
        id: LinkId,
    },
    /// A job came to be or changed.
    Job(Box<JobView>),
    /// A job is gone.
    JobGone {
        /// Which.
        id: JobId,
    },
}
