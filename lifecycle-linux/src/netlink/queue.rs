//! Reading back what [`shape`](super::shape) put on an interface, or what somebody else did.

use lifecycle_core::plugin::network::Shaping;
use netlink_packet_core::NLM_F_ECHO;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};

use super::decode::{attributes, text_of, u32_at};
use super::shape::{BELOW, TCA_NETEM_JITTER64, TCA_NETEM_LATENCY64, TCA_OPTIONS, TCA_TBF_PARMS, TCA_TBF_RATE64};
use super::{NetlinkError, Request, RouteSocket};

const TC_HEADER: usize = 20;
const TCA_KIND: u16 = 1;
/// Length of `struct tc_netem_qopt`, which the attributes follow.
const NETEM_HEADER: usize = 24;
/// Where the bytes per second stand in `struct tc_tbf_qopt`, and the loss in `struct tc_netem_qopt`.
const TBF_RATE: usize = 8;
const NETEM_LOSS: usize = 8;

/// A queueing discipline as the kernel describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discipline {
    /// Index of its interface.
    pub(crate) index: u32,
    /// It does nothing of what is looked for here: one that the kernel gave by itself, or no queue at all, which libvirt
    /// gives taps.
    pub(crate) is_default: bool,
    /// Its type, such as `tbf`.
    pub(crate) kind: String,
    /// What it does, as far as it is known.
    pub(crate) shaping: Shaping,
}

impl Discipline {
    /// Takes the body of a queueing discipline's message apart.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let find = |wanted| attributes(body, TC_HEADER).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let kind = text_of(find(TCA_KIND)?);
        let options = find(TCA_OPTIONS).unwrap_or_default();
        let shaping = match kind.as_str() {
            "tbf" => Shaping { rate: tbf(options), ..Shaping::default() },
            "netem" => netem(options),
            _ => Shaping::default(),
        };
        Some(Self {
            index: u32_at(body, 4)?,
            is_default: u32_at(body, 8)? >> 16 == 0 || kind == "noqueue",
            kind,
            shaping,
        })
    }

    /// Whether it is one of those that links are shaped with.
    fn is_known(&self) -> bool {
        ["tbf", "netem"].contains(&self.kind.as_str())
    }
}

fn tbf(options: &[u8]) -> Option<u64> {
    let mut rate = None;
    for (kind, value) in attributes(options, 0) {
        match kind {
            TCA_TBF_PARMS => rate = rate.or(u32_at(value, TBF_RATE).map(u64::from)),
            TCA_TBF_RATE64 => rate = u64_of(value),
            _ => {}
        }
    }
    rate.map(|bytes| bytes.saturating_mul(8))
}

fn netem(options: &[u8]) -> Shaping {
    let loss = u32_at(options, NETEM_LOSS).unwrap_or_default();
    let mut shaping = Shaping { loss: (loss > 0).then(|| f64::from(loss) / f64::from(u32::MAX)), ..Shaping::default() };
    for (kind, value) in attributes(options, NETEM_HEADER) {
        let micros = || u64_of(value).and_then(|nanos| (nanos / 1_000).try_into().ok()).filter(|micros| *micros > 0);
        match kind {
            TCA_NETEM_LATENCY64 => shaping.delay = micros(),
            TCA_NETEM_JITTER64 => shaping.jitter = micros(),
            _ => {}
        }
    }
    shaping
}

fn u64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?))
}

/// Asks for the queueing discipline at a place of an interface.
fn get(index: u32, parent: TcHandle) -> Request {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = parent;
    // Older kernels answer only those who want to hear what they caused.
    Request::new("read the queueing discipline", RouteNetlinkMessage::GetQueueDiscipline(message)).with(NLM_F_ECHO)
}

impl RouteSocket {
    /// What slows down what an interface sends. An error in words where it is a discipline that links are never given.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn shaping(&mut self, index: u32) -> Result<Result<Shaping, String>, NetlinkError> {
        self.shapings(&[index]).pop().unwrap_or(Ok(Ok(Shaping::default())))
    }

    /// As [`RouteSocket::shaping`] for many interfaces, in as few system calls as can be.
    pub fn shapings(&mut self, indices: &[u32]) -> Vec<Result<Result<Shaping, String>, NetlinkError>> {
        let tops = self.disciplines(indices, TcHandle::ROOT);
        let each = indices.iter().zip(tops).map(|(index, top)| {
            let Some(top) = top? else { return Ok(Ok(Shaping::default())) };
            if top.kind != "tbf" {
                return Ok(if top.is_known() { Ok(top.shaping) } else { Err(top.kind) });
            }
            Ok(match self.disciplines(&[*index], BELOW).pop().transpose()?.flatten() {
                None => Ok(top.shaping),
                Some(below) if below.kind == "netem" => Ok(Shaping { rate: top.shaping.rate, ..below.shaping }),
                Some(below) => Err(below.kind),
            })
        });
        each.collect()
    }

    /// What somebody put at a place of interfaces, which may be nothing.
    fn disciplines(&mut self, indices: &[u32], parent: TcHandle) -> Vec<Result<Option<Discipline>, NetlinkError>> {
        let requests: Vec<_> = indices.iter().map(|index| get(*index, parent)).collect();
        let read = |(index, answer): (&u32, Result<Vec<Vec<u8>>, NetlinkError>)| {
            let bodies = match answer {
                Err(error) if error.is_not_found() => return Ok(None),
                answer => answer?,
            };
            let mut found = bodies.iter().filter_map(|body| Discipline::decode(body));
            Ok(found.find(|it| it.index == *index && !it.is_default))
        };
        indices.iter().zip(self.ask_all(&requests)).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{netem as netem_content, tbf as tbf_content};
    use super::*;
    use lifecycle_core::topology::LinkAttrs;

    #[test]
    fn what_is_written_is_read_back() {
        for rate in [8_000, 1_000_000, 100_000_000_000] {
            assert_eq!(tbf(&tbf_content(rate, 1500)), Some(rate));
        }
        let attrs = LinkAttrs { delay: Some(5_000), jitter: Some(1_000), loss: Some(0.015), ..LinkAttrs::default() };
        assert!(netem(&netem_content(&attrs)).is_like(&Shaping::of(&attrs)));
        assert_eq!(netem(&netem_content(&LinkAttrs::default())), Shaping::default());
    }
}
