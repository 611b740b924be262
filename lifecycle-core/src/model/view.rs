//! What people are shown of the records: derived once, here, so that no client derives it again.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LabId, LinkId, NodeId};
use crate::machine::{JobState, LabState, LinkIntent, LinkState, NodeIntent, NodeState};
use crate::model::{JobRecord, LabRecord, LinkRecord, NodeRecord};
use crate::name::{HostName, IfName, LabName, NodeName, PluginName};
use crate::plugin::provider::{ExitRecord, ManagementAddresses};
use crate::policy::display::{self, DisplayState};
use crate::policy::enforcement::EnforcementPolicy;
use crate::policy::link::OperState;
use crate::time::Timestamp;
use crate::topology::{Endpoint, LinkAttrs, NodeSpec};

/// A lab as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabView {
    /// Its identifier.
    pub id: LabId,
    /// Its name.
    pub name: LabName,
    /// State of its nodes together; a node that will be retried counts as starting.
    pub state: LabState,
    /// Number of its nodes.
    pub nodes: u32,
    /// Number of its links.
    pub links: u32,
    /// Number of its nodes whose host is not heard of.
    pub stale: u32,
    /// It is being removed.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Number of the last change of its topology.
    pub generation: u64,
}

/// A node as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its identifier.
    pub id: NodeId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// Its name within the lab.
    pub node_name: NodeName,
    /// Its kind.
    pub kind: String,
    /// Its image.
    pub image: Option<String>,
    /// Provider that runs it.
    pub provider: PluginName,
    /// What its user wants.
    pub desired_state: NodeIntent,
    /// What is true.
    pub actual_state: NodeState,
    /// What people are shown, which follows intent.
    pub display_state: DisplayState,
    /// Since when the actual state holds.
    pub state_since: Timestamp,
    /// It is ready for use.
    pub is_ready: bool,
    /// Progress of its start in percent.
    pub progress: Option<u8>,
    /// The last error; absent while nothing is wrong.
    pub error_message: Option<String>,
    /// The first error since things were well.
    pub first_error: Option<String>,
    /// Enforcement will try again by itself.
    pub will_retry: bool,
    /// Why no retry can help, if so.
    pub blocked: Option<String>,
    /// Why it is not ready, or what its start commands said.
    pub note: Option<String>,
    /// Since when nothing was heard of its host.
    pub stale_since: Option<Timestamp>,
    /// Attempts so far.
    pub enforcement_attempts: u32,
    /// Attempts that are made at most.
    pub enforcement_max_attempts: u32,
    /// When enforcement gave up.
    pub enforcement_failed_at: Option<Timestamp>,
    /// How its process last ended.
    pub exit: Option<ExitRecord>,
    /// When its process last started.
    pub boot_started_at: Option<Timestamp>,
    /// When its last start began.
    pub starting_started_at: Option<Timestamp>,
    /// When its last stop began.
    pub stopping_started_at: Option<Timestamp>,
    /// Host that it runs on or last ran on.
    pub host_name: Option<HostName>,
    /// Its addresses on the management network.
    pub management_ips: ManagementAddresses,
    /// It is being removed.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Number of the last change.
    pub generation: u64,
}

impl NodeView {
    /// The view of a node with its specification.
    pub fn new(node: &NodeRecord, spec: Option<&NodeSpec>, policy: &EnforcementPolicy) -> Self {
        let will_retry = node.will_retry(policy);
        Self {
            id: node.id,
            lab_id: node.lab,
            node_name: node.name.clone(),
            kind: spec.map(|spec| spec.kind.clone()).unwrap_or_default(),
            image: spec.and_then(|spec| spec.image.clone()),
            provider: node.provider.clone(),
            desired_state: node.desired,
            actual_state: node.actual,
            display_state: display::display(node.actual, node.desired, will_retry),
            state_since: node.state_since,
            is_ready: node.ready.ready,
            progress: node.ready.progress,
            error_message: error_message(node),
            first_error: node.budget.first_error.clone().filter(|_| node.budget.last_error.is_some()),
            will_retry,
            blocked: node.blocked.as_ref().map(ToString::to_string),
            note: node.ready.warning.clone().or_else(|| node.ready.reason.clone()),
            stale_since: node.stale_since,
            enforcement_attempts: node.budget.attempts,
            enforcement_max_attempts: policy.max_attempts,
            enforcement_failed_at: node.budget.given_up_at,
            exit: node.exit.clone(),
            boot_started_at: node.times.boot_started_at,
            starting_started_at: node.times.starting_started_at,
            stopping_started_at: node.times.stopping_started_at,
            host_name: node.host.clone(),
            management_ips: node.instance.as_ref().map(|instance| instance.management).unwrap_or_default(),
            deleting: node.deleting,
            created_at: node.times.created_at,
            updated_at: node.times.updated_at,
            generation: node.generation,
        }
    }
}

