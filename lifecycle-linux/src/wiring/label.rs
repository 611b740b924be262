//! The mark of what backends make, and how to tell it from what others made.
//!
//! At birth an interface bears the link group and an address; the kernel takes no more in the message that creates it.
//! The alias follows at once, in the message that sets the interface up, and says whose it is and which link it belongs
//! to. An interface at a link's end has an address that Lifecycle derives or the user gave. One on a switch's side, which
//! is not an end of the link itself, has a name that tells link and side and an address that tells the controller.

use std::collections::BTreeMap;
use std::fmt;

use lifecycle_core::attach::{Mac, PlaceKind};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::EndMark;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, MAC_PREFIX, OurName, may_be_ours, text_hash};

use super::doomed::DOOMED_GROUP;
use super::{Failure, Outcome};
use crate::netlink::Link;

const WORD: &str = "lifecycle";
/// Version of the alias. Later versions are left alone as if they were somebody else's.
const VERSION: &str = "1";
/// Last word on a switch's side.
const PORT: &str = "port";
/// Last word of a bridge.
const BRIDGE: &str = "bridge";

/// How the ends of links are attached by all backends that make them as this module tells: the same names, addresses and
/// aliases on both sides. So one backend finds what another has let go of, and takes it over.
pub fn attaches() -> BTreeMap<PlaceKind, String> {
    [PlaceKind::Namespace, PlaceKind::HostNet].map(|place| (place, "labelled veth".to_owned())).into()
}

/// What the alias of an end of a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Whose it is.
    pub controller: ControllerId,
    /// The link.
    pub link: LinkId,
    /// Which of its incarnations.
    pub incarnation: u64,
    /// Which of its ends.
    pub side: Side,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { controller, link, incarnation, side } = self;
        write!(f, "{WORD} {VERSION} {controller} {link} {incarnation} {side}")
    }
}

impl Label {
    /// The label of an end of a link of `controller` with this mark.
    pub const fn of(controller: ControllerId, mark: EndMark) -> Self {
        let EndMark { link, incarnation, side } = mark;
        Self { controller, link, incarnation, side }
    }

    /// What is written to an interface on a switch's side, which is not an end of the link itself.
    pub fn of_port(&self) -> String {
        format!("{self} {PORT}")
    }

    /// The name that the interface on the switch's side gets. One that was parked keeps the name that it got for the link
    /// that it was made for.
    pub fn port_name(&self) -> IfName {
        OurName::LinkEnd { link: self.link, side: self.side }.ifname()
    }

    /// Whether it names this incarnation of the link.
    pub fn is_of(&self, link: LinkId, incarnation: u64) -> bool {
        (self.link, self.incarnation) == (link, incarnation)
    }
}

/// What a text says.
enum Said {
    /// Nothing of ours.
    Nothing,
    /// An end of a link.
    End(Label),
    /// An interface on the switch's side of an end.
    Port(Label),
    /// The bridge that joins the ends of a link.
    LinkBridge(ControllerId, LinkId, u64),
    /// A bridge of a controller.
    Bridge(ControllerId),
    /// Ours, in words that this version does not know.
    Unknown,
}

