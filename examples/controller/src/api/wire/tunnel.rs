//! Tunnels.

use lifecycle_core::id::{LabId, LinkId};
use lifecycle_core::machine::{LinkState, TunnelState};
use lifecycle_core::name::HostName;
use serde::{Deserialize, Serialize};

/// What joins two hosts, as the links tell that go through it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The two hosts, in ascending order.
    pub hosts: [HostName; 2],
    /// `degraded` while a link between the hosts is in error.
    pub state: TunnelState,
    /// The links that go through it.
    pub links: Vec<TunnelledLink>,
}

/// A link between two hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunnelledLink {
    /// Its identifier.
    pub id: LinkId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// Its ends, as its user wrote them.
    pub name: String,
    /// What is true.
    pub state: LinkState,
    /// Network identifier that only this link has on both hosts.
    pub vni: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
}
