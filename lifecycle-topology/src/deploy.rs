//! What must hold of a topology on the machine that it is deployed to: paths that exist and may be used, and everything
//! that needs an operator's permission.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use lifecycle_core::name::NodeName;
use lifecycle_core::topology::{NetworkMode, NodeSpec, Topology};
use serde::Serialize;

use crate::paths::{Permissions, permitted};

/// A reason why a node cannot be deployed as its topology says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The node.
    pub node: NodeName,
    /// The field of the lab file that asks for it.
    pub field: String,
    /// Why it is refused, and what to do.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}`, `{}`: {}", self.node, self.field, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// Checks a topology against the machine it is to be deployed to and what its operator allows. Nothing is changed.
///
/// A topology may have been stored, or made by a program, so this asks again what loading a file could only guess.
/// `canonical` is [`std::fs::canonicalize`] on this machine: it resolves links, and fails where nothing is. Whoever then
/// mounts a path must not follow links that were changed meanwhile.
pub fn check_deployment(
    topology: &Topology,
    permissions: &Permissions,
    canonical: &dyn Fn(&Path) -> io::Result<PathBuf>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for node in &topology.nodes {
        let mut refuse = |field: &str, reason: String| {
            refusals.push(Refusal { node: node.name.clone(), field: field.to_owned(), reason });
        };
        let usable = |path: &Path| permitted(path, &topology.directory, permissions, canonical).map(|_| ());
        for bind in &node.binds {
            usable(&bind.source).unwrap_or_else(|reason| refuse("binds", reason));
        }
        if let Some(config) = node.startup_config.as_deref().filter(|config| is_path(config)) {
            usable(Path::new(config)).unwrap_or_else(|reason| refuse("startup-config", reason));
        }
        for (field, permission) in needs(node, permissions) {
            refuse(field, format!("this needs the operator's permission: `permissions.{permission}`"));
        }
        for (field, reason) in misplaced(node, topology) {
            refuse(field, reason);
        }
    }
    refusals
}

/// Whether a start-up configuration is a path: not the text itself, nor something to be fetched.
fn is_path(config: &str) -> bool {
    !config.contains('\n') && !config.contains("://")
}

/// The fields that need a permission which was not given.
fn needs<'p>(node: &NodeSpec, permissions: &Permissions) -> Vec<(&'static str, &'p str)> {
    let is = |field: &str, value: &str| node.extra.get(field).and_then(|given| given.as_str()) == Some(value);
    let has =
        |field: &str| node.extra.get(field).and_then(|given| given.as_array()).is_some_and(|list| !list.is_empty());
    let privileged = node.extra.get("privileged").and_then(serde_json::Value::as_bool) == Some(true);
    let asks = [
        (node.network_mode == NetworkMode::Host, permissions.host_namespaces, "network-mode", "host-namespaces"),
        (is("pid-mode", "host"), permissions.host_namespaces, "pid-mode", "host-namespaces"),
        (is("cgroupns-mode", "host"), permissions.host_namespaces, "cgroupns-mode", "host-namespaces"),
        (privileged, permissions.privileged, "privileged", "privileged"),
        (has("cap-add"), permissions.privileged, "cap-add", "privileged"),
        (has("security-opts"), permissions.privileged, "security-opts", "privileged"),
        (has("devices"), permissions.devices, "devices", "devices"),
    ];
    asks.into_iter()
        .filter(|(asked, allowed, ..)| *asked && !allowed)
        .map(|(_, _, field, permission)| (field, permission))
        .collect()
}

/// Management addresses that the management network cannot serve.
fn misplaced(node: &NodeSpec, topology: &Topology) -> Vec<(&'static str, String)> {
    let Some(network) = topology.management.as_ref().filter(|_| node.network_mode == NetworkMode::Own) else {
        return Vec::new();
    };
    let families = [
        ("mgmt-ipv4", "ipv4-subnet", node.mgmt_ipv4.map(IpAddr::V4), network.ipv4.map(IpNet::V4)),
        ("mgmt-ipv6", "ipv6-subnet", node.mgmt_ipv6.map(IpAddr::V6), network.ipv6.map(IpNet::V6)),
    ];
    let wrong = |(field, subnet_field, address, subnet): (&'static str, &str, Option<IpAddr>, Option<IpNet>)| {
        let address = address.filter(|_| !network.extra.contains_key(subnet_field))?;
        match subnet {
            Some(subnet) if subnet.contains(&address) => None,
            Some(subnet) => Some((field, format!("{address} is not in the management subnet {subnet}"))),
            None => {
                Some((field, format!("the management network has no subnet for {address}; give `mgmt.{subnet_field}`")))
            }
        }
    };
    families.into_iter().filter_map(wrong).collect()
}
