//! The key of a link, and the operational state of its ends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{Display, EnumString, VariantArray};

use crate::id::NodeId;
use crate::name::IfName;

/// One of the two sides of a link, in the order in which its user wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// Its place in an array of two.
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// To whom an end of a link belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndOwner {
    /// A node; only one link may use an interface of it.
    Node(NodeId),
    /// The host on which the node of the other end runs; only one link may use an interface of it.
    Host,
    /// Something that many links may share, or nothing: a macvlan parent, a foreign tunnel, a dummy.
    Shared,
}

/// One end of a link: whose, and which interface of it by its canonical name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkEnd {
    /// Whose it is.
    pub owner: EndOwner,
    /// Canonical name of the interface; for a dummy, that of the other end.
    pub interface: IfName,
}

impl LinkEnd {
    /// The end at an interface of a node.
    pub const fn node(node: NodeId, interface: IfName) -> Self {
        Self { owner: EndOwner::Node(node), interface }
    }

    /// Whether two links with this end would be in each other's way.
    pub fn is_exclusive(&self) -> bool {
        self.owner != EndOwner::Shared
    }
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner {
            EndOwner::Node(node) => write!(f, "{node}")?,
            EndOwner::Host => f.write_str("host")?,
            EndOwner::Shared => f.write_str("shared")?,
        }
        write!(f, ":{}", self.interface)
    }
}

/// The identity of a link to its user: its two ends, whichever was written first.
///
/// Its text is unique too, `end/end`, since neither `:` nor `/` occurs in the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    low: LinkEnd,
    high: LinkEnd,
}

/// Not the key of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLinkKey {
    /// Both ends are one.
    #[error("both ends of the link are {0}; a link needs two different interfaces")]
    SameEnd(LinkEnd),
    /// The text of a key is two ends.
    #[error(
        "`{0}` is not a link key: expected two of `node:interface`, `host:interface` or `shared:interface` with `/` between"
    )]
    Text(String),
}

impl LinkKey {
    /// The key of the link between two ends.
    ///
    /// # Errors
    /// [`InvalidLinkKey::SameEnd`] when they are the same interface.
    pub fn new(a: LinkEnd, b: LinkEnd) -> Result<Self, InvalidLinkKey> {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Ok(Self { low: a, high: b }),
            std::cmp::Ordering::Greater => Ok(Self { low: b, high: a }),
            std::cmp::Ordering::Equal => Err(InvalidLinkKey::SameEnd(a)),
        }
    }

    /// Both ends, in ascending order.
    pub fn ends(&self) -> [&LinkEnd; 2] {
        [&self.low, &self.high]
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.low, self.high)
    }
}

impl FromStr for LinkKey {
    type Err = InvalidLinkKey;

    fn from_str(text: &str) -> Result<Self, InvalidLinkKey> {
        let end = |text: &str| {
            let (owner, interface) = text.split_once(':')?;
            let owner = match owner {
                "host" => EndOwner::Host,
                "shared" => EndOwner::Shared,
                node => EndOwner::Node(node.parse().ok()?),
            };
            Some(LinkEnd { owner, interface: IfName::new(interface).ok()? })
        };
        let ends = text.split_once('/').and_then(|(a, b)| Some((end(a)?, end(b)?)));
        let (a, b) = ends.ok_or_else(|| InvalidLinkKey::Text(text.chars().take(80).collect()))?;
        Self::new(a, b)
    }
}

impl Serialize for LinkKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why an end of a link does not carry frames as it should, nearest cause first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperReason {
    /// Its user wants it down.
    AdminDown,
    /// The node at this end does not run.
    LocalNodeDown,
    /// The interface at this end is missing or down.
    LocalInterfaceDown,
    /// The host at the other end cannot be reached.
    PeerHostOffline,
    /// The node at the other end does not run.
    PeerNodeDown,
    /// The interface at the other end is missing or down.
    PeerInterfaceDown,
    /// What is between the ends passes nothing.
    TransportDown,
    /// What is between the ends loses frames. The end is up nevertheless.
    TransportDegraded,
}

/// What is true at one end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndFacts {
    /// Whether its host can be reached.
    pub host_online: bool,
    /// Whether its node runs; true for an end that is not at a node.
    pub node_running: bool,
    /// Whether its interface is there and up.
    pub interface_up: bool,
}

/// What is true between the ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum Transport {
    /// Frames pass.
    Up,
    /// Some frames pass.
    Degraded,
    /// No frame passes, or nobody knows.
    Down,
}

/// Why the `local` end does not carry frames as it should; nothing when it does.
pub const fn oper_reason(admin_up: bool, local: EndFacts, peer: EndFacts, transport: Transport) -> Option<OperReason> {
    if !admin_up {
        Some(OperReason::AdminDown)
    } else if !local.node_running {
        Some(OperReason::LocalNodeDown)
    } else if !local.interface_up {
        Some(OperReason::LocalInterfaceDown)
    } else if !peer.host_online {
        Some(OperReason::PeerHostOffline)
    } else if !peer.node_running {
        Some(OperReason::PeerNodeDown)
    } else if !peer.interface_up {
        Some(OperReason::PeerInterfaceDown)
    } else {
        match transport {
            Transport::Up => None,
            Transport::Degraded => Some(OperReason::TransportDegraded),
            Transport::Down => Some(OperReason::TransportDown),
        }
    }
}