fn read(text: &str) -> Said {
    let words: Vec<&str> = text.split(' ').collect();
    let label = |controller: &str, link: &str, incarnation: &str, side: &str| {
        Some(Label {
            controller: controller.parse().ok()?,
            link: link.parse().ok()?,
            incarnation: incarnation.parse().ok()?,
            side: [Side::A, Side::B].into_iter().find(|known| known.to_string() == side)?,
        })
    };
    let parse = || match words[..] {
        [WORD, VERSION, controller, BRIDGE] => Some(Said::Bridge(controller.parse().ok()?)),
        [WORD, VERSION, controller, link, incarnation, BRIDGE] => {
            Some(Said::LinkBridge(controller.parse().ok()?, link.parse().ok()?, incarnation.parse().ok()?))
        }
        [WORD, VERSION, controller, link, incarnation, side] => {
            label(controller, link, incarnation, side).map(Said::End)
        }
        [WORD, VERSION, controller, link, incarnation, side, PORT] => {
            label(controller, link, incarnation, side).map(Said::Port)
        }
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
pub enum Owner {
    /// Not Lifecycle's, or of another controller, or made by a later version, or something else of ours than was looked
    /// for.
    Foreign,
    /// Lifecycle's, with its alias not yet written or overwritten since.
    Unlabelled,
    /// Of a link of this controller.
    End(Label),
    /// A bridge of this controller.
    Bridge,
}

impl Owner {
    /// Whether it is, or can be, of this incarnation of a link.
    pub fn may_be_of(self, link: LinkId, incarnation: u64) -> bool {
        match self {
            Self::End(label) => label.is_of(link, incarnation),
            Self::Unlabelled => true,
            Self::Foreign | Self::Bridge => false,
        }
    }

    /// Refuses to build the end that `wanted` names over what stands there as `name`, unless that is of the same link and
    /// not of a later incarnation.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] for what is not ours, [`ErrorKind::Conflict`] for what is of something else of ours.
    pub fn refuse_as(self, name: &str, wanted: &Label) -> Outcome<()> {
        let conflict = |message: String| Err(Failure::new(ErrorKind::Conflict, message));
        match self {
            Self::Foreign => Err(in_the_way(name)),
            Self::Bridge => conflict(format!("{name} is a bridge of ours")),
            Self::End(label) if label.link != wanted.link => {
                conflict(format!("{name} is an end of link {}", label.link))
            }
            Self::End(label) if label.incarnation > wanted.incarnation => {
                conflict(format!("incarnation {} of the link stands already", label.incarnation))
            }
            Self::End(_) | Self::Unlabelled => Ok(()),
        }
    }
}

/// The refusal of what stands in the way and is not ours to remove.
pub fn in_the_way(name: &str) -> Failure {
    let message = format!("an interface or port {name} that is not ours stands in the way; rename or remove it");
    Failure::new(ErrorKind::Foreign, message)
}

fn alias(link: &Link) -> Said {
    read(link.alias.as_deref().unwrap_or_default())
}

/// Whose an interface at a link's end, or a bridge, is, seen by `controller`.
pub fn owner(link: &Link, controller: ControllerId) -> Owner {
    if link.group != LINK_GROUP {
        return Owner::Foreign;
    }
    match alias(link) {
        Said::End(label) if label.controller == controller => Owner::End(label),
        Said::Bridge(whose) if whose == controller => Owner::Bridge,
        Said::Nothing => Owner::Unlabelled,
        _ => Owner::Foreign,
    }
}

/// Whether it bears one of our groups. What is about to be deleted is still ours.
fn is_marked(link: &Link) -> bool {
    [LINK_GROUP, DOOMED_GROUP].contains(&link.group)
}

/// Whose an interface on a switch's side is, seen by `controller`.
pub fn port_owner(link: &Link, controller: ControllerId) -> Owner {
    if !is_marked(link) || port_link(link).is_none() {
        return Owner::Foreign;
    }
    match alias(link) {
        Said::Port(label) if label.controller == controller => Owner::End(label),
        // Before it has an alias only the address tells the controller.
        Said::Nothing if link.mac == Some(port_mac(controller, &link.name)) => Owner::Unlabelled,
        _ => Owner::Foreign,
    }
}

/// Whose a text in a database that a switch keeps is, seen by `controller`.
pub fn text_owner(text: Option<&str>, controller: ControllerId) -> Owner {
    match read(text.unwrap_or_default()) {
        Said::End(label) if label.controller == controller => Owner::End(label),
        _ => Owner::Foreign,
    }
}

/// The link that a text in a database that a switch keeps names, whoever's it is.
pub fn text_link(text: &str) -> Option<LinkId> {
    match read(text) {
        Said::End(label) => Some(label.link),
        _ => None,
    }
}

/// The link to which an interface on a switch's side belongs by its name.
pub fn port_link(link: &Link) -> Option<LinkId> {
    match OurName::parse(&link.name) {
        Some(OurName::LinkEnd { link, .. }) => Some(link),
        _ => None,
    }
}

/// The address of an interface on a switch's side: its controller's mark at birth. No frame bears it.
pub fn port_mac(controller: ControllerId, name: &str) -> Mac {
    hashed(&format!("{controller} {name}"))
}

/// The alias of a bridge that several links may share.
pub fn bridge_alias(controller: ControllerId) -> String {
    format!("{WORD} {VERSION} {controller} {BRIDGE}")
}

/// The address of a bridge that `controller` makes: its mark before it has an alias.
pub fn bridge_mac(controller: ControllerId, name: &IfName) -> Mac {
    hashed(&format!("{controller} {name}"))
}

/// The alias of the bridge that joins the ends of one link.
pub fn link_bridge_alias(controller: ControllerId, link: LinkId, incarnation: u64) -> String {
    format!("{WORD} {VERSION} {controller} {link} {incarnation} {BRIDGE}")
}

/// The address of the bridge that joins the ends of one link. It is another one than that of a shared bridge of the same
/// name, so that whoever removes empty bridges never takes it for one.
pub fn link_bridge_mac(controller: ControllerId, link: LinkId) -> Mac {
    hashed(&format!("{controller} {link} {BRIDGE}"))
}

/// Whose the bridge that joins the ends of one link is: its link, and its incarnation where the alias tells; nothing when
/// it is none of `controller`'s.
pub fn link_bridge(link: &Link, controller: ControllerId) -> Option<(LinkId, Option<u64>)> {
    let Some(OurName::LinkBridge { link: named }) = OurName::parse(&link.name) else { return None };
    if !is_marked(link) || link.kind.as_deref() != Some("bridge") {
        return None;
    }
    match alias(link) {
        Said::LinkBridge(whose, id, incarnation) if (whose, id) == (controller, named) => Some((id, Some(incarnation))),
        Said::Nothing if link.mac == Some(link_bridge_mac(controller, named)) => Some((named, None)),
        _ => None,
    }
}

fn hashed(text: &str) -> Mac {
    let [.., a, b, c, d, e] = text_hash(text).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

/// The link that an end without alias is listed under. Which link it was made for cannot be told from the address, but
/// two such ends of two links have two addresses, so that each can be collected by itself.
pub fn nameless(link: &Link) -> Option<LinkId> {
    let mac = link.mac.filter(|mac| may_be_ours(*mac))?;
    // The last bit tells the side, and both sides are one link.
    let bits = mac.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    Some(LinkId::from_u64(bits & !1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(group: u32, name: &str, alias: Option<&str>) -> Link {
        Link {
            index: 2,
            name: name.into(),
            mac: Some(port_mac(ControllerId::from_u64(1), name)),
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
            vxlan: None,
        }
    }

    fn label() -> Label {
        Label { controller: ControllerId::from_u64(1), link: LinkId::from_u64(77), incarnation: 3, side: Side::B }
    }

    #[test]
    fn labels_of_ends_are_read_back() {
        let (us, them) = (ControllerId::from_u64(1), ControllerId::from_u64(2));
        let (label, text) = (label(), label().to_string());
        assert!(text.len() < 256, "the kernel keeps no more");
        let end = |group, alias: &str| link(group, "eth1", Some(alias));
        assert_eq!(owner(&end(LINK_GROUP, &text), us), Owner::End(label));
        assert_eq!(owner(&end(LINK_GROUP, &text), them), Owner::Foreign);
        assert_eq!(owner(&end(0, &text), us), Owner::Foreign);
        assert_eq!(owner(&end(LINK_GROUP, &label.of_port()), us), Owner::Foreign);
        assert_eq!(owner(&end(LINK_GROUP, &bridge_alias(us)), us), Owner::Bridge);
        assert_eq!(owner(&end(LINK_GROUP, &bridge_alias(us)), them), Owner::Foreign);
        assert_eq!(text_owner(Some(&text), us), Owner::End(label));
        assert_eq!((text_owner(None, us), text_owner(Some(&text), them)), (Owner::Foreign, Owner::Foreign));
    }

    #[test]
    fn labels_of_ports_are_read_back() {
        let (us, them) = (ControllerId::from_u64(1), ControllerId::from_u64(2));
        let (end, port, name) = (label().to_string(), label().of_port(), label().port_name());
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), Some(&port)), us), Owner::End(label()));
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), Some(&end)), us), Owner::Foreign);
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), None), us), Owner::Unlabelled);
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), None), them), Owner::Foreign);
        assert_eq!(port_owner(&link(LINK_GROUP, "eth1", Some(&port)), us), Owner::Foreign);
    }

    #[test]
    fn bridges_of_links_are_told_from_those_that_links_share() {
        let (us, them) = (ControllerId::from_u64(1), ControllerId::from_u64(2));
        let id = LinkId::from_u64(77);
        let name = OurName::LinkBridge { link: id }.ifname();
        let mut bridge = link(LINK_GROUP, name.as_str(), Some(&link_bridge_alias(us, id, 3)));
        bridge.kind = Some("bridge".into());
        assert_eq!(link_bridge(&bridge, us), Some((id, Some(3))));
        assert_eq!(link_bridge(&bridge, them), None);
        assert_eq!(owner(&bridge, us), Owner::Foreign, "nobody removes it for being an empty bridge");
        (bridge.alias, bridge.mac) = (None, Some(link_bridge_mac(us, id)));
        assert_eq!((link_bridge(&bridge, us), link_bridge(&bridge, them)), (Some((id, None)), None));
        assert_ne!(link_bridge_mac(us, id), bridge_mac(us, &name));
    }

    #[test]
    fn what_is_not_understood_is_left_alone_unless_somebody_overwrote_it() {
        let us = ControllerId::from_u64(1);
        for alias in ["lifecycle 2 whatever", "lifecycle 1 short", "lifecycle"] {
            assert_eq!(owner(&link(LINK_GROUP, "eth1", Some(alias)), us), Owner::Foreign, "{alias}");
        }
        for alias in [None, Some(""), Some("to the router")] {
            assert_eq!(owner(&link(LINK_GROUP, "eth1", alias), us), Owner::Unlabelled, "{alias:?}");
        }
    }

    #[test]
    fn both_ends_without_alias_are_one_link() {
        use lifecycle_core::policy::naming::mac;
        let of = |side| {
            let mut end = link(LINK_GROUP, "eth1", None);
            end.mac = Some(mac(LinkId::from_u64(9), 1, side));
            nameless(&end)
        };
        assert!(of(Side::A).is_some());
        assert_eq!(of(Side::A), of(Side::B));
    }
}
