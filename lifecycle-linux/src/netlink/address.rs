//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode::{attributes, u32_at};
use super::{NetlinkError, Request, RouteSocket};

const ADDRESS_HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The address with its prefix length.
    pub net: IpNet,
}

fn message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.family = if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    message
}

/// Gives an interface of the socket's namespace an address. IPv6 addresses are used at once, without looking for
/// duplicates: in a lab the file says who has which. An address that is there already stays.
pub fn add_address(index: u32, net: IpNet) -> Request {
    let mut message = message(index, net);
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    Request::new("add the address", RouteNetlinkMessage::NewAddress(message)).with(NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes an address off an interface of the socket's namespace.
pub fn delete_address(index: u32, net: IpNet) -> Request {
    Request::new("delete the address", RouteNetlinkMessage::DelAddress(message(index, net)))
}

impl RouteSocket {
    /// Lists all addresses of the socket's namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Restless`] when addresses come and go faster than they can be listed.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let request = Request::dump("list the addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        Ok(self.list(&request)?.iter().filter_map(|body| decode(body)).collect())
    }
}

fn decode(body: &[u8]) -> Option<Address> {
    // IPv4 has both attributes and means the local one; IPv6 without a peer has only the other.
    let find = |wanted| attributes(body, ADDRESS_HEADER).find(|(kind, _)| *kind == wanted);
    let (_, value) = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let address = match value.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return None,
    };
    Some(Address { index: u32_at(body, 4)?, net: IpNet::new(address, *body.get(1)?).ok()? })
}
