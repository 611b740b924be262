//! One request to the kernel.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

/// One request to the kernel, made by the functions of this module and carried out by [`super::RouteSocket`].
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) operation: &'static str,
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// A request that the kernel acknowledges; `operation` completes "cannot …" in errors.
    pub(super) fn new(operation: &'static str, message: RouteNetlinkMessage) -> Self {
        Self { operation, message, flags: NLM_F_REQUEST | NLM_F_ACK }
    }

    /// A request for a list.
    pub(super) fn dump(operation: &'static str, message: RouteNetlinkMessage) -> Self {
        Self { operation, message, flags: NLM_F_REQUEST | NLM_F_DUMP }
    }

    /// The same with further flags.
    pub(super) fn with(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// Appends the request to `buffer` under a sequence number.
    pub(super) fn encode(&self, sequence: u32, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = self.flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self.message.clone()));
        message.finalize();
        let start = buffer.len();
        // Messages in one buffer start at multiples of four bytes.
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..start + message.buffer_len()]);
    }
}
