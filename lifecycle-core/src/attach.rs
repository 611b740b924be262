//! Where an interface of a node attaches, as data that a provider hands out and a network backend consumes.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::NodeId;
use crate::name::IfName;
use crate::time::BootId;
use crate::topology::MacvlanMode;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether the locally administered bit is set.
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// Whether the group (multicast) bit is set; such an address cannot be an interface's own.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an Ethernet address: expected six hexadecimal bytes such as 02:00:00:00:00:01")]
pub struct InvalidMac(pub String);

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a process other than the namespace's owner reaches a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "snake_case")]
pub enum NsAccess {
    /// A namespace file that a privileged process opens: `/proc/<pid>/ns/net` or a pin.
    Path {
        /// The file.
        path: PathBuf,
    },
    /// A broker that opens sockets inside the namespace and passes them over a unix socket.
    Broker {
        /// The broker's socket.
        socket: PathBuf,
        /// The name under which the broker knows the namespace.
        name: String,
    },
}

/// One network namespace of one boot.
///
/// Inode numbers of namespaces are reused at once, so the identity is the cookie (`SO_NETNS_COOKIE`), which the kernel
/// never reuses within a boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsRef {
    /// How to reach it.
    pub access: NsAccess,
    /// The kernel's cookie of the namespace.
    pub cookie: u64,
    /// The boot in which the cookie means something.
    pub boot: BootId,
}

/// The kind of place where an interface attaches, and so which backends can serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttachKind {
    /// A network namespace: the provider prepared it, the backend creates the interface in it.
    Namespace(NsRef),
    /// A persistent tap: the backend prepares it, the provider consumes it when the node starts.
    Tap {
        /// Name of the tap on the host.
        name: IfName,
        /// User id that may open it.
        owner: u32,
        /// `IFF_*` flags of the tap besides `IFF_TAP`.
        flags: u16,
    },
    /// The network namespace of the host itself.
    HostNet,
    /// A port of a Linux bridge in the host's network namespace; the port gets the point's `ifname`.
    Bridge {
        /// Name of the bridge.
        bridge: IfName,
    },
    /// A macvlan: the other end is created as a child of an interface of the host.
    Macvlan {
        /// The host's interface.
        parent: IfName,
        /// How children of one parent see each other.
        mode: MacvlanMode,
    },
    /// Nothing: the other end leads nowhere.
    Dummy,
    /// A VXLAN tunnel that carries this link and no other. What is at its far end, the other half of a link or something
    /// that is not ours, the backend does not know.
    Tunnel(Tunnel),
}

/// The host's end of a VXLAN tunnel (RFC 7348) that carries one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Network identifier, 1 to 16 777 215; no two tunnels of a host with one UDP port share one.
    pub vni: u32,
    /// Address of the far end.
    pub remote: IpAddr,
    /// Address of this end; the one by which the host reaches the far end when absent.
    #[serde(default)]
    pub local: Option<IpAddr>,
    /// UDP port at which both ends listen.
    pub port: u16,
    /// UDP port that packets come from; the kernel's choice by flow when absent.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// The host's interface that packets go out of; by the route to the far end when absent.
    #[serde(default)]
    pub parent: Option<IfName>,
}

impl Tunnel {
    /// UDP port of tunnels for which nobody chose one: containerlab's, since the standard 4789 clashes with other overlays.
    pub const PORT: u16 = 14789;
}

impl AttachKind {
    /// The tunnel, if one is there.
    pub const fn as_tunnel(&self) -> Option<&Tunnel> {
        match self {
            Self::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// The word for this kind of place in errors and capabilities.
    pub const fn name(&self) -> PlaceKind {
        match self {
            Self::Namespace(_) => PlaceKind::Namespace,
            Self::Tap { .. } => PlaceKind::Tap,
            Self::HostNet => PlaceKind::HostNet,
            Self::Bridge { .. } => PlaceKind::Bridge,
            Self::Macvlan { .. } => PlaceKind::Macvlan,
            Self::Dummy => PlaceKind::Dummy,
            Self::Tunnel(_) => PlaceKind::Tunnel,
        }
    }
}

/// The kinds of place, without their data.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PlaceKind {
    /// [`AttachKind::Namespace`].
    #[default]
    Namespace,
    /// [`AttachKind::Tap`].
    Tap,
    /// [`AttachKind::HostNet`].
    HostNet,
    /// [`AttachKind::Bridge`].
    Bridge,
    /// [`AttachKind::Macvlan`].
    Macvlan,
    /// [`AttachKind::Dummy`].
    Dummy,
    /// [`AttachKind::Tunnel`].
    Tunnel,
}

/// One end of a link, before or after something is attached to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPoint {
    /// The node that owns the end; none for an end on the host.
    pub node: Option<NodeId>,
    /// The incarnation of the node's instance that the point belongs to; 0 for an end on the host.
    pub incarnation: u64,
    /// The interface's name in its namespace. An end at a tunnel gets its name from the backend; there this one is only for
    /// people.
    pub ifname: IfName,
    /// The interface's address.
    pub mac: Mac,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Where it attaches.
    pub place: AttachKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text() {
        let mac: Mac = "02:00:00:00:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:00:ff");
        assert!(mac.is_local() && !mac.is_group());
        for bad in ["", "02", "02:00:00:00:00", "02:00:00:00:00:00:00", "0g:00:00:00:00:00", "2:0:0:0:0:0"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
