//! Overlay backends carry links between hosts, each link in a VXLAN tunnel of its own.
//!
//! A link between two hosts is two links, one on each: from its node to a [`Tunnel`]. They are built, verified and removed
//! like all others, by the same calls and under the same laws. What is here is only what tunnels need besides.

use std::collections::BTreeSet;
use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::attach::Tunnel;
use crate::error::Result;
use crate::plugin::network::LinkIdentity;

/// What the tunnels of a host go through, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// Address at which other hosts reach this one; none where nothing tells which of its addresses that is.
    pub address: Option<IpAddr>,
    /// Bytes that a packet may have on the interface with this address; 0 without an address.
    pub mtu: u32,
    /// Network identifiers that something on this host uses, ours and others'.
    pub vnis: BTreeSet<u32>,
}

/// A network backend that joins ends to tunnels: its capabilities have pairs with
/// [`PlaceKind::Tunnel`](crate::attach::PlaceKind::Tunnel).
///
/// # Laws
///
/// Those of a [`NetworkBackend`](super::NetworkBackend), for links with an end at a tunnel as for all others, and:
///
/// - *A tunnel is part of its link's identity*: verification compares identifier and addresses with what was built, and a
///   tunnel that was changed by hand is not intact.
/// - *An identifier that is taken is refused*: where something else on the host has it, also what is not ours, connecting
///   fails with [`ErrorKind::Conflict`](crate::error::ErrorKind::Conflict), and nothing is left.
#[async_trait]
pub trait OverlayBackend: Send + Sync {
    /// Reads what tunnels go through. Changes nothing.
    async fn underlay(&self) -> Result<Underlay>;

    /// Leads what was built to other addresses, without taking it down. The identity that is returned is the same but for
    /// the tunnel. Where the new far end cannot be reached by any route, nothing is changed and it fails with
    /// [`ErrorKind::Failed`](crate::error::ErrorKind::Failed). Repeating it changes nothing.
    async fn redirect(&self, identity: &LinkIdentity, to: &Tunnel) -> Result<LinkIdentity>;
}
