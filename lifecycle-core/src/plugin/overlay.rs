//! Overlay backends carry links between hosts, each link in a VXLAN tunnel of its own.
//!
//! To its backends, a link between two hosts is two links, one on each host, from the node there to a [`Tunnel`]. They are
//! built, verified and removed like all others, by the same calls and under the same laws. Here stands only what tunnels
//! need besides.

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
    ///
    /// # Errors
    /// When no tunnel can be made on this host as its settings are, with what to do; a host that merely does not know its
    /// address is no error.
    async fn underlay(&self) -> Result<Underlay>;

    /// Leads the tunnel of a link to other addresses, without taking it down. The identity that is returned is the same but
    /// for the tunnel. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`](crate::error::ErrorKind::Failed) when no route leads to the new far end, and
    /// [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported) when more would change than addresses of one family;
    /// nothing is changed then. [`ErrorKind::NotFound`](crate::error::ErrorKind::NotFound) when the tunnel does not stand.
    async fn redirect(&self, identity: &LinkIdentity, to: &Tunnel) -> Result<LinkIdentity>;
}
