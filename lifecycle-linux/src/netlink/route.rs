//! Routes.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::decode::{attributes, u32_of};
use super::vxlan::address;
use super::{NetlinkError, Request, RouteSocket};

const ROUTE_HEADER: usize = 12;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
/// Where the header tells what becomes of packets, and what it tells of those that go nowhere: swallowed, unreachable,
/// prohibited.
const TYPE: usize = 7;
const GO_NOWHERE: [u8; 3] = [6, 7, 8];

/// The way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface that packets go out of.
    pub interface: u32,
    /// The address that packets come from unless their sender says another.
    pub source: Option<IpAddr>,
    /// The next host on the way, unless the address itself is.
    pub gateway: Option<IpAddr>,
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Sends what has no better route to `gateway` through the interface with index `through`; replaces an earlier such
/// route of the same family.
pub fn add_default_route(gateway: IpAddr, through: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Oif(through));
    Request::new("add the default route", RouteNetlinkMessage::NewRoute(message)).with(NLM_F_CREATE | NLM_F_REPLACE)
}

impl RouteSocket {
    /// The way that a packet takes to an address, from an address and out of the interface with an index where these are
    /// given; none when there is no way.
    ///
    /// # Errors
    /// Anything but the absence of a way.
    pub fn route_to(
        &mut self,
        to: IpAddr,
        from: Option<IpAddr>,
        through: Option<u32>,
    ) -> Result<Option<Route>, NetlinkError> {
        let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = whole(to);
        message.attributes.push(RouteAttribute::Destination(to.into()));
        if let Some(from) = from {
            message.header.source_prefix_length = whole(from);
            message.attributes.push(RouteAttribute::Source(from.into()));
        }
        message.attributes.extend(through.map(RouteAttribute::Oif));
        match self.ask(Request::new("look up the route", RouteNetlinkMessage::GetRoute(message))) {
            Ok(bodies) => Ok(bodies.iter().find_map(|body| decode(body))),
            // An address that is none of the host's, as the one to come from, is invalid.
            Err(error) => match error.errno() {
                Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

fn decode(body: &[u8]) -> Option<Route> {
    if body.get(TYPE).is_none_or(|kind| GO_NOWHERE.contains(kind)) {
        return None;
    }
    let find = |wanted| attributes(body, ROUTE_HEADER).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let address_in = |kind| find(kind).and_then(address);
    let interface = u32_of(find(RTA_OIF)?)?;
    Some(Route { interface, source: address_in(RTA_PREFSRC), gateway: address_in(RTA_GATEWAY) })
}