/// The operational state of one end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperState {
    /// Whether it carries frames.
    pub up: bool,
    /// Why not, or why not as well as it should.
    pub reason: Option<OperReason>,
    /// Grows by one with each change, so that of two states the newer can be told.
    pub epoch: u64,
}

impl OperState {
    /// The first state of an end.
    pub const fn new(reason: Option<OperReason>) -> Self {
        Self { up: Self::carries(reason), reason, epoch: 1 }
    }

    /// Takes in what [`oper_reason`] says now; tells whether anything changed.
    pub fn update(&mut self, reason: Option<OperReason>) -> bool {
        let changed = self.reason != reason;
        if changed {
            *self = Self { epoch: self.epoch + 1, ..Self::new(reason) };
        }
        changed
    }

    const fn carries(reason: Option<OperReason>) -> bool {
        matches!(reason, None | Some(OperReason::TransportDegraded))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end() -> impl Strategy<Value = LinkEnd> {
        let owner = prop_oneof![
            (0u64..4).prop_map(|n| EndOwner::Node(NodeId::from_u64(n))),
            Just(EndOwner::Host),
            Just(EndOwner::Shared),
        ];
        (owner, "[a-z!-.]{1,3}")
            .prop_filter_map("interface", |(owner, name)| Some(LinkEnd { owner, interface: IfName::new(name).ok()? }))
    }

    proptest! {
        #[test]
        fn keys_have_no_direction_and_a_unique_text(a in end(), b in end(), c in end(), d in end()) {
            let key = LinkKey::new(a.clone(), b.clone());
            prop_assert_eq!(&key, &LinkKey::new(b.clone(), a.clone()));
            prop_assert_eq!(key.is_err(), a == b);
            let Ok(key) = key else { return Ok(()) };
            prop_assert_eq!(&key.to_string().parse::<LinkKey>().unwrap(), &key);
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(&serde_json::from_str::<LinkKey>(&json).unwrap(), &key);
            if let Ok(other) = LinkKey::new(c.clone(), d.clone()) {
                let same = (a == c && b == d) || (a == d && b == c);
                prop_assert_eq!(key == other, same);
                prop_assert_eq!(key.to_string() == other.to_string(), same);
            }
        }
    }

    #[test]
    fn a_written_key_may_have_either_order() {
        let text = "host:eth5/000000000001:eth1";
        let key: LinkKey = text.parse().unwrap();
        assert_eq!(key.to_string(), "000000000001:eth1/host:eth5");
        for bad in ["", "host:eth1", "host:eth1/host:eth1", "nobody:eth1/host:eth2", "host:a/host:b/host:c"] {
            assert!(bad.parse::<LinkKey>().is_err(), "{bad}");
        }
    }

    /// Every combination: the reason is the first of those that hold, in the order of the enum.
    #[test]
    fn the_first_cause_wins() {
        for bits in 0..1u32 << 7 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let end = |n| EndFacts { host_online: bit(n), node_running: bit(n + 1), interface_up: bit(n + 2) };
            let (admin_up, local, peer) = (bit(0), end(1), end(4));
            for &transport in Transport::VARIANTS {
                let holds = |reason: &OperReason| match reason {
                    OperReason::AdminDown => !admin_up,
                    OperReason::LocalNodeDown => !local.node_running,
                    OperReason::LocalInterfaceDown => !local.interface_up,
                    OperReason::PeerHostOffline => !peer.host_online,
                    OperReason::PeerNodeDown => !peer.node_running,
                    OperReason::PeerInterfaceDown => !peer.interface_up,
                    OperReason::TransportDown => transport == Transport::Down,
                    OperReason::TransportDegraded => transport == Transport::Degraded,
                };
                let first = OperReason::VARIANTS.iter().copied().find(holds);
                assert_eq!(oper_reason(admin_up, local, peer, transport), first);
            }
        }
    }

    #[test]
    fn the_epoch_grows_with_each_change_and_only_then() {
        let reasons = || OperReason::VARIANTS.iter().copied().map(Some).chain([None]);
        for from in reasons() {
            for to in reasons() {
                let mut state = OperState::new(from);
                let changed = state.update(to);
                assert_eq!(changed, from != to);
                assert_eq!(state.epoch, if changed { 2 } else { 1 });
                assert_eq!((state.up, state.reason), (OperState::new(to).up, to));
            }
        }
        assert!(OperState::new(None).up && OperState::new(Some(OperReason::TransportDegraded)).up);
        assert!(!OperState::new(Some(OperReason::TransportDown)).up);
    }
}
