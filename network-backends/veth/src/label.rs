//! The mark of what this backend makes, and how to tell it from what others made.
//!
//! At birth an interface bears the link group and an address that Lifecycle derives or the user gave; the kernel takes
//! no more in the message that creates it. The alias follows at once, in the message that sets the interface up, and
//! says whose it is and which link it belongs to.

use std::fmt;

use lifecycle_core::attach::Mac;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, MAC_PREFIX, may_be_ours, text_hash};
use lifecycle_linux::netlink::Link;

const WORD: &str = "lifecycle";
/// Version of the alias. Later versions are left alone as if they were somebody else's.
const VERSION: &str = "1";

/// What the alias of an end of a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) controller: ControllerId,
    pub(crate) link: LinkId,
    pub(crate) incarnation: u64,
    pub(crate) side: Side,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { controller, link, incarnation, side } = self;
        write!(f, "{WORD} {VERSION} {controller} {link} {incarnation} {side}")
    }
}

/// What an alias says.
enum Said {
    /// Nothing of ours.
    Nothing,
    /// An end of a link.
    End(Label),
    /// A bridge of a controller.
    Bridge(ControllerId),
    /// Ours, in words that this version does not know.
    Unknown,
}

fn read(alias: &str) -> Said {
    let words: Vec<&str> = alias.split(' ').collect();
    let parse = || match words[..] {
        [WORD, VERSION, controller, "bridge"] => Some(Said::Bridge(controller.parse().ok()?)),
        [WORD, VERSION, controller, link, incarnation, side] => Some(Said::End(Label {
            controller: controller.parse().ok()?,
            link: link.parse().ok()?,
            incarnation: incarnation.parse().ok()?,
            side: [Side::A, Side::B].into_iter().find(|known| known.to_string() == side)?,
        })),
        _ => None,
    };
    match parse() {
        Some(said) => said,
        None if words.first() == Some(&WORD) => Said::Unknown,
        None => Said::Nothing,
    }
}

/// Whose an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not Lifecycle's, or of another controller, or made by a later version.
    Foreign,
    /// Lifecycle's, with its alias not yet written or overwritten since.
    Unlabelled,
    /// An end of a link of this controller.
    End(Label),
    /// A bridge of this controller.
    Bridge,
}

/// Whose `link` is, seen by `controller`.
pub(crate) fn owner(link: &Link, controller: ControllerId) -> Owner {
    if link.group != LINK_GROUP {
        return Owner::Foreign;
    }
    match read(link.alias.as_deref().unwrap_or_default()) {
        Said::End(label) if label.controller == controller => Owner::End(label),
        Said::Bridge(whose) if whose == controller => Owner::Bridge,
        Said::End(_) | Said::Bridge(_) | Said::Unknown => Owner::Foreign,
        Said::Nothing => Owner::Unlabelled,
    }
}

/// The alias of a bridge.
pub(crate) fn bridge_alias(controller: ControllerId) -> String {
    format!("{WORD} {VERSION} {controller} bridge")
}

/// The address of a bridge that `controller` makes: its mark before it has an alias.
pub(crate) fn bridge_mac(controller: ControllerId, name: &IfName) -> Mac {
    let [.., a, b, c, d, e] = text_hash(&format!("{controller} {name}")).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

/// The link that an end without alias is listed under. Which link it was made for cannot be told from the address, but
/// two such ends of two links have two addresses, so that each can be collected by itself.
pub(crate) fn nameless(link: &Link) -> Option<LinkId> {
    let mac = link.mac.filter(|mac| may_be_ours(*mac))?;
    // The last bit tells the side, and both sides are one link.
    let bits = mac.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    Some(LinkId::from_u64(bits & !1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(group: u32, alias: Option<&str>) -> Link {
        Link {
            index: 2,
            name: "eth1".into(),
            mac: Some(Mac([MAC_PREFIX, 1, 2, 3, 4, 5])),
            mtu: 1500,
            group,
            admin_up: true,
            carrier: true,
            master: None,
            lower: None,
            lower_nsid: None,
            alias: alias.map(str::to_owned),
            kind: Some("veth".into()),
            port: None,
        }
    }

    #[test]
    fn a_label_is_read_back() {
        let (us, them) = (ControllerId::from_u64(1), ControllerId::from_u64(2));
        let label = Label { controller: us, link: LinkId::from_u64(77), incarnation: 3, side: Side::B };
        let text = label.to_string();
        assert!(text.len() < 256, "the kernel keeps no more");
        assert_eq!(owner(&link(LINK_GROUP, Some(&text)), us), Owner::End(label));
        assert_eq!(owner(&link(LINK_GROUP, Some(&text)), them), Owner::Foreign);
        assert_eq!(owner(&link(0, Some(&text)), us), Owner::Foreign);
        assert_eq!(owner(&link(LINK_GROUP, Some(&bridge_alias(us))), us), Owner::Bridge);
        assert_eq!(owner(&link(LINK_GROUP, Some(&bridge_alias(us))), them), Owner::Foreign);
    }

    #[test]
    fn what_is_not_understood_is_left_alone_unless_somebody_overwrote_it() {
        let us = ControllerId::from_u64(1);
        for alias in ["lifecycle 2 whatever", "lifecycle 1 short", "lifecycle"] {
            assert_eq!(owner(&link(LINK_GROUP, Some(alias)), us), Owner::Foreign, "{alias}");
        }
        for alias in [None, Some(""), Some("to the router")] {
            assert_eq!(owner(&link(LINK_GROUP, alias), us), Owner::Unlabelled, "{alias:?}");
        }
    }

    #[test]
    fn both_ends_without_alias_are_one_link() {
        use lifecycle_core::policy::naming::mac;
        let of = |side| {
            let mut end = link(LINK_GROUP, None);
            end.mac = Some(mac(LinkId::from_u64(9), 1, side));
            nameless(&end)
        };
        assert!(of(Side::A).is_some());
        assert_eq!(of(Side::A), of(Side::B));
    }
}
