//! VXLAN tunnels (RFC 7348) between two hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo};

use super::decode::{attributes, u16_be_of, u32_of};
use super::{NewLink, Request, Which};

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_PORT_RANGE: u16 = 10;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// What a VXLAN device carries frames through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// Address of the far end; none of a device that looks it up for each frame.
    pub remote: Option<IpAddr>,
    /// Address of this end; by the route to the far end when absent.
    pub local: Option<IpAddr>,
    /// UDP port of both ends.
    pub port: u16,
    /// UDP ports that packets come from, the second not among them; both 0 when the kernel chooses.
    pub source_ports: (u16, u16),
    /// Index of the interface that packets go out of; by the route to the far end when absent.
    pub lower: Option<u32>,
}

impl Vxlan {
    /// Takes the data of a VXLAN device apart.
    pub(super) fn decode(data: &[u8]) -> Self {
        let mut vxlan = Self::default();
        for (kind, value) in attributes(data, 0) {
            match kind {
                IFLA_VXLAN_ID => vxlan.vni = u32_of(value).unwrap_or_default(),
                IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.remote = address(value),
                IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = address(value),
                IFLA_VXLAN_LINK => vxlan.lower = u32_of(value).filter(|index| *index != 0),
                IFLA_VXLAN_PORT => vxlan.port = u16_be_of(value).unwrap_or_default(),
                IFLA_VXLAN_PORT_RANGE => {
                    let port = |at: usize| value.get(at..).and_then(u16_be_of).unwrap_or_default();
                    vxlan.source_ports = (port(0), port(2));
                }
                _ => {}
            }
        }
        vxlan
    }

    fn addresses(&self) -> Vec<InfoVxlan> {
        let mut data = Vec::new();
        data.extend(self.remote.map(|remote| match remote {
            IpAddr::V4(remote) => InfoVxlan::Group(remote),
            IpAddr::V6(remote) => InfoVxlan::Group6(remote),
        }));
        data.extend(self.local.map(|local| match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        }));
        data
    }
}

pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    let address = match value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
        _ => return None,
    };
    Some(address).filter(|address| !address.is_unspecified())
}

/// Makes a VXLAN device whose packets go to one far end only: it learns no other from what arrives. Packets bear
/// checksums, without which IPv6 takes none.
///
/// An identifier that another such device of the namespace has is refused as existing, as a name would be.
pub fn create_vxlan(link: &NewLink<'_>, vxlan: &Vxlan) -> Request {
    let mut data = vec![InfoVxlan::Id(vxlan.vni)];
    data.extend(vxlan.addresses());
    data.extend(vxlan.lower.map(InfoVxlan::Link));
    data.push(InfoVxlan::Learning(false));
    if vxlan.source_ports != (0, 0) {
        data.push(InfoVxlan::PortRange(vxlan.source_ports));
    }
    data.push(InfoVxlan::Port(vxlan.port));
    let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))];
    link.request("create the VXLAN device", info, None)
}

/// Leads a VXLAN device to the addresses of `vxlan` while it stands; all else of it stays. The kernel takes only
/// addresses of the family that it was made with.
pub fn redirect_vxlan(which: Which<'_>, vxlan: &Vxlan) -> Request {
    let mut data = vxlan.addresses();
    if vxlan.local.is_none() {
        data.push(match vxlan.remote {
            Some(IpAddr::V6(_)) => InfoVxlan::Local6(Ipv6Addr::UNSPECIFIED),
            _ => InfoVxlan::Local(Ipv4Addr::UNSPECIFIED),
        });
    }
    let mut message = which.message();
    let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))];
    message.attributes.push(LinkAttribute::LinkInfo(info));
    Request::new("change the addresses of the VXLAN device", RouteNetlinkMessage::NewLink(message))
}
