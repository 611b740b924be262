//! The rows of the state: labs, nodes, links, jobs and hosts.
//!
//! A row says what is wanted, what is true as far as is known, and what is under way. Every row has a generation that
//! grows by one with each change, so that a store can refuse a change made against an older row.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LabId, LinkId, NodeId};
use crate::machine::{HostState, JobState, LinkIntent, LinkState, NodeIntent, NodeState};
use crate::name::{HostName, IfName, NodeName, PluginName};
use crate::plugin::network::{EndIdentity, LinkIdentity};
use crate::plugin::provider::{Capacity, ExitRecord, InstanceRef, ManagementAddresses};
use crate::policy::blocked::Blocked;
use crate::policy::display;
use crate::policy::enforcement::{Budget, EnforcementPolicy};
use crate::policy::link::{LinkKey, OperState, Side};
use crate::time::{BootInstant, Deadline, Timestamp};
use crate::topology::{LinkAttrs, LinkSpec, StagePhase, Topology};

/// A lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabRecord {
    /// Its identifier.
    pub id: LabId,
    /// What its user wants.
    pub topology: Arc<Topology>,
    /// It is being removed: the row goes when nothing of it is left outside.
    pub deleting: bool,
    /// Number of the last change.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its identifier.
    pub id: NodeId,
    /// Its lab.
    pub lab: LabId,
    /// Its name within the lab.
    pub name: NodeName,
    /// What its user wants.
    pub desired: NodeIntent,
    /// What is true, as far as is known.
    pub actual: NodeState,
    /// Since when.
    pub state_since: Timestamp,
    /// Provider that runs it.
    pub provider: PluginName,
    /// Host that it runs on or last ran on.
    pub host: Option<HostName>,
    /// Its instance, as last observed.
    pub instance: Option<NodeInstance>,
    /// The last incarnation that was handed out.
    pub incarnation: u64,
    /// Attempts of enforcement and their errors.
    pub budget: Budget,
    /// Why no retry can help, if so.
    pub blocked: Option<Blocked>,
    /// Since when nothing was heard of its host.
    pub stale_since: Option<Timestamp>,
    /// Whether it is ready for use.
    pub ready: ReadyState,
    /// The commands that follow a start were run since its process last started.
    pub configured: bool,
    /// Which commands of its stage `healthy` were run last since then.
    pub healthy_commands: Option<StagePhase>,
    /// How its process last ended.
    pub exit: Option<ExitRecord>,
    /// The job that is working on it.
    pub job: Option<JobId>,
    /// When its transitional state has lasted too long.
    pub deadline: Option<Deadline>,
    /// Since when its process runs, on the boot clock.
    pub running_since: Option<BootInstant>,
    /// It is to be removed and made again, since what is wanted of it changed.
    pub recreate: bool,
    /// It is being removed: the row goes when nothing of it is left outside.
    pub deleting: bool,
    /// Times of its life.
    pub times: NodeTimes,
    /// Number of the last change.
    pub generation: u64,
}

impl NodeRecord {
    /// Whether enforcement will try again by itself; people see no error while it will.
    pub fn will_retry(&self, policy: &EnforcementPolicy) -> bool {
        display::will_retry(self.actual, self.desired, &self.budget, self.blocked.is_some(), policy)
    }
}

/// The instance of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInstance {
    /// Its reference at the provider.
    pub reference: InstanceRef,
    /// Its addresses on the management network.
    pub management: ManagementAddresses,
}

/// Whether a node is ready for use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadyState {
    /// It is.
    pub ready: bool,
    /// Progress in percent, where the vendor tells.
    pub progress: Option<u8>,
    /// Why it is not, or no longer waited for.
    pub reason: Option<String>,
    /// What its own start commands said when one failed.
    pub warning: Option<String>,
}

/// Times of a node's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTimes {
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its last start began.
    pub starting_started_at: Option<Timestamp>,
    /// When its last stop began.
    pub stopping_started_at: Option<Timestamp>,
    /// When its process last started.
    pub boot_started_at: Option<Timestamp>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Its identifier.
    pub id: LinkId,
    /// Its lab.
    pub lab: LabId,
    /// The pair of its ends, without direction; unique.
    pub key: LinkKey,
    /// What its user wants.
    pub spec: LinkSpec,
    /// The nodes of its ends.
    pub nodes: [Option<NodeId>; 2],
    /// Whether its user wants it up.
    pub desired: LinkIntent,
    /// What is true, as far as is known.
    pub actual: LinkState,
    /// Since when.
    pub state_since: Timestamp,
    /// Backend that builds it; while [`leaves`](Self::leaves) names another one, the one that it goes to.
    pub backend: PluginName,
    /// Backend that its user chose since it was built, to which it goes next.
    #[serde(default)]
    pub next_backend: Option<PluginName>,
    /// Host on which it is built; of a link between two hosts, that of side A.
    pub host: Option<HostName>,
    /// What was built; of a link between two hosts, the half at side A.
    pub identity: Option<LinkIdentity>,
    /// The other half of a link between two hosts. Nothing is built before both halves are.
    #[serde(default)]
    pub span: Option<Span>,
    /// Ends that it takes over when it is built.
    #[serde(default)]
    pub parked: Option<Parked>,
    /// MTU that fits through its tunnel, in bytes, as far as is known; for a link that goes through one.
    #[serde(default)]
    pub path_mtu: Option<u32>,
    /// The last incarnation that was handed out.
    pub incarnation: u64,
    /// Attempts of repair and their errors.
    pub budget: Budget,
    /// When it was last verified.
    pub verified_at: Option<Timestamp>,
    /// Attributes that were last applied to what was built.
    pub applied: Option<LinkAttrs>,
    /// Whether each end was last given carrier; nothing while that is being changed, or nobody knows how a change ended.
    pub carrier: [Option<bool>; 2],
    /// What was built is to be removed and built again, since what is wanted of it changed.
    pub rebuild: bool,
    /// State of each end, with the first cause.
    pub oper: [OperState; 2],
    /// When its transitional state has lasted too long.
    pub deadline: Option<Deadline>,
    /// It is being removed: the row goes when nothing of it is left outside.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Number of the last change.
    pub generation: u64,
}

