//! Names and addresses of what Lifecycle makes on a host, and how to tell them from what it did not make.
//!
//! The kernel ignores alias and alternative names in the message that creates an interface, so the mark at birth is
//! the name, the [`LINK_GROUP`] or [`MANAGEMENT_GROUP`] and the address together. A name is a two-letter prefix, an
//! identifier and, for one of two ends, a letter: two different things never have one name, and the name says whose it
//! is.

use std::str::FromStr;

use super::link::Side;
use crate::attach::Mac;
use crate::id::{LinkId, NodeId};
use crate::name::{IfName, PortName};

/// The link group of every interface that Lifecycle makes for links; no other program uses it.
pub const LINK_GROUP: u32 = 0x6c66_6379;

/// The link group of every interface that Lifecycle makes for the management of nodes. It is another one because what
/// bears the group of links and belongs to no link is a leftover, and is removed.
pub const MANAGEMENT_GROUP: u32 = 0x6c66_636d;

/// First byte of every address that Lifecycle derives: locally administered, not a group.
pub const MAC_PREFIX: u8 = 0x62;

/// A name that Lifecycle gives to an interface on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OurName {
    /// The host's side of one end of a link.
    LinkEnd {
        /// The link.
        link: LinkId,
        /// Which end.
        side: Side,
    },
    /// The tap that a virtual machine opens as one end of a link.
    Tap {
        /// The link.
        link: LinkId,
        /// Which end.
        side: Side,
    },
    /// The bridge that joins the two ends of a link.
    LinkBridge {
        /// The link.
        link: LinkId,
    },
    /// The bridge that a node of kind bridge stands for.
    NodeBridge {
        /// The node.
        node: NodeId,
    },
    /// The host's side of a node's management interface.
    ManagementPort {
        /// The node.
        node: NodeId,
    },
    /// The bridge of a management network.
    ManagementBridge {
        /// [`text_hash`] of the network's name.
        network: u64,
    },
}

impl OurName {
    /// The name of the bridge of the management network called `network`.
    pub fn management_bridge(network: &str) -> Self {
        Self::ManagementBridge { network: text_hash(network) }
    }

    /// The name as the kernel gets it.
    pub fn ifname(self) -> IfName {
        match self {
            Self::LinkEnd { link, side } => name("lc", link.as_u64(), Some(side)),
            Self::Tap { link, side } => name("lt", link.as_u64(), Some(side)),
            Self::LinkBridge { link } => name("lb", link.as_u64(), None),
            Self::NodeBridge { node } => name("ln", node.as_u64(), None),
            Self::ManagementPort { node } => name("lp", node.as_u64(), None),
            Self::ManagementBridge { network } => name("lm", network, None),
        }
    }

    /// Whose name it is; nothing for a name that Lifecycle does not give.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_at_checked(2)?;
        let (id, side) = match rest.strip_suffix('a') {
            _ if rest.len() == crate::id::ID_LEN => (rest, None),
            Some(id) => (id, Some(Side::A)),
            None => (rest.strip_suffix('b')?, Some(Side::B)),
        };
        let link = LinkId::from_str(id).ok()?;
        let node = NodeId::from_u64(link.as_u64());
        match (prefix, side) {
            ("lc", Some(side)) => Some(Self::LinkEnd { link, side }),
            ("lt", Some(side)) => Some(Self::Tap { link, side }),
            ("lb", None) => Some(Self::LinkBridge { link }),
            ("ln", None) => Some(Self::NodeBridge { node }),
            ("lp", None) => Some(Self::ManagementPort { node }),
            ("lm", None) => Some(Self::ManagementBridge { network: link.as_u64() }),
            _ => None,
        }
    }
}

fn name(prefix: &str, number: u64, side: Option<Side>) -> IfName {
    let side = side.map_or(String::new(), |side| side.to_string());
    let text = format!("{prefix}{}{side}", LinkId::from_u64(number));
    IfName::new(text).unwrap_or_else(|_| unreachable!("prefix, identifier and side are 15 bytes of letters and digits"))
}

/// The interface that a node gets for `port` when no vendor says otherwise: of the same name where the kernel takes it,
/// else `lx` and a hash of the port's name.
///
/// Of two ports of one node whose hashes are equal, about one chance in 10¹⁸, the second is refused as a second link
/// on one interface.
pub fn interface_for(port: &PortName) -> IfName {
    IfName::new(port).unwrap_or_else(|_| name("lx", text_hash(port.as_str()), None))
}

