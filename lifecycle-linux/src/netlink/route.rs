//! Routes.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Request;

/// Sends what has no better route to `gateway` through the interface with index `through`; replaces an earlier such
/// route of the same family.
pub fn add_default_route(gateway: IpAddr, through: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Oif(through));
    Request::new("add the default route", RouteNetlinkMessage::NewRoute(message)).with(NLM_F_CREATE | NLM_F_REPLACE)
}
