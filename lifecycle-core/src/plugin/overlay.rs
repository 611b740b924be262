//! Overlay backends carry links between hosts.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::machine::TunnelState;

/// A tunnel between two hosts for one network identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelSpec {
    /// Our address.
    pub local: IpAddr,
    /// The other host's address.
    pub remote: IpAddr,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The backend's segment (a tag or a bridge) that the tunnel extends.
    pub segment: String,
}

/// What a tunnel is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Its state.
    pub state: TunnelState,
    /// What is wrong, in words; empty when nothing is.
    pub problems: Vec<String>,
}

/// Carries links between hosts.
///
/// # Laws
///
/// - *Create and delete are idempotent*.
/// - *A tunnel never shares its identifier* with another one on the host.
/// - *Delete leaves nothing*, and touches nothing that is not ours.
#[async_trait]
pub trait OverlayBackend: Send + Sync + fmt::Debug {
    /// Makes a tunnel.
    async fn create_tunnel(&self, tunnel: &TunnelSpec) -> Result<()>;
    /// Joins the tunnel to its segment.
    async fn attach(&self, tunnel: &TunnelSpec) -> Result<()>;
    /// Takes the tunnel off its segment.
    async fn detach(&self, tunnel: &TunnelSpec) -> Result<()>;
    /// Removes the tunnel.
    async fn delete_tunnel(&self, tunnel: &TunnelSpec) -> Result<()>;
    /// Reads it back; nothing when it does not exist.
    async fn tunnel_status(&self, tunnel: &TunnelSpec) -> Result<Option<TunnelStatus>>;
}
