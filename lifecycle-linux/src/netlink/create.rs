//! Creating interfaces in their final places.
//!
//! An interface is never moved after it was made: moving one waits for a grace period of the kernel (some 17 ms), and
//! in between it stands in the wrong place under a name that may be taken.

use std::os::fd::BorrowedFd;

use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_core::topology::MacvlanMode;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};

use super::Request;
use super::link::in_namespace;

/// An interface to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    /// Name.
    pub name: &'a IfName,
    /// Address; the kernel draws one when absent.
    pub mac: Option<Mac>,
    /// Maximum transmission unit in bytes; the type's default when absent.
    pub mtu: Option<u32>,
    /// Group that it is marked with; 0 is the default of all interfaces.
    pub group: u32,
    /// Where it is made; the socket's namespace when absent.
    pub ns: Option<BorrowedFd<'a>>,
    /// Index of the bridge that it becomes a port of at birth, which must be in the same namespace.
    pub master: Option<u32>,
    /// Whether it is set up at once. The second end of a veth cannot be: the kernel refuses.
    pub up: bool,
}

impl<'a> NewLink<'a> {
    /// An interface with defaults, not set up, in the socket's namespace.
    pub fn new(name: &'a IfName) -> Self {
        Self { name, mac: None, mtu: None, group: 0, ns: None, master: None, up: false }
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.as_str().to_owned()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend((self.group != 0).then_some(LinkAttribute::Group(self.group)));
        attributes.extend(self.ns.map(in_namespace));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        message
    }

    pub(super) fn request(&self, operation: &'static str, info: Vec<LinkInfo>, lower: Option<u32>) -> Request {
        let mut message = self.message();
        message.attributes.extend(lower.map(LinkAttribute::Link));
        message.attributes.push(LinkAttribute::LinkInfo(info));
        Request::new(operation, RouteNetlinkMessage::NewLink(message)).with(NLM_F_CREATE | NLM_F_EXCL)
    }
}

/// A veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// First end.
    pub a: NewLink<'a>,
    /// Second end; its `up` and `master` are not looked at, since the kernel refuses them at birth.
    pub b: NewLink<'a>,
}

/// Makes both ends of a veth in their namespaces with one message: both exist afterwards, or neither.
pub fn create_veth(veth: &Veth<'_>) -> Request {
    // A veth uses one queue in each direction. Unless told so, the kernel reserves one per processor and then waits for
    // two grace periods to give the others up, which takes longer than all the rest.
    let queues = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let mut peer = NewLink { up: false, master: None, ..veth.b }.message();
    peer.attributes.extend(queues.clone());
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
    let mut message = veth.a.message();
    message.attributes.extend(queues);
    message.attributes.push(LinkAttribute::LinkInfo(info));
    Request::new("create the veth pair", RouteNetlinkMessage::NewLink(message)).with(NLM_F_CREATE | NLM_F_EXCL)
}

/// Makes a bridge without spanning tree, which forwards at once and does not filter multicast.
pub fn create_bridge(link: &NewLink<'_>) -> Request {
    let data = vec![InfoBridge::MulticastSnooping(false)];
    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))];
    link.request("create the bridge", info, None)
}

/// Makes a macvlan as a child of the interface with index `parent` in the socket's namespace.
pub fn create_macvlan(link: &NewLink<'_>, parent: u32, mode: MacvlanMode) -> Request {
    let mode = match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
        MacvlanMode::Source => MacVlanMode::Source,
    };
    let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]);
    link.request("create the macvlan", vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(data)], Some(parent))
}

/// Makes a dummy, which swallows what is sent to it. Not every kernel has them.
pub fn create_dummy(link: &NewLink<'_>) -> Request {
    link.request("create the dummy interface", vec![LinkInfo::Kind(InfoKind::Dummy)], None)
}

/// Makes an intermediate functional block, which swallows what is sent to it unless somebody redirects it there: as good
/// as a dummy where the kernel has none.
pub fn create_ifb(link: &NewLink<'_>) -> Request {
    link.request("create the stand-in for a dummy interface", vec![LinkInfo::Kind(InfoKind::Ifb)], None)
}

/// Makes an interface of any type, for trying whether the kernel has it.
pub(crate) fn create_typed(link: &NewLink<'_>, kind: InfoKind, data: Option<InfoData>, lower: Option<u32>) -> Request {
    let mut info = vec![LinkInfo::Kind(kind)];
    info.extend(data.map(LinkInfo::Data));
    link.request("create the interface", info, lower)
}
