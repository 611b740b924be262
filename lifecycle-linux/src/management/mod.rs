//! The management network of a host: one bridge, an address for each node, and names for all of them.
//!
//! Several providers of one host may have nodes on it. So who holds what is written down where all of them look, the
//! [`Register`]; the bridge belongs to all, and goes with the last node of any of them.

mod address;
mod bridge;
mod dhcp;
mod register;

use std::net::IpAddr;

use lifecycle_core::attach::Mac;
use lifecycle_core::id::NodeId;
use lifecycle_core::name::{IfName, NodeName};
use lifecycle_core::plugin::provider::{CreateNode, ManagementAddresses};
use lifecycle_core::policy::naming::{MAC_PREFIX, OurName};
use lifecycle_core::topology::ManagementNetwork;
use serde::{Deserialize, Serialize};

pub use address::{bridge_addresses, net_of};
pub use bridge::Hub;
pub use dhcp::{Dhcp, Offer};
pub use register::{Entry, Locked, Register};

/// Name of the management interface in a node.
pub const INTERFACE: &str = "eth0";

/// The addresses that an instance holds on a management network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the network.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// The addresses.
    #[serde(flatten)]
    pub addresses: ManagementAddresses,
}

impl Lease {
    /// The addresses of both families.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.ipv4.map(IpAddr::V4).into_iter().chain(self.addresses.ipv6.map(IpAddr::V6))
    }
}

/// The bridge of a network.
pub fn bridge_of(network: &ManagementNetwork) -> IfName {
    network.bridge.clone().unwrap_or_else(|| OurName::management_bridge(&network.name).ifname())
}

/// The address of a node's management interface, the same for all its instances.
pub fn mac_of(node: NodeId) -> Mac {
    mac(node.as_u64())
}

/// An address for whatever the number stands for, the same each time.
fn mac(number: u64) -> Mac {
    let [.., a, b, c, d, e] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

/// The names under which a node is found, its long one first.
pub fn names_of(request: &CreateNode) -> Vec<String> {
    let name: &NodeName = &request.name;
    let own = [request.long_name.clone(), name.to_string(), format!("{name}.{}.io", request.lab_name)];
    own.into_iter().chain(request.spec.aliases.iter().cloned()).collect()
}
