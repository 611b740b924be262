//! Reading what the kernel sends, attribute by attribute.
//!
//! Only the few attributes that matter are read, and unknown or odd ones are stepped over, so that a newer kernel's
//! additions can never make us blind.

use netlink_packet_core::{NlaBuffer, NlasIterator};
use nix::errno::Errno;

pub(super) const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message as it came, header taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits a datagram into its messages; stops at the first that makes no sense.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let body = rest.get(HEADER..len)?;
        let message = Message { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, body };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes that follow a fixed header of `skip` bytes, as (kind without flags, value).
pub(crate) fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(body.get(skip..).unwrap_or_default())
        .map_while(Result::ok)
        .map(|nla: NlaBuffer<&[u8]>| (nla.kind(), nla.into_inner().get(4..).unwrap_or_default(), nla.value_length()))
        .map(|(kind, value, len)| (kind, value.get(..len).unwrap_or_default()))
}

/// The result that an `NLMSG_ERROR` or `NLMSG_DONE` carries: a number, zero for success, and the kernel's words.
pub(super) fn outcome(message: Message<'_>) -> Option<(Errno, Option<String>)> {
    let code = i32_of(message.body.get(..4)?)?;
    if code == 0 {
        return None;
    }
    let skip = match message.kind {
        NLMSG_DONE => 4,
        _ if message.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
        _ => 4 + (u32_at(message.body, 4)? as usize).next_multiple_of(4),
    };
    let words = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| attributes(message.body, skip).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG))
        .flatten()
        .map(|(_, text)| text_of(text));
    Some((Errno::from_raw(-code), words))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

pub(crate) fn i32_of(value: &[u8]) -> Option<i32> {
    u32_of(value).map(u32::cast_signed)
}

/// A number in the network's order.
pub(super) fn u16_be_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?))
}

pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    u16_at(value, 0)
}

/// A text attribute without its closing zero.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
