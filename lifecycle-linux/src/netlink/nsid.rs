//! Numbers by which one namespace knows others.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::decode::{attributes, i32_of};
use super::{NetlinkError, Request, RouteSocket};

const NSID_HEADER: usize = 4;
const NETNSA_NSID: u16 = 1;

fn message(ns: BorrowedFd<'_>, id: Option<i32>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(ns.as_raw_fd().cast_unsigned()));
    message.attributes.extend(id.map(NsidAttribute::Id));
    message
}

impl RouteSocket {
    /// The number under which the socket's namespace knows `ns`, given now if there was none.
    ///
    /// A numbered namespace is heard by notification sockets with `NETLINK_LISTEN_ALL_NSID`, and requests can be aimed
    /// at it. The number goes with either namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn nsid(&mut self, ns: BorrowedFd<'_>) -> Result<i32, NetlinkError> {
        let assign = RouteNetlinkMessage::NewNsId(message(ns, Some(-1)));
        match self.run(Request::new("number the namespace", assign)) {
            Err(error) if !error.is_exists() => return Err(error),
            _ => {}
        }
        const READ: &str = "read the namespace's number";
        let answer = self.ask(Request::new(READ, RouteNetlinkMessage::GetNsId(message(ns, None))))?;
        let id = answer.iter().flat_map(|body| attributes(body, NSID_HEADER)).find(|(kind, _)| *kind == NETNSA_NSID);
        id.and_then(|(_, value)| i32_of(value)).filter(|id| *id >= 0).ok_or(NetlinkError::Malformed { operation: READ })
    }
}
