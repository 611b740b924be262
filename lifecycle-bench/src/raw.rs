//! The floor: a namespace and an interface at the least cost that the kernel has, with nothing of Lifecycle in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use lifecycle_core::attach::{NsAccess, NsRef};
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::measure::Result;

const ACK: u16 = 2;

/// A network namespace with a route netlink socket inside it.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) ns: OwnedFd,
    socket: OwnedFd,
}

impl Space {
    /// The namespace of the calling thread.
    pub(crate) fn own() -> Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Self { ns: File::open("/proc/thread-self/ns/net")?.into(), socket })
    }

    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        Self::many(1)?.pop().ok_or_else(|| "no namespace was made".into())
    }

    /// So many new ones. The calling thread passes through them, and ends where it began.
    pub(crate) fn many(count: usize) -> Result<Vec<Self>> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::own()
        };
        let made = (0..count).map(|_| make()).collect();
        setns(home, CloneFlags::CLONE_NEWNET)?;
        made
    }

    /// One that somebody else made.
    pub(crate) fn open(access: &NamespaceAccess, namespace: &NsRef) -> Result<Self> {
        let socket = access.open(namespace, SocketKind::Route)?;
        Ok(Self { ns: access.open_ns(namespace)?, socket })
    }

    /// The namespace as a backend is told of it.
    pub(crate) fn reference(&self) -> Result<NsRef> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.ns.as_raw_fd()).into();
        let cookie = lifecycle_linux::identity::netns_cookie(&self.socket)?;
        Ok(NsRef { access: NsAccess::Path { path }, cookie, boot: lifecycle_linux::identity::boot_id()? })
    }

    /// Sends one request and waits for the kernel to acknowledge it.
    fn ask(&self, link: LinkMessage, request: fn(LinkMessage) -> Message, flags: u16) -> Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request(link)));
        message.finalize();
        let mut buffer = vec![0; message.buffer_len().max(4096)];
        message.serialize(&mut buffer[..message.buffer_len()]);
        send(self.socket.as_raw_fd(), &buffer[..message.buffer_len()], MsgFlags::empty())?;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let word =
                |at: usize| buffer.get(at..at + 4).filter(|_| at + 4 <= length).and_then(|it| it.try_into().ok());
            let kind = word(4).map(u32::from_ne_bytes).ok_or("the kernel sent half a message")?;
            if kind & 0xffff == u32::from(ACK) {
                return match word(16).map(i32::from_ne_bytes) {
                    Some(0) => Ok(()),
                    Some(code) => Err(io::Error::from_raw_os_error(-code).into()),
                    None => Err("the kernel sent half an answer".into()),
                };
            }
        }
    }

    /// Makes a veth pair: the first end, set up, in this namespace, and the second one in `there`.
    pub(crate) fn veth(&self, name: &str, there: &Self, peer: &str) -> Result<()> {
        let mut second = named(peer);
        second.attributes.push(LinkAttribute::NetNsFd(there.ns.as_raw_fd()));
        let mut first = up(named(name));
        for message in [&mut first, &mut second] {
            // A queue per processor, the default, costs two grace periods of the kernel.
            message.attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
        }
        self.ask(pair(first, second), Message::NewLink, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a veth pair as it is usually made: both ends here, with the kernel's defaults.
    pub(crate) fn plain_veth(&self, name: &str, peer: &str) -> Result<()> {
        self.ask(pair(named(name), named(peer)), Message::NewLink, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Moves an interface of this namespace to another one.
    pub(crate) fn move_to(&self, name: &str, there: &Self) -> Result<()> {
        let mut message = named(name);
        message.attributes.push(LinkAttribute::NetNsFd(there.ns.as_raw_fd()));
        self.ask(message, Message::SetLink, 0)
    }

    /// Gives the interface with an index another name.
    pub(crate) fn rename(&self, old: &str, new: &str) -> Result<()> {
        let mut message = named(new);
        message.header.index = self.index(old)?;
        self.ask(message, Message::SetLink, 0)
    }

    fn index(&self, name: &str) -> Result<u32> {
        let mut buffer = vec![0; 16 << 10];
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Message::GetLink(named(name))));
        message.finalize();
        message.serialize(&mut buffer[..message.buffer_len()]);
        send(self.socket.as_raw_fd(), &buffer[..message.buffer_len()], MsgFlags::empty())?;
        let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = NetlinkMessage::<Message>::deserialize(&buffer[..length])?;
        match answer.payload {
            NetlinkPayload::InnerMessage(Message::NewLink(link)) => Ok(link.header.index),
            other => Err(format!("no interface {name}: {other:?}").into()),
        }
    }

    /// Sets an interface up.
    pub(crate) fn up(&self, name: &str) -> Result<()> {
        self.ask(up(named(name)), Message::SetLink, 0)
    }

    /// Deletes an interface.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.ask(named(name), Message::DelLink, 0)
    }

    /// Whether an interface exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.index(name).is_ok()
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn pair(mut first: LinkMessage, second: LinkMessage) -> LinkMessage {
    let data = InfoData::Veth(InfoVeth::Peer(second));
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)];
    first.attributes.push(LinkAttribute::LinkInfo(info));
    first
}
