//! What a user wants of a link.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::attach::Mac;
use crate::machine::LinkIntent;
use crate::name::{IfName, NodeName, PluginName, PortName};
use crate::policy::link::Side;

/// One link as its user wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// First end.
    pub a: Endpoint,
    /// Second end.
    pub b: Endpoint,
    /// What the user wants of it at first.
    pub desired: LinkIntent,
    /// Attributes that can change in place.
    pub attrs: LinkAttrs,
    /// Whether the user gave the MTU. A path that cannot carry such a link's MTU refuses it; any other MTU is lowered.
    #[serde(default)]
    pub explicit_mtu: bool,
    /// Network backend, when the user chose one.
    pub backend: Option<PluginName>,
    /// Who owns the ends inside the nodes.
    pub manage: Manage,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Fields of the file that are kept for those who know them, by their name in the file.
    #[serde(default)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Its ends as its user wrote them: `n1:eth1/n2:eth1`.
impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.a, self.b)
    }
}

impl LinkSpec {
    /// A plain link between two ends.
    pub fn new(a: Endpoint, b: Endpoint) -> Self {
        Self {
            a,
            b,
            desired: LinkIntent::Up,
            attrs: LinkAttrs::default(),
            explicit_mtu: false,
            backend: None,
            manage: Manage::default(),
            labels: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Both ends.
    pub fn ends(&self) -> [&Endpoint; 2] {
        [&self.a, &self.b]
    }

    /// The side at which it ends at an interface of a node.
    pub fn side_at(&self, node: &NodeName, ifname: &IfName) -> Option<Side> {
        let is_it = |end: &Endpoint| end.as_node().is_some_and(|end| (&end.node, &end.ifname) == (node, ifname));
        [Side::A, Side::B].into_iter().find(|side| is_it(self.ends()[side.index()]))
    }
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Endpoint {
    /// A port of a node.
    Node(NodeEnd),
    /// An interface in the host's own network namespace.
    Host {
        /// Its name there.
        interface: IfName,
    },
    /// The management network of the lab.
    Management {
        /// Name of the port on the host.
        interface: IfName,
    },
    /// A child of an interface of the host, moved into the node.
    Macvlan {
        /// The host's interface.
        parent: IfName,
        /// How children of one parent see each other.
        mode: MacvlanMode,
    },
    /// Nothing: the node gets an interface that leads nowhere.
    Dummy,
    /// A VXLAN tunnel to a place that Lifecycle does not manage.
    Vxlan {
        /// Address of the far end.
        remote: String,
        /// Network identifier.
        vni: u32,
        /// UDP port of the far end.
        port: u16,
        /// UDP port of this end; the kernel's choice when absent.
        #[serde(default)]
        source_port: Option<u16>,
        /// The host's interface it goes out of; by the route to the far end when absent.
        #[serde(default)]
        parent: Option<IfName>,
        /// Whether the tunnel is stitched to a veth by traffic mirroring instead of standing in the node.
        stitch: bool,
    },
}

/// As people write it: `n1:eth1`, or `host:veth0`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(end) => write!(f, "{}:{}", end.node, end.port),
            Self::Host { interface } => write!(f, "host:{interface}"),
            Self::Management { interface } => write!(f, "mgmt-net:{interface}"),
            Self::Macvlan { parent, .. } => write!(f, "macvlan:{parent}"),
            Self::Dummy => f.write_str("dummy"),
            Self::Vxlan { remote, vni, .. } => write!(f, "vxlan:{remote}/{vni}"),
        }
    }
}

impl Endpoint {
    /// A port of a node with the interface of the same name.
    pub fn node(node: NodeName, ifname: IfName) -> Self {
        Self::Node(NodeEnd {
            node,
            port: PortName::new(&ifname).unwrap_or_else(|_| unreachable!("every interface name is a port name")),
            ifname,
            mac: None,
            ipv4: None,
            ipv6: None,
        })
    }

    /// The node's part, if this end is at a node.
    pub fn as_node(&self) -> Option<&NodeEnd> {
        match self {
            Self::Node(end) => Some(end),
            _ => None,
        }
    }
}

/// A port of a node as an end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEnd {
    /// The node.
    pub node: NodeName,
    /// The port as the user wrote it.
    pub port: PortName,
    /// The canonical name of the interface in the node's namespace.
    pub ifname: IfName,
    /// Address that the user gave it.
    pub mac: Option<Mac>,
    /// IPv4 address with prefix length that the user gave it.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 address with prefix length that the user gave it.
    pub ipv6: Option<Ipv6Net>,
}

/// How children of one macvlan parent see each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MacvlanMode {
    /// Directly.
    #[default]
    Bridge,
    /// Through the switch outside.
    Vepa,
    /// Not at all.
    Private,
    /// There is only one child, which takes the parent over.
    Passthru,
    /// By a list of source addresses.
    Source,
}

/// Who owns the ends of a link inside its nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Manage {
    /// The nodes: what they set is reported and left alone.
    #[default]
    Observe,
    /// Lifecycle: what differs from the topology is put back.
    Strict,
}

/// Attributes of a link that can change while it is up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkAttrs {
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Whether the ends are set up by us; `down` leaves them without carrier.
    pub admin: Admin,
    /// Bits per second in each direction.
    pub rate: Option<u64>,
    /// Delay in microseconds in each direction.
    pub delay: Option<u32>,
    /// Random deviation of the delay in microseconds.
    pub jitter: Option<u32>,
    /// Share of frames lost in each direction, 0 to 1.
    pub loss: Option<f64>,
}

/// Default maximum transmission unit of a link, in bytes; containerlab's.
pub const DEFAULT_MTU: u32 = 9500;

impl Default for LinkAttrs {
    fn default() -> Self {
        Self { mtu: DEFAULT_MTU, admin: Admin::Up, rate: None, delay: None, jitter: None, loss: None }
    }
}

/// Administrative state of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Admin {
    /// In use.
    #[default]
    Up,
    /// Out of use.
    Down,
}