impl LinkRecord {
    /// The attributes that what is built shall have: those that its user wants, as far as its tunnel carries them.
    pub fn attrs(&self) -> LinkAttrs {
        let wanted = self.spec.attrs;
        LinkAttrs { mtu: self.path_mtu.map_or(wanted.mtu, |path| wanted.mtu.min(path)), ..wanted }
    }

    /// The backend that it is being handed over from. Until the other one was seen to have it, either may have parts of it.
    pub fn leaves(&self) -> Option<&PluginName> {
        self.identity.as_ref().map(|built| &built.backend).filter(|from| **from != self.backend)
    }

    /// The backends that may have parts of it.
    pub fn backends(&self) -> impl Iterator<Item = &PluginName> {
        std::iter::once(&self.backend).chain(self.leaves())
    }

    /// The interface of a node at which it ends at a side.
    pub fn interface(&self, side: Side) -> Option<(NodeId, &IfName)> {
        let end = self.spec.ends()[side.index()].as_node()?;
        Some((self.nodes[side.index()]?, &end.ifname))
    }

    /// The side at which it ends at an interface of a node.
    pub fn side_at(&self, interface: (NodeId, &IfName)) -> Option<Side> {
        [Side::A, Side::B].into_iter().find(|side| self.interface(*side) == Some(interface))
    }

    /// The end that is parked for it at a side. What was parked for an incarnation that it has no more is a leftover.
    pub fn parked(&self, side: Side) -> Option<&ParkedEnd> {
        let parked = self.parked.as_ref().filter(|parked| parked.incarnation == self.incarnation)?;
        parked.ends[side.index()].as_ref()
    }

    /// Records that an end is parked for it at a side.
    pub fn park(&mut self, side: Side, end: ParkedEnd) {
        let incarnation = self.incarnation;
        let parked = self.parked.take().filter(|parked| parked.incarnation == incarnation);
        let mut ends = parked.map(|parked| parked.ends).unwrap_or_default();
        ends[side.index()] = Some(end);
        self.parked = Some(Parked { incarnation, ends });
    }

    /// Whether anything is parked for it.
    pub fn has_parked(&self) -> bool {
        [Side::A, Side::B].into_iter().any(|side| self.parked(side).is_some())
    }

    /// The hosts on which it is built.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.host.iter().chain(self.span.iter().map(|span| &span.host))
    }

    /// What was built, by host.
    pub fn halves(&self) -> impl Iterator<Item = (&HostName, &LinkIdentity)> {
        let near = self.host.as_ref().zip(self.identity.as_ref());
        let far = self.span.as_ref().and_then(|span| Some((&span.host, span.identity.as_ref()?)));
        near.into_iter().chain(far)
    }
}

/// What stays in place, for a link that is still to be built, of links that were removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// The incarnation of the link that it is for.
    pub incarnation: u64,
    /// Ends, by the side at which it has them.
    pub ends: [Option<ParkedEnd>; 2],
}

/// An end of a link that was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParkedEnd {
    /// The end as it was built.
    pub end: EndIdentity,
    /// The attributes that it had, and still has.
    pub attrs: LinkAttrs,
}

/// What a link between two hosts has besides one within a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Host on which the half at side B is built.
    pub host: HostName,
    /// Network identifier of its tunnel, which nothing else on either host has.
    pub vni: u32,
    /// The half at side B, once built.
    pub identity: Option<LinkIdentity>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum JobAction {
    /// One node: `lifecycle:node:{id}`.
    Node {
        /// The node.
        node: NodeId,
    },
    /// Several nodes: `lifecycle:bulk:{ids}`.
    Bulk {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Nodes of one host: `lifecycle:host:{host}:{ids}`.
    Host {
        /// The host.
        host: HostName,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
}

impl JobAction {
    /// The nodes it works on.
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Self::Node { node } => std::slice::from_ref(node),
            Self::Bulk { nodes } | Self::Host { nodes, .. } => nodes,
        }
    }
}

/// A piece of work on nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its identifier.
    pub id: JobId,
    /// The lab of its nodes.
    pub lab: LabId,
    /// What it does.
    pub action: JobAction,
    /// What its nodes are to become.
    pub intent: NodeIntent,
    /// How far it is.
    pub state: JobState,
    /// Who asked for it.
    pub owner: String,
    /// Epoch of the controller that runs it; a job of an older epoch is nobody's.
    pub epoch: u64,
    /// Nodes that are done.
    pub done: u32,
    /// Nodes that failed.
    pub failed: u32,
    /// What happened, newest last, at most [`JobRecord::LOG_LIMIT`] lines.
    pub log: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Number of the last change.
    pub generation: u64,
}

impl JobRecord {
    /// Lines of log that a job keeps.
    pub const LOG_LIMIT: usize = 200;
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: HostName,
    /// What is known of it.
    pub state: HostState,
    /// Since when.
    pub state_since: Timestamp,
    /// What nodes may reserve in total, once known.
    pub capacity: Option<Capacity>,
    /// Number of the last change.
    pub generation: u64,
}
