//! One socket that hears of every change to interfaces in many namespaces.
//!
//! The socket stands in a namespace, the hub, and hears every namespace to which the hub has given a number
//! ([`RouteSocket::nsid`](crate::netlink::RouteSocket::nsid)). The kernel drops notices when nobody reads them fast enough and says so; then everything
//! has to be looked at.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use lifecycle_core::plugin::network::Shaping;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, bind, recvmsg, setsockopt};

use crate::netlink::Link;
use crate::netlink::decode::{attributes, i32_of, messages};
use crate::netlink::queue::Discipline;
use crate::sys::sockopt::set_int;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_DELNSID: u16 = 89;
const NETNSA_NSID: u16 = 1;
const NSID_HEADER: usize = 4;
/// Wanted room for notices in bytes: a lab that goes up makes thousands before anybody reads one.
const RECEIVE_BUFFER: usize = 8 << 20;
const DATAGRAM: usize = 32 << 10;

/// What the kernel tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An interface was made or changed.
    Changed {
        /// The hub's number of its namespace; none for the hub itself.
        nsid: Option<i32>,
        /// The interface as it was then.
        link: Link,
    },
    /// An interface is gone.
    Gone {
        /// The hub's number of its namespace; none for the hub itself.
        nsid: Option<i32>,
        /// The interface as it was last.
        link: Link,
    },
    /// What slows an interface down was changed.
    Shaped {
        /// The hub's number of its namespace; none for the hub itself.
        nsid: Option<i32>,
        /// Index of the interface.
        index: u32,
        /// What was put there, one discipline at a time; none when all was taken away.
        shaping: Option<Shaping>,
    },
    /// A namespace lost its number, since it is gone.
    NamespaceGone {
        /// The number.
        nsid: i32,
    },
    /// Notices were lost, or came from a namespace that has no number any more: look at everything.
    Overrun,
}

/// A socket that hears of every change to interfaces in the namespaces that its own has numbered.
#[derive(Debug)]
pub struct NoticeSocket {
    fd: OwnedFd,
}

impl NoticeSocket {
    /// Starts listening on a fresh route netlink socket of the hub.
    ///
    /// # Errors
    /// When the process has no right to hear other namespaces.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        setsockopt(&fd, RcvBufForce, &RECEIVE_BUFFER).or_else(|_| setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER))?;
        set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, 1)?;
        // A socket without a port of its own is passed over: the kernel takes it for the sender.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_TC, libc::RTNLGRP_NSID] {
            set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group.cast_signed())?;
        }
        Ok(Self { fd })
    }

    /// Waits for news and returns them in their order; none once `stop` can be read or its other side is closed.
    ///
    /// # Errors
    /// When the socket fails. Lost notices are no error but [`Notice::Overrun`].
    pub fn receive(&self, stop: BorrowedFd<'_>) -> io::Result<Option<Vec<Notice>>> {
        loop {
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if fds[1].any() != Some(false) {
                return Ok(None);
            }
            let notices = self.receive_now()?;
            if !notices.is_empty() {
                return Ok(Some(notices));
            }
        }
    }

    /// Returns the news that are there without waiting, up to a bound so that the reader gets to act on them.
    ///
    /// # Errors
    /// As [`NoticeSocket::receive`].
    pub fn receive_now(&self) -> io::Result<Vec<Notice>> {
        let mut notices = Vec::new();
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..256 {
            let mut space = nix::cmsg_space!(libc::c_int);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT);
            let (len, nsid) = match received {
                Ok(message) => {
                    let nsid = message.cmsgs()?.find_map(nsid_of);
                    (message.bytes, nsid)
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    notices.push(Notice::Overrun);
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            if nsid.is_some_and(|id| id < 0) {
                notices.push(Notice::Overrun);
                continue;
            }
            notices.extend(messages(&buffer[..len]).filter_map(|message| decode(message.kind, message.body, nsid)));
        }
        Ok(notices)
    }
}

/// The sender's namespace, which the kernel tells beside the message unless it is the hub itself.
fn nsid_of(control: ControlMessageOwned) -> Option<i32> {
    match control {
        ControlMessageOwned::Unknown(unknown)
            if unknown.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && unknown.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            i32_of(&unknown.data_bytes)
        }
        _ => None,
    }
}

fn decode(kind: u16, body: &[u8], nsid: Option<i32>) -> Option<Notice> {
    match kind {
        RTM_NEWLINK => Some(Notice::Changed { nsid, link: Link::decode(body)? }),
        // In the bridge's own family the message says that an interface is no port any more.
        RTM_DELLINK if body.first() == Some(&(libc::AF_BRIDGE as u8)) => {
            Some(Notice::Changed { nsid, link: Link::decode(body)? })
        }
        RTM_DELLINK => Some(Notice::Gone { nsid, link: Link::decode(body)? }),
        RTM_NEWQDISC => {
            let queue = Discipline::decode(body)?;
            Some(Notice::Shaped { nsid, index: queue.index, shaping: (!queue.is_default).then_some(queue.shaping) })
        }
        RTM_DELQDISC => Some(Notice::Shaped { nsid, index: Discipline::decode(body)?.index, shaping: None }),
        // Numbers that other namespaces gave are nobody's business here.
        RTM_DELNSID if nsid.is_none() => {
            let (_, value) = attributes(body, NSID_HEADER).find(|(kind, _)| *kind == NETNSA_NSID)?;
            Some(Notice::NamespaceGone { nsid: i32_of(value)? })
        }
        _ => None,
    }
}
