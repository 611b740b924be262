//! The mark of what this backend makes, and how to tell it from what others made.
//!
//! Rows of the database bear the label in `external_ids` from the moment they exist. An interface bears the link group at
//! birth, and on the switch's side a name that tells link and side and an address that tells the controller; the kernel
//! takes no more in the message that creates it. The alias with the label follows at once.

use std::fmt;

use lifecycle_core::attach::Mac;
use lifecycle_core::id::{ControllerId, LabId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, MAC_PREFIX, OurName, text_hash};
use lifecycle_linux::netlink::Link;

const WORD: &str = "lifecycle";
/// Version of the alias. Later versions are left alone as if they were somebody else's.
const VERSION: &str = "1";
/// Last word on the switch's side.
const PORT: &str = "port";

/// What a label says.
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

impl Label {
    /// What is written to an interface on the switch's side, which is not an end of the link itself.
    pub(crate) fn of_port(&self) -> String {
        format!("{self} {PORT}")
    }

    /// The name of the interface on the switch's side.
    pub(crate) fn port_name(&self) -> IfName {
        OurName::LinkEnd { link: self.link, side: self.side }.ifname()
    }
}

/// Reads a label; nothing when the text is none that this version knows.
fn parse(words: &[&str]) -> Option<Label> {
    let &[WORD, VERSION, controller, link, incarnation, side] = words else { return None };
    Some(Label {
        controller: controller.parse().ok()?,
        link: link.parse().ok()?,
        incarnation: incarnation.parse().ok()?,
        side: [Side::A, Side::B].into_iter().find(|known| known.to_string() == side)?,
    })
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not Lifecycle's, or of another controller, or made by a later version or another backend.
    Foreign,
    /// Lifecycle's, with its alias not yet written or overwritten since.
    Unlabelled,
    /// Of a link of this controller.
    Ours(Label),
}

fn said(text: &str, port: bool, controller: ControllerId) -> Owner {
    let mut words: Vec<&str> = text.split(' ').collect();
    if words.first() != Some(&WORD) {
        return Owner::Unlabelled;
    }
    if port && words.pop() != Some(PORT) {
        return Owner::Foreign;
    }
    match parse(&words) {
        Some(label) if label.controller == controller => Owner::Ours(label),
        _ => Owner::Foreign,
    }
}

/// Whose the interface at a link's end is, seen by `controller`.
pub(crate) fn end_owner(link: &Link, controller: ControllerId) -> Owner {
    match link.group {
        LINK_GROUP => said(link.alias.as_deref().unwrap_or_default(), false, controller),
        _ => Owner::Foreign,
    }
}

/// Whose an interface on the switch's side is, seen by `controller`.
pub(crate) fn port_owner(link: &Link, controller: ControllerId) -> Owner {
    if link.group != LINK_GROUP || port_link(link).is_none() {
        return Owner::Foreign;
    }
    match said(link.alias.as_deref().unwrap_or_default(), true, controller) {
        // Before it has an alias only the address tells the controller.
        Owner::Unlabelled if link.mac != Some(port_mac(controller, &link.name)) => Owner::Foreign,
        owner => owner,
    }
}

/// The link to which an interface on the switch's side belongs by its name.
pub(crate) fn port_link(link: &Link) -> Option<LinkId> {
    match OurName::parse(&link.name) {
        Some(OurName::LinkEnd { link, .. }) => Some(link),
        _ => None,
    }
}

/// The address of an interface on the switch's side: its controller's mark at birth. No frame bears it.
pub(crate) fn port_mac(controller: ControllerId, name: &str) -> Mac {
    let [.., a, b, c, d, e] = text_hash(&format!("{controller} {name}")).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

/// Whose a row with this label in its `external_ids` is, seen by `controller`.
pub(crate) fn row_owner(label: Option<&str>, controller: ControllerId) -> Owner {
    match said(label.unwrap_or_default(), false, controller) {
        Owner::Unlabelled => Owner::Foreign,
        owner => owner,
    }
}

/// The bridge that the links of all labs of a controller share.
pub(crate) fn shared_bridge(controller: ControllerId) -> IfName {
    bridge("ls", &controller)
}

/// The bridge of a lab's own.
pub(crate) fn lab_bridge(lab: LabId) -> IfName {
    bridge("ld", &lab)
}

fn bridge(prefix: &str, whose: &dyn fmt::Display) -> IfName {
    let name = IfName::new(format!("{prefix}{whose}"));
    name.unwrap_or_else(|_| unreachable!("a prefix and an identifier are 14 letters and digits"))
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
        }
    }

    #[test]
    fn labels_are_read_back() {
        let (us, them) = (ControllerId::from_u64(1), ControllerId::from_u64(2));
        let label = Label { controller: us, link: LinkId::from_u64(77), incarnation: 3, side: Side::B };
        let (end, port) = (label.to_string(), label.of_port());
        assert_eq!(end_owner(&link(LINK_GROUP, "eth1", Some(&end)), us), Owner::Ours(label));
        assert_eq!(end_owner(&link(LINK_GROUP, "eth1", Some(&end)), them), Owner::Foreign);
        assert_eq!(end_owner(&link(LINK_GROUP, "eth1", Some(&port)), us), Owner::Foreign);
        assert_eq!(end_owner(&link(LINK_GROUP, "eth1", Some("uplink")), us), Owner::Unlabelled);
        assert_eq!(end_owner(&link(0, "eth1", Some(&end)), us), Owner::Foreign);
        let name = label.port_name();
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), Some(&port)), us), Owner::Ours(label));
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), Some(&end)), us), Owner::Foreign);
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), None), us), Owner::Unlabelled);
        assert_eq!(port_owner(&link(LINK_GROUP, name.as_str(), None), them), Owner::Foreign);
        assert_eq!(port_owner(&link(LINK_GROUP, "eth1", Some(&port)), us), Owner::Foreign);
        assert_eq!(row_owner(Some(&end), us), Owner::Ours(label));
        assert_eq!((row_owner(None, us), row_owner(Some(&end), them)), (Owner::Foreign, Owner::Foreign));
    }

    #[test]
    fn bridges_of_different_things_have_different_names() {
        let names = [shared_bridge(ControllerId::from_u64(5)), lab_bridge(LabId::from_u64(5))];
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| OurName::parse(name.as_str()).is_none()));
    }
}
