//! Where the interfaces of nodes are plugged in.

use lifecycle_core::id::{LabId, LinkId, NodeId};
use lifecycle_core::model::InterfaceMapping as Mapping;
use lifecycle_core::name::{HostName, IfName, NodeName, PluginName, PortName};
use lifecycle_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Reconciled;

/// Which interface of a node is which port of which switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceMapping {
    /// Identifier of the lab.
    pub lab_id: LabId,
    /// Identifier of the node.
    pub node_id: NodeId,
    /// Name of the node.
    pub node_name: NodeName,
    /// Name of the interface in the node; a lab has one mapping for each.
    pub interface: IfName,
    /// What the node's vendor calls it, or else the node's user.
    pub vendor_interface: PortName,
    /// Kind of the node; none once it is no longer part of its lab.
    pub vendor_kind: Option<String>,
    /// The link that ends here.
    pub link_id: LinkId,
    /// Network backend that builds the link.
    pub backend: PluginName,
    /// Host of this end, once it is chosen.
    pub host_name: Option<HostName>,
    /// Bridge on the host; none as long as nothing is built, or where no switch is in between.
    pub bridge: Option<String>,
    /// Port of the bridge.
    pub port: Option<String>,
    /// Tag of the port's segment, where the bridge has several.
    pub vlan: Option<u16>,
    /// Network identifier of the tunnel that the link leaves the host through.
    pub vni: Option<u32>,
    /// When the link was made.
    pub created_at: Timestamp,
    /// When the link last changed.
    pub updated_at: Timestamp,
}

impl From<Mapping> for InterfaceMapping {
    fn from(mapping: Mapping) -> Self {
        Self {
            lab_id: mapping.lab_id,
            node_id: mapping.node_id,
            node_name: mapping.node_name,
            interface: mapping.interface,
            vendor_interface: mapping.vendor_interface,
            vendor_kind: mapping.vendor_kind,
            link_id: mapping.link_id,
            backend: mapping.backend,
            host_name: mapping.host_name,
            bridge: mapping.bridge,
            port: mapping.port,
            vlan: mapping.vlan,
            vni: mapping.vni,
            created_at: mapping.created_at,
            updated_at: mapping.updated_at,
        }
    }
}

/// What a check of a lab's links found, and where everything is plugged in since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Number of mappings.
    pub count: usize,
    /// What was found of the links.
    pub links: Reconciled,
    /// The mappings, by node and interface.
    pub items: Vec<InterfaceMapping>,
}
