//! Where the interfaces of nodes are plugged in.

use serde::{Deserialize, Serialize};

use super::LinkRecord;
use crate::id::{LabId, LinkId, NodeId};
use crate::name::{HostName, IfName, NodeName, PluginName, PortName};
use crate::plugin::network::{EndIdentity, LinkIdentity};
use crate::policy::link::Side;
use crate::time::Timestamp;

/// Which interface of a node is which port of which switch.
///
/// It is read off the row of the link, so that it changes in the same commit and goes with it.
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
    /// Backend that builds the link.
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

impl InterfaceMapping {
    /// The mapping at one side of a link; nothing where that is no node. A vendor may have a name of its own for the interface.
    pub fn new(link: &LinkRecord, side: Side, kind: Option<&str>, vendor_interface: Option<PortName>) -> Option<Self> {
        let end = link.spec.ends()[side.index()].as_node()?;
        let built = link.built_at(side);
        let plugged = built.and_then(|(_, end)| end.plugged.clone());
        let (bridge, port, vlan) = plugged.map_or((None, None, None), |it| (Some(it.bridge), Some(it.port), it.vlan));
        let far = link.span.as_ref().filter(|_| side == Side::B).map(|span| &span.host);
        Some(Self {
            lab_id: link.lab,
            node_id: link.nodes[side.index()]?,
            node_name: end.node.clone(),
            interface: end.ifname.clone(),
            vendor_interface: vendor_interface.unwrap_or_else(|| end.port.clone()),
            vendor_kind: kind.map(str::to_owned),
            link_id: link.id,
            backend: link.backend.clone(),
            host_name: far.or(link.host.as_ref()).cloned(),
            bridge,
            port,
            vlan,
            vni: built.and_then(|(half, _)| half.tunnel()).map(|tunnel| tunnel.vni),
            created_at: link.created_at,
            updated_at: link.updated_at,
        })
    }
}

impl LinkRecord {
    /// What was built at the node of a side, and the half of the link that it is part of.
    pub fn built_at(&self, side: Side) -> Option<(&LinkIdentity, &EndIdentity)> {
        let interface = &self.spec.ends()[side.index()].as_node()?.ifname;
        let node = self.nodes[side.index()]?;
        self.halves().find_map(|(_, half)| {
            let mut ends = half.ends();
            let end = ends.find(|end| end.point.node == Some(node) && end.point.ifname == *interface)?;
            Some((half, end))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::attach::AttachKind;
    use crate::attach::{AttachPoint, Mac, Tunnel};
    use crate::machine::{LinkIntent, LinkState};
    use crate::model::Span;
    use crate::plugin::network::SwitchPort;
    use crate::policy::enforcement::Budget;
    use crate::policy::link::{LinkEnd, LinkKey, OperState};
    use crate::time::BootId;
    use crate::topology::{Endpoint, LinkSpec};

    fn interface(name: &str) -> IfName {
        IfName::new(name).unwrap()
    }

    fn end(node: Option<NodeId>, name: &str, place: AttachKind, vlan: u16) -> EndIdentity {
        let (mac, ifname) = (Mac([2, 0, 0, 0, 0, 1]), interface(name));
        let point = AttachPoint { node, incarnation: 1, ifname, mac, mtu: 1500, place };
        let plugged = Some(SwitchPort { bridge: "br".to_owned(), port: format!("lc{vlan}"), vlan: Some(vlan) });
        EndIdentity { point, namespace: 1, ifindex: 1, mac, plugged }
    }

    /// A link between two hosts, whose halves have one end each at a node and one at a tunnel.
    fn spanning() -> LinkRecord {
        let nodes = [1, 2].map(NodeId::from_u64);
        let name = |name| NodeName::new(name).unwrap();
        let spec =
            LinkSpec::new(Endpoint::node(name("n1"), interface("eth1")), Endpoint::node(name("n2"), interface("eth1")));
        let remote = "192.0.2.1".parse().unwrap();
        let tunnel = Tunnel { vni: 77, remote, local: None, port: 4789, source_port: None, parent: None };
        let half = |a, b| LinkIdentity {
            backend: PluginName::new("ovs").unwrap(),
            link: LinkId::from_u64(1),
            incarnation: 1,
            boot: BootId(1),
            a,
            b: Some(b),
            detail: BTreeMap::new(),
        };
        let tunnel = |vlan| end(None, "vni77", AttachKind::Tunnel(tunnel.clone()), vlan);
        let node = |side: usize, vlan| end(Some(nodes[side]), "eth1", AttachKind::HostNet, vlan);
        let host = |name| HostName::new(name).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        LinkRecord {
            id: LinkId::from_u64(1),
            lab: LabId::from_u64(1),
            key: LinkKey::new(LinkEnd::node(nodes[0], interface("eth1")), LinkEnd::node(nodes[1], interface("eth1")))
                .unwrap(),
            spec,
            nodes: nodes.map(Some),
            desired: LinkIntent::Up,
            actual: LinkState::Up,
            state_since: now,
            backend: PluginName::new("ovs").unwrap(),
            host: Some(host("h1")),
            identity: Some(half(node(0, 3), tunnel(3))),
            span: Some(Span { host: host("h2"), vni: 77, identity: Some(half(tunnel(9), node(1, 9))) }),
            path_mtu: None,
            incarnation: 1,
            budget: Budget::default(),
            verified_at: None,
            applied: None,
            carrier: [Some(true); 2],
            next_backend: None,
            parked: None,
            rebuild: false,
            oper: [OperState::new(None); 2],
            deadline: None,
            deleting: false,
            created_at: now,
            updated_at: now,
            generation: 1,
        }
    }

    #[test]
    fn each_end_is_mapped_on_its_own_host() {
        let mut link = spanning();
        let told = |link: &LinkRecord, side| {
            let it = InterfaceMapping::new(link, side, Some("linux"), None).unwrap();
            (it.node_name.to_string(), it.host_name.unwrap().to_string(), it.bridge, it.port, it.vlan, it.vni)
        };
        let text = |text: &str| text.to_owned();
        let br = || Some(text("br"));
        assert_eq!(told(&link, Side::A), (text("n1"), text("h1"), br(), Some(text("lc3")), Some(3), Some(77)));
        assert_eq!(told(&link, Side::B), (text("n2"), text("h2"), br(), Some(text("lc9")), Some(9), Some(77)));
        (link.identity, link.span) = (None, None);
        assert_eq!(told(&link, Side::B), (text("n2"), text("h1"), None, None, None, None), "nothing is built");
        link.spec.b = Endpoint::Dummy;
        assert_eq!(InterfaceMapping::new(&link, Side::B, None, None), None);
    }

    #[test]
    fn the_vendors_name_goes_before_the_users() {
        let name = |vendor| InterfaceMapping::new(&spanning(), Side::A, None, vendor).unwrap().vendor_interface;
        assert_eq!(name(None).to_string(), "eth1");
        assert_eq!(name(PortName::new("Ethernet1").ok()).to_string(), "Ethernet1");
    }
}
