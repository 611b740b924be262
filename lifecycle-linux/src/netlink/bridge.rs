//! Ports of Linux bridges.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage};

use super::{Request, Which};

/// Mask of the link-local group addresses that a port lets through, so that it passes what a cable passes: LLDP, LACP,
/// 802.1X, spanning tree. All but pause frames, which the kernel never forwards.
pub const BRIDGE_PORT_FORWARD_ALL: u16 = 0xfffd;

/// What to change of a bridge's port; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortChange {
    /// Link-local group addresses to let through, one bit per address.
    pub group_fwd_mask: Option<u16>,
    /// Whether addresses are learned.
    pub learning: Option<bool>,
}

/// Changes the port that `which` is of its bridge, in the socket's namespace.
pub fn set_port(which: Which<'_>, change: PortChange) -> Request {
    let mut message: LinkMessage = which.message();
    let mut data = Vec::new();
    data.extend(change.group_fwd_mask.map(InfoBridgePort::GroupFwdMask));
    data.extend(change.learning.map(InfoBridgePort::Learning));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ]));
    Request::new("change the bridge port", RouteNetlinkMessage::NewLink(message))
}