/// 60 bits that stand for a text, the same in every version of Lifecycle.
pub fn text_hash(text: &str) -> u64 {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    LinkId::from_u64(mix(fnv)).as_u64()
}

/// The address of one end of an incarnation of a link, the same in every version of Lifecycle.
///
/// Its other 40 bits come from the arguments, so that a leftover of an older incarnation can be told from the end that
/// took its place, and two ends of one link never have the same.
pub fn mac(link: LinkId, incarnation: u64, side: Side) -> Mac {
    let bits = mix(link.as_u64().wrapping_add(mix(incarnation)));
    let [.., a, b, c, d, e] = (bits & !1 | side.index() as u64).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

/// Whether Lifecycle may have derived `address`. Whether it did for a certain end, [`mac`] tells.
pub const fn may_be_ours(address: Mac) -> bool {
    address.0[0] == MAC_PREFIX
}

/// A bijection of 64 bits in which each bit of the result depends on all bits of the argument (SplitMix64).
const fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn ours() -> impl Strategy<Value = OurName> {
        (0u64..6, 0u64..1 << 60, prop::bool::ANY).prop_map(|(which, number, b)| {
            let (link, node) = (LinkId::from_u64(number), NodeId::from_u64(number));
            let side = if b { Side::B } else { Side::A };
            match which {
                0 => OurName::LinkEnd { link, side },
                1 => OurName::Tap { link, side },
                2 => OurName::LinkBridge { link },
                3 => OurName::NodeBridge { node },
                4 => OurName::ManagementPort { node },
                _ => OurName::ManagementBridge { network: number },
            }
        })
    }

    proptest! {
        #[test]
        fn names_are_valid_and_tell_what_they_name(ours in ours()) {
            let name = ours.ifname();
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
            prop_assert_eq!(OurName::parse(name.as_str()), Some(ours));
        }

        #[test]
        fn a_parsed_name_is_the_name(text in "(lc|lt|lb|ln|lp|lm|lx|eth)[0-9a-z]{11,13}[abc]?") {
            if let Some(ours) = OurName::parse(&text) {
                prop_assert_eq!(ours.ifname().to_string(), text);
            }
        }

        #[test]
        fn addresses_are_local_and_differ(link: u64, incarnation: u64) {
            let (link, next) = (LinkId::from_u64(link), incarnation.wrapping_add(1));
            let all = [mac(link, incarnation, Side::A), mac(link, incarnation, Side::B), mac(link, next, Side::A)];
            prop_assert!(all.iter().all(|mac| mac.is_local() && !mac.is_group() && may_be_ours(*mac)));
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), 3);
        }

        #[test]
        fn ports_keep_their_name_where_the_kernel_takes_it(port in "[!-~]{1,30}") {
            let port = PortName::new(port).unwrap();
            let interface = interface_for(&port);
            match IfName::new(&port) {
                Ok(same) => prop_assert_eq!(interface, same),
                Err(_) => prop_assert!(interface.as_str().starts_with("lx") && interface.as_str().len() == 14),
            }
        }
    }

    /// A later version must find what this one made.
    #[test]
    fn derived_values_never_change() {
        let link = LinkId::from_u64(0x123_4567_89ab_cdef);
        assert_eq!(OurName::LinkEnd { link, side: Side::A }.ifname().as_str(), "lc28t5cy4tqkffa");
        assert_eq!(mac(link, 7, Side::B).to_string(), "62:4f:09:cd:be:81");
        assert_eq!(OurName::management_bridge("clab").ifname().as_str(), "lm6fcpxamenc06");
        assert_eq!(interface_for(&PortName::new("GigabitEthernet0/0/0/1").unwrap()).as_str(), "lxnv9bc47qa0jh");
    }

    #[test]
    fn foreign_names_are_foreign() {
        for text in
            ["", "l", "lo", "eth0", "lc", "lcuuuuuuuuuuuua", "lc28t5cy4tqkff", "lb28t5cy4tqkffa", "lé28t5cy4tqkff"]
        {
            assert_eq!(OurName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn many_links_get_distinct_addresses() {
        let macs: HashSet<Mac> = (0..50_000)
            .flat_map(|n| [Side::A, Side::B].map(|side| mac(LinkId::from_u64(mix(n)), n % 5, side)))
            .collect();
        assert_eq!(macs.len(), 100_000);
    }
}
