//! Queueing disciplines.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::Request;

/// Puts a queueing discipline without options on an interface; only good for learning whether the kernel has it.
pub(crate) fn try_qdisc(index: u32, kind: &str) -> Request {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle::ROOT;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    Request::new("try the queueing discipline", RouteNetlinkMessage::NewQueueDiscipline(message))
        .with(NLM_F_CREATE | NLM_F_EXCL)
}
