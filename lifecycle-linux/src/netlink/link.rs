//! Reading, changing and deleting interfaces.

use std::os::fd::{AsRawFd, BorrowedFd};

use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage,
};
use nix::libc;

use super::decode::{attributes, i32_of, text_of, u16_of, u32_at, u32_of};
use super::{NetlinkError, Request, RouteSocket, Vxlan};

/// Length of the fixed part of a link message.
const LINK_HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_GROUP_FWD_MASK: u16 = 31;
const BR_STATE_FORWARDING: u8 = 3;

/// Which interface is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// By its index, the only sure way.
    Index(u32),
    /// By its name, which another interface may have taken meanwhile.
    Name(&'a IfName),
}

impl Which<'_> {
    pub(super) fn message(self) -> LinkMessage {
        let mut message = LinkMessage::default();
        match self {
            Self::Index(index) => message.header.index = index,
            Self::Name(name) => message.attributes.push(LinkAttribute::IfName(name.as_str().to_owned())),
        }
        message
    }
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace; not used again while the namespace lives, until the numbers wrap.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// Address, where it is an Ethernet one.
    pub mac: Option<Mac>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Group, 0 by default.
    pub group: u32,
    /// Whether it is set up.
    pub admin_up: bool,
    /// Whether it has carrier. An interface that is not set up has none.
    pub carrier: bool,
    /// Index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// Index of what it hangs on: a veth's peer, a macvlan's parent.
    pub lower: Option<u32>,
    /// Namespace of `lower` as numbered in the namespace of the socket that asked, or in the interface's own when the
    /// kernel sent the description by itself; none when both are in one namespace.
    pub lower_nsid: Option<i32>,
    /// Free text.
    pub alias: Option<String>,
    /// Type of the interface, such as `veth`; none for hardware and loopback.
    pub kind: Option<String>,
    /// What it does as a port of its bridge.
    pub port: Option<Port>,
    /// What it carries frames through, if it is a VXLAN device.
    pub vxlan: Option<Vxlan>,
}

/// What an interface does as a port of a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Whether frames pass. A port whose interface or bridge is down passes none.
    pub forwarding: bool,
    /// Link-local group addresses that it lets through, one bit per address.
    pub group_fwd_mask: u16,
}

impl Port {
    fn decode(data: &[u8]) -> Self {
        let mut port = Self::default();
        for (kind, value) in attributes(data, 0) {
            match kind {
                IFLA_BRPORT_STATE => port.forwarding = value.first() == Some(&BR_STATE_FORWARDING),
                IFLA_BRPORT_GROUP_FWD_MASK => port.group_fwd_mask = u16_of(value).unwrap_or_default(),
                _ => {}
            }
        }
        port
    }
}

impl Link {
    /// Takes the body of a link message apart.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let flags = u32_at(body, 8)?;
        let mut link = Self {
            index: u32_at(body, 4)?,
            name: String::new(),
            mac: None,
            mtu: 0,
            group: 0,
            admin_up: flags & LinkFlags::Up.bits() != 0,
            carrier: flags & LinkFlags::LowerUp.bits() != 0,
            master: None,
            lower: None,
            lower_nsid: None,
            alias: None,
            kind: None,
            port: None,
            vxlan: None,
        };
        for (kind, value) in attributes(body, LINK_HEADER) {
            match kind {
                IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                IFLA_IFNAME => link.name = text_of(value),
                IFLA_MTU => link.mtu = u32_of(value)?,
                IFLA_LINK => link.lower = u32_of(value),
                IFLA_MASTER => link.master = u32_of(value),
                // The bridge's own family tells of a port thus.
                IFLA_PROTINFO if body.first() == Some(&(libc::AF_BRIDGE as u8)) => {
                    link.port = Some(Port::decode(value))
                }
                IFLA_LINKINFO => link.decode_info(value),
                IFLA_IFALIAS => link.alias = Some(text_of(value)),
                IFLA_GROUP => link.group = u32_of(value)?,
                IFLA_LINK_NETNSID => link.lower_nsid = i32_of(value).filter(|id| *id >= 0),
                _ => {}
            }
        }
        Some(link)
    }

    fn decode_info(&mut self, info: &[u8]) {
        for (kind, value) in attributes(info, 0) {
            match kind {
                IFLA_INFO_KIND => self.kind = Some(text_of(value)),
                // The kernel tells the kind first.
                IFLA_INFO_DATA if self.kind.as_deref() == Some("vxlan") => self.vxlan = Some(Vxlan::decode(value)),
                IFLA_INFO_SLAVE_DATA => self.port = Some(Port::decode(value)),
                _ => {}
            }
        }
    }
}

