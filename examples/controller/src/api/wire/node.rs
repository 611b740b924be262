//! Nodes.

use std::net::{Ipv4Addr, Ipv6Addr};

use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeView;
use lifecycle_core::name::{HostName, NodeName, PluginName};
use lifecycle_core::plugin::provider::{ExitRecord, ManagementAddresses};
use lifecycle_core::policy::display::DisplayState;
use lifecycle_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its identifier.
    pub id: NodeId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// Its name within the lab, by which it is addressed.
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
    /// The last error.
    pub error_message: Option<String>,
    /// The first error since things were well.
    pub first_error: Option<String>,
    /// It will be tried again without anybody's doing.
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
    pub exit: Option<Exit>,
    /// When its process last started.
    pub boot_started_at: Option<Timestamp>,
    /// When its last start began.
    pub starting_started_at: Option<Timestamp>,
    /// When its last stop began.
    pub stopping_started_at: Option<Timestamp>,
    /// Host that it runs on or last ran on.
    pub host_name: Option<HostName>,
    /// Its addresses on the management network.
    pub management_ips: ManagementIps,
    /// It is being removed.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Number of the last change.
    pub generation: u64,
}

/// Addresses on the management network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagementIps {
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl From<ManagementAddresses> for ManagementIps {
    fn from(ManagementAddresses { ipv4, ipv6 }: ManagementAddresses) -> Self {
        Self { ipv4, ipv6 }
    }
}

/// How a process ended. Neither a code nor a signal means that nobody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Option<Timestamp>,
}

impl From<ExitRecord> for Exit {
    fn from(ExitRecord { code, signal, at }: ExitRecord) -> Self {
        Self { code, signal, at }
    }
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self {
            id: view.id,
            lab_id: view.lab_id,
            node_name: view.node_name,
            kind: view.kind,
            image: view.image,
            provider: view.provider,
            desired_state: view.desired_state,
            actual_state: view.actual_state,
            display_state: view.display_state,
            state_since: view.state_since,
            is_ready: view.is_ready,
            progress: view.progress,
            error_message: view.error_message,
            first_error: view.first_error,
            will_retry: view.will_retry,
            blocked: view.blocked,
            note: view.note,
            stale_since: view.stale_since,
            enforcement_attempts: view.enforcement_attempts,
            enforcement_max_attempts: view.enforcement_max_attempts,
            enforcement_failed_at: view.enforcement_failed_at,
            exit: view.exit.map(Into::into),
            boot_started_at: view.boot_started_at,
            starting_started_at: view.starting_started_at,
            stopping_started_at: view.stopping_started_at,
            host_name: view.host_name,
            management_ips: view.management_ips.into(),
            deleting: view.deleting,
            created_at: view.created_at,
            updated_at: view.updated_at,
            generation: view.generation,
        }
    }
}
