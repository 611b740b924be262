//! Numbers by which one namespace knows others.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::decode::{attributes, i32_of};
use super::{NetlinkError, Request, RouteSocket};

const NSID_HEADER: usize = 4;
const NETNSA_NSID: u16 = 1;
/// Asks the kernel to choose a number.
const ANY: i32 = -1;
const READ: &str = "read the namespace's number";

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
        match self.given_nsid(ns)? {
            Some(id) => Ok(id),
            None => self.nsid_as(ns, ANY),
        }
    }

    /// As [`RouteSocket::nsid`], with a number to give to a namespace that has none; faster when that is free.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn nsid_as(&mut self, ns: BorrowedFd<'_>, wanted: i32) -> Result<i32, NetlinkError> {
        for wanted in [wanted, ANY] {
            let assign = RouteNetlinkMessage::NewNsId(message(ns, Some(wanted)));
            match self.run(Request::new("number the namespace", assign)) {
                Ok(()) if wanted >= 0 => return Ok(wanted),
                Ok(()) => {}
                // The namespace has a number, from somebody else or the kernel itself, or another one has this number.
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
            if let Some(id) = self.given_nsid(ns)? {
                return Ok(id);
            }
        }
        Err(NetlinkError::Malformed { operation: READ })
    }

    fn given_nsid(&mut self, ns: BorrowedFd<'_>) -> Result<Option<i32>, NetlinkError> {
        let answer = self.ask(Request::new(READ, RouteNetlinkMessage::GetNsId(message(ns, None))))?;
        let id = answer.iter().flat_map(|body| attributes(body, NSID_HEADER)).find(|(kind, _)| *kind == NETNSA_NSID);
        let id = id.and_then(|(_, value)| i32_of(value)).ok_or(NetlinkError::Malformed { operation: READ })?;
        Ok((id >= 0).then_some(id))
    }
}