fn error_message(node: &NodeRecord) -> Option<String> {
    let given_up = node.budget.given_up_at.map(|_| node.budget.give_up_message());
    given_up.or_else(|| node.budget.last_error.clone())
}

/// One end of a link as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndView {
    /// The node, or nothing for an end elsewhere.
    pub node: Option<NodeName>,
    /// The port as its user wrote it, or what stands at an end elsewhere.
    pub port: String,
    /// Name of the interface.
    pub interface: Option<IfName>,
    /// State of the end with the first cause.
    pub oper: OperState,
}

/// A link as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// Its identifier.
    pub id: LinkId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// Its ends.
    pub ends: [EndView; 2],
    /// Backend that builds it.
    pub backend: PluginName,
    /// What its user wants.
    pub desired_state: LinkIntent,
    /// What is true.
    pub actual_state: LinkState,
    /// Since when.
    pub state_since: Timestamp,
    /// Its attributes.
    pub attrs: LinkAttrs,
    /// The last error; absent while nothing is wrong.
    pub error_message: Option<String>,
    /// When it was last verified.
    pub verified_at: Option<Timestamp>,
    /// It is being removed.
    pub deleting: bool,
    /// Number of the last change.
    pub generation: u64,
}

impl LinkView {
    /// The view of a link.
    pub fn new(link: &LinkRecord) -> Self {
        let end = |endpoint: &Endpoint, oper: &OperState| match endpoint {
            Endpoint::Node(end) => EndView {
                node: Some(end.node.clone()),
                port: end.port.to_string(),
                interface: Some(end.ifname.clone()),
                oper: *oper,
            },
            Endpoint::Host { interface } => far("host", Some(interface), oper),
            Endpoint::Management { interface } => far("mgmt-net", Some(interface), oper),
            Endpoint::Macvlan { parent, .. } => far("macvlan", Some(parent), oper),
            Endpoint::Dummy => far("dummy", None, oper),
            Endpoint::Vxlan { .. } => far("vxlan", None, oper),
        };
        Self {
            id: link.id,
            lab_id: link.lab,
            ends: [end(&link.spec.a, &link.oper[0]), end(&link.spec.b, &link.oper[1])],
            backend: link.backend.clone(),
            desired_state: link.desired,
            actual_state: link.actual,
            state_since: link.state_since,
            attrs: link.spec.attrs,
            error_message: link.budget.last_error.clone(),
            verified_at: link.verified_at,
            deleting: link.deleting,
            generation: link.generation,
        }
    }
}

fn far(port: &str, interface: Option<&IfName>, oper: &OperState) -> EndView {
    EndView { node: None, port: port.to_owned(), interface: interface.cloned(), oper: *oper }
}

/// A job as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
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

impl JobView {
    /// The view of a job.
    pub fn new(job: &JobRecord) -> Self {
        Self {
            id: job.id,
            lab_id: job.lab,
            state: job.state,
            intent: job.intent,
            owner: job.owner.clone(),
            total: u32::try_from(job.action.nodes().len()).unwrap_or(u32::MAX),
            done: job.done,
            failed: job.failed,
            created_at: job.created_at,
            finished_at: job.finished_at,
        }
    }
}

impl LabView {
    /// The view of a lab whose nodes are in `state`, of which `stale` are not heard of.
    pub fn new(lab: &LabRecord, state: LabState, stale: u32) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            id: lab.id,
            name: lab.topology.name.clone(),
            state,
            nodes: count(lab.topology.nodes.len()),
            links: count(lab.topology.links.len()),
            stale,
            deleting: lab.deleting,
            created_at: lab.created_at,
            generation: lab.generation,
        }
    }
}
