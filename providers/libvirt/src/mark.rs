//! What makes a domain ours: its uuid and its metadata, both given in the call that defines it.

use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::InstanceRef;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name space of our metadata.
pub(crate) const URI: &str = "https://lifecycle-rs.github.io/libvirt/1";
/// The element in it.
pub(crate) const ELEMENT: &str = "instance";

/// On whose behalf domains are made: several of a controller's hosts may share a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub controller: ControllerId,
    /// Which of its hosts.
    pub host: String,
}

impl Owner {
    /// The owner that a context tells.
    pub(crate) fn of(context: &HostContext) -> Self {
        Self { controller: context.controller, host: context.host.to_string() }
    }

    /// The uuid of the domain of an instance. So a domain of somebody else's is never taken for it, and defining over one
    /// is refused by libvirt itself.
    pub(crate) fn uuid(&self, node: NodeId, incarnation: u64) -> String {
        let text = format!("lifecycle {} {} {node} {incarnation}", self.controller, self.host);
        let digest = Sha256::digest(text.as_bytes());
        let mut bytes: Vec<u8> = digest.iter().copied().take(16).collect();
        // Version 8: custom; variant of RFC 9562.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |range: std::ops::Range<usize>| hex[range].concat();
        [part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)].join("-")
    }
}

/// Whose a domain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub owner: Owner,
    pub lab: LabId,
    pub instance: InstanceRef,
}

impl Mark {
    pub(crate) fn uuid(&self) -> String {
        self.owner.uuid(self.instance.node, self.instance.incarnation)
    }

    /// What the metadata says, as attributes of its element.
    pub(crate) fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("controller", self.owner.controller.to_string()),
            ("host", self.owner.host.clone()),
            ("lab", self.lab.to_string()),
            ("node", self.instance.node.to_string()),
            ("incarnation", self.instance.incarnation.to_string()),
            ("identifier", self.instance.identifier.clone()),
        ]
    }

    /// Reads metadata; nothing where there is no mark, or one that is not whole.
    pub(crate) fn read(xml: &str) -> Option<Self> {
        let mut reader = Reader::from_str(xml);
        let element = loop {
            match reader.read_event().ok()? {
                Event::Start(element) | Event::Empty(element) => break element,
                Event::Eof => return None,
                _ => {}
            }
        };
        if element.local_name().as_ref() != ELEMENT {
            return None;
        }
        let get = |name: &str| attribute(&element, name);
        Some(Self {
            owner: Owner { controller: get("controller")?.parse().ok()?, host: get("host")? },
            lab: get("lab")?.parse().ok()?,
            instance: InstanceRef {
                node: get("node")?.parse().ok()?,
                incarnation: get("incarnation")?.parse().ok()?,
                identifier: get("identifier")?,
            },
        })
    }
}

/// An attribute of an element, with what was escaped put back.
pub(crate) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.try_get_attribute(name).ok()??;
    found.normalized_value(XmlVersion::Implicit1_0).ok().map(|text| text.into_owned())
}

/// The name of a node's domain and of its directory. The end is the node's, and no other node's; the beginning is for
/// people.
pub(crate) fn identifier(node: NodeId, long_name: &str) -> String {
    const SHOWN: usize = 100;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let shown: String = long_name.chars().take(SHOWN).map(plain).collect();
    format!("{}.{node}", shown.trim_start_matches('.'))
}

/// Whether a name that [`identifier`] gave is this node's.
pub(crate) fn is_of(identifier: &str, node: NodeId) -> bool {
    identifier.rsplit('.').next() == Some(&node.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let owner = Owner { controller: ControllerId::from_u64(7), host: "h&\"2".to_owned() };
        let instance = InstanceRef { node: NodeId::from_u64(9), incarnation: 3, identifier: "lab-r1.x".to_owned() };
        Mark { owner, lab: LabId::from_u64(8), instance }
    }

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_none() {
        let mut writer = quick_xml::writer::Writer::new(Vec::new());
        let mark = mark();
        let attributes = mark.attributes();
        let element = writer.create_element("lc:instance").with_attribute(("xmlns:lc", URI));
        let pairs = attributes.iter().map(|(name, value)| (*name, value.as_str()));
        element.with_attributes(pairs).write_empty().unwrap();
        let xml = String::from_utf8(writer.into_inner()).unwrap();
        assert_eq!(Mark::read(&xml), Some(mark), "{xml}");
        for torn in [xml.replace("node=", "edon="), xml.replace("instance", "other"), String::new(), "<".to_owned()] {
            assert_eq!(Mark::read(&torn), None, "{torn}");
        }
    }

    #[test]
    fn uuids_differ_by_owner_and_incarnation() {
        let mark = mark();
        let uuid = mark.uuid();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
        let node = mark.instance.node;
        assert_ne!(mark.owner.uuid(node, 4), uuid);
        let other = Owner { host: "local".to_owned(), ..mark.owner };
        assert_ne!(other.uuid(node, 3), uuid);
    }

    #[test]
    fn names_are_harmless_and_tell_their_node() {
        let node = NodeId::from_u64(9);
        let name = identifier(node, "../a b/c\n");
        assert_eq!(name, format!("-a-b-c-.{node}"));
        assert!(is_of(&name, node) && !is_of(&name, NodeId::from_u64(10)));
        assert!(identifier(node, &"x".repeat(500)).len() < 128);
    }
}