fn get(mut message: LinkMessage) -> RouteNetlinkMessage {
    // Counters are half of the answer and nobody here reads them.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Asks for one interface of the socket's namespace.
pub fn get_link(which: Which<'_>) -> Request {
    Request::new("read the interface", get(which.message()))
}

/// Deletes an interface; a veth takes its peer along. Waits for some 20 ms, in which nothing else can be changed.
pub fn delete_link(which: Which<'_>) -> Request {
    Request::new("delete the interface", RouteNetlinkMessage::DelLink(which.message()))
}

/// Deletes all interfaces of a group, in one grace period of the kernel for all of them. A group without interfaces is
/// "not found".
pub fn delete_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request::new("delete the interfaces", RouteNetlinkMessage::DelLink(message))
}

/// What to change of an interface; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// Set it up or down.
    pub up: Option<bool>,
    /// Maximum transmission unit in bytes.
    pub mtu: Option<u32>,
    /// Address.
    pub mac: Option<Mac>,
    /// Free text; the kernel keeps 255 bytes.
    pub alias: Option<&'a str>,
    /// Index of the bridge that it becomes a port of; 0 takes it off its bridge.
    pub master: Option<u32>,
    /// Group that it is marked with.
    pub group: Option<u32>,
    /// Whether the kernel gives it an IPv6 address when it is set up the next time. Without one, the kernel sends
    /// nothing through it by itself but reports of multicast groups.
    pub link_local: Option<bool>,
}

/// Changes an interface of the socket's namespace, all in one go.
pub fn change_link(which: Which<'_>, change: &Change<'_>) -> Request {
    let mut message = which.message();
    if let Some(up) = change.up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(change.alias.map(|text| LinkAttribute::IfAlias(text.to_owned())));
    message.attributes.extend(change.master.map(LinkAttribute::Controller));
    message.attributes.extend(change.group.map(LinkAttribute::Group));
    message.attributes.extend(change.link_local.map(|on| {
        let mode = if on { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None };
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)])])
    }));
    Request::new("change the interface", RouteNetlinkMessage::SetLink(message))
}

pub(super) fn in_namespace(ns: BorrowedFd<'_>) -> LinkAttribute {
    LinkAttribute::NetNsFd(ns.as_raw_fd())
}

impl RouteSocket {
    /// Reads one interface; none when it does not exist.
    ///
    /// # Errors
    /// Anything but the interface's absence.
    pub fn link(&mut self, which: Which<'_>) -> Result<Option<Link>, NetlinkError> {
        self.links_of(&[get_link(which)]).pop().unwrap_or(Ok(None))
    }

    /// Reads many interfaces in as few system calls as can be. The requests are those of [`get_link`].
    pub fn links_of(&mut self, requests: &[Request]) -> Vec<Result<Option<Link>, NetlinkError>> {
        let read = |answer: Result<Vec<Vec<u8>>, NetlinkError>| match answer {
            Ok(bodies) => Ok(bodies.iter().find_map(|body| Link::decode(body))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        self.ask_all(requests).into_iter().map(read).collect()
    }

    /// Lists the ports of the bridge with this index.
    ///
    /// # Errors
    /// As [`RouteSocket::links`].
    pub fn ports(&mut self, bridge: u32) -> Result<Vec<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(bridge));
        let request = Request::dump("list the ports of the bridge", get(message));
        Ok(self.list(&request)?.iter().filter_map(|body| Link::decode(body)).collect())
    }

    /// Lists all interfaces.
    ///
    /// # Errors
    /// [`NetlinkError::Restless`] when interfaces come and go faster than they can be listed.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = Request::dump("list the interfaces", get(LinkMessage::default()));
        Ok(self.list(&request)?.iter().filter_map(|body| Link::decode(body)).collect())
    }
}
