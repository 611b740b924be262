//! Queueing disciplines that make an interface as slow, late or lossy as a link is to be.

use lifecycle_core::topology::LinkAttrs;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::Request;

pub(super) const TCA_TBF_PARMS: u16 = 1;
pub(super) const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
pub(super) const TCA_OPTIONS: u16 = 2;
pub(super) const TCA_NETEM_LATENCY64: u16 = 10;
pub(super) const TCA_NETEM_JITTER64: u16 = 11;
const LINKLAYER_ETHERNET: u8 = 1;
/// Frames that wait for a delay to pass: a gigabit per second of full frames for a tenth of a second.
const NETEM_LIMIT: u32 = 10_000;
/// The discipline for the rate, and the class in it that the other one hangs on.
const TOP: TcHandle = TcHandle { major: 1, minor: 0 };
pub(super) const BELOW: TcHandle = TcHandle { major: 1, minor: 1 };

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = parent;
    message
}

/// Takes an interface's queueing disciplines away; the kernel's own take their place. One that has none refuses with
/// "not found" or "invalid", which is no failure.
pub fn unshape(index: u32) -> Request {
    let message = message(index, TcHandle::ROOT);
    Request::new("take the queueing discipline away", RouteNetlinkMessage::DelQueueDiscipline(message))
}

/// The requests that give what an interface sends the rate, delay, jitter and loss of `attrs`, in place of what it had.
/// None when it is to have none of these; then [`unshape`] is what is meant.
pub fn shape(index: u32, attrs: &LinkAttrs) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut parent = TcHandle::ROOT;
    if let Some(rate) = attrs.rate {
        requests.push(qdisc(index, parent, "tbf", tbf(rate, attrs.mtu)));
        parent = BELOW;
    }
    if attrs.delay.is_some() || attrs.jitter.is_some() || attrs.loss.is_some() {
        requests.push(qdisc(index, parent, "netem", netem(attrs)));
    }
    requests
}

fn qdisc(index: u32, parent: TcHandle, kind: &str, content: Vec<u8>) -> Request {
    let mut message = message(index, parent);
    if parent == TcHandle::ROOT {
        message.header.handle = TOP;
    }
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    // The content of `TCA_OPTIONS` as it is: some kinds have a structure before their attributes.
    message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, content)));
    Request::new("set the queueing discipline", RouteNetlinkMessage::NewQueueDiscipline(message))
        .with(NLM_F_CREATE | NLM_F_REPLACE)
}

/// Appends an attribute.
fn push(content: &mut Vec<u8>, kind: u16, value: &[u8]) {
    content.extend((4 + value.len() as u16).to_ne_bytes());
    content.extend(kind.to_ne_bytes());
    content.extend(value);
    content.resize(content.len().next_multiple_of(4), 0);
}

/// A token bucket for `rate` bits per second: `struct tc_tbf_qopt` and what does not fit into it.
pub(super) fn tbf(rate: u64, mtu: u32) -> Vec<u8> {
    let bytes = rate.div_ceil(8).max(1);
    // What may go at once: two frames at least, and what passes in 10 ms, since the kernel's clock may tick that slowly.
    let burst = u32::try_from(bytes / 100).unwrap_or(u32::MAX).max(2 * (mtu + 18));
    // What may wait: 50 ms at this rate, and some frames at least.
    let limit = u32::try_from(bytes / 20).unwrap_or(u32::MAX).max(10 * (mtu + 18)).saturating_add(burst);
    let mut parameters = Vec::new();
    let speed = u32::try_from(bytes).unwrap_or(u32::MAX);
    parameters.extend([0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    parameters.extend(speed.to_ne_bytes());
    // No peak rate.
    parameters.extend([0; 12]);
    parameters.extend(limit.to_ne_bytes());
    // Buffer and MTU in ticks; the bytes below take their place.
    parameters.extend([0; 8]);
    let mut content = Vec::new();
    push(&mut content, TCA_TBF_PARMS, &parameters);
    push(&mut content, TCA_TBF_BURST, &burst.to_ne_bytes());
    if u64::from(speed) < bytes {
        push(&mut content, TCA_TBF_RATE64, &bytes.to_ne_bytes());
    }
    content
}

/// Delay, jitter and loss: `struct tc_netem_qopt` and the delays in nanoseconds.
pub(super) fn netem(attrs: &LinkAttrs) -> Vec<u8> {
    let nanoseconds = |micros: Option<u32>| i64::from(micros.unwrap_or_default()) * 1_000;
    let share = attrs.loss.unwrap_or_default().clamp(0.0, 1.0);
    let loss = (share * f64::from(u32::MAX)) as u32;
    let mut content = Vec::new();
    for word in [0, NETEM_LIMIT, loss, 0, 0, 0] {
        content.extend(word.to_ne_bytes());
    }
    push(&mut content, TCA_NETEM_LATENCY64, &nanoseconds(attrs.delay).to_ne_bytes());
    push(&mut content, TCA_NETEM_JITTER64, &nanoseconds(attrs.jitter).to_ne_bytes());
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_shaped() {
        assert!(shape(2, &LinkAttrs::default()).is_empty());
        let all = LinkAttrs { rate: Some(1_000_000), loss: Some(0.5), ..LinkAttrs::default() };
        assert_eq!(shape(2, &all).len(), 2);
    }

    #[test]
    fn structures_have_the_kernels_sizes() {
        // tc_tbf_qopt has 36 bytes, tc_netem_qopt 24.
        assert_eq!(tbf(1_000_000, 1500).len(), 4 + 36 + 8);
        assert_eq!(tbf(100_000_000_000, 1500).len(), 4 + 36 + 8 + 12);
        assert_eq!(netem(&LinkAttrs { delay: Some(5), ..LinkAttrs::default() }).len(), 24 + 2 * 12);
    }

    /// Byte for byte, since not every kernel can try it: `tc_netem_qopt` (latency, limit, loss, gap, duplicate, jitter),
    /// then latency and jitter in nanoseconds, each with its length and kind before it.
    #[test]
    fn netem_is_written_as_the_kernel_reads_it() {
        let attrs = LinkAttrs { delay: Some(5_000), jitter: Some(1_000), loss: Some(0.5), ..LinkAttrs::default() };
        let words = |words: [u32; 6]| words.map(u32::to_ne_bytes).concat();
        let attribute =
            |kind: u16, value: i64| [&12u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat();
        let expected = [words([0, 10_000, 0x7fff_ffff, 0, 0, 0]), attribute(10, 5_000_000), attribute(11, 1_000_000)];
        assert_eq!(netem(&attrs), expected.concat());
    }
}
