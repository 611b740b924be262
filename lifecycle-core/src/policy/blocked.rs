//! Errors that no retry can mend, and what change of the world clears them.

use serde::{Deserialize, Serialize};

use super::placement::Shortage;
use crate::name::{HostName, NodeName};
use crate::topology::Stage;

/// Why no retry can help until the world changes. It costs no attempt, and nothing is retried blindly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Blocked {
    /// The host that the node must run on is not known.
    #[error("Host {host} is not known to this controller")]
    HostUnknown {
        /// The host.
        host: HostName,
    },
    /// The host that the node must run on cannot be reached.
    #[error("Host {host} is offline")]
    HostOffline {
        /// The host.
        host: HostName,
    },
    /// The host that the node must run on has no room for it.
    #[error("Insufficient resources on {host}: {shortage}")]
    HostFull {
        /// The host.
        host: HostName,
        /// What it lacks.
        shortage: Shortage,
    },
    /// No host can take the node.
    #[error("No host can run the node{}", Tried(tried))]
    NoHost {
        /// Each host that was looked at, and why it cannot.
        tried: Vec<(HostName, String)>,
    },
    /// The node's image is not on its host and is not to be fetched.
    #[error("Image {image} is not on {host} and its pull policy forbids to fetch it")]
    ImageMissing {
        /// The image.
        image: String,
        /// The host.
        host: HostName,
    },
    /// Something that is not ours bears the name that the node needs.
    #[error("{object} on {host} is not ours and bears the node's name; rename or remove it")]
    ForeignObject {
        /// What it is, for people.
        object: String,
        /// Where it is.
        host: HostName,
    },
    /// The node has to move, and nobody can tell whether its old instance is gone.
    #[error("Host {host}, where the old instance is, cannot be reached; a second instance must not start elsewhere")]
    SourceUnreachable {
        /// The host.
        host: HostName,
    },
    /// The node waits for another one, which does not get there by itself.
    #[error("It waits for {node} to reach `{until}`, but {why}")]
    Dependency {
        /// The node that it waits for.
        node: NodeName,
        /// The stage that this node has to reach.
        until: Stage,
        /// Why it does not.
        why: String,
    },
    /// What its user wants is beyond what the plugins can do.
    #[error("{what}")]
    Unsupported {
        /// What cannot be done, and by whom.
        what: String,
    },
}

/// Shows why each host was passed over.
struct Tried<'a>(&'a [(HostName, String)]);

impl std::fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str(": there are no hosts");
        }
        let mut separator = ": ";
        for (host, why) in self.0 {
            write!(f, "{separator}{host}: {why}")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// A change of the world after which something blocked may be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldChange<'a> {
    /// A host came to be known, or can be reached again.
    HostOnline(&'a HostName),
    /// A host has more room than before.
    CapacityFreed(&'a HostName),
    /// An image arrived on a host.
    ImagePresent {
        /// The host.
        host: &'a HostName,
        /// The image.
        image: &'a str,
    },
    /// Something that was in the way on a host is gone.
    ObjectGone {
        /// The host.
        host: &'a HostName,
        /// What it was, as in [`Blocked::ForeignObject`].
        object: &'a str,
    },
    /// The node's user asked for it again, or for something else.
    UserAction,
}

impl Blocked {
    /// Whether `change` may have mended it, so that it is worth another look.
    pub fn cleared_by(&self, change: WorldChange<'_>) -> bool {
        if change == WorldChange::UserAction {
            return true;
        }
        match self {
            Self::HostUnknown { host } | Self::HostOffline { host } | Self::SourceUnreachable { host } => {
                change == WorldChange::HostOnline(host)
            }
            Self::HostFull { host, .. } => change == WorldChange::CapacityFreed(host),
            Self::NoHost { .. } => matches!(change, WorldChange::HostOnline(_) | WorldChange::CapacityFreed(_)),
            Self::ImageMissing { image, host } => change == WorldChange::ImagePresent { host, image },
            Self::ForeignObject { object, host } => change == WorldChange::ObjectGone { host, object },
            // Whether the other node gets there after all is seen by looking at it.
            Self::Dependency { .. } | Self::Unsupported { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        HostName::new(name).unwrap()
    }

    #[test]
    fn each_is_cleared_by_its_own_change_and_by_its_user() {
        let (h1, h2) = (host("h1"), host("h2"));
        let (image, object) = ("frr:9", "container clab-a-r1");
        let changes = [
            WorldChange::HostOnline(&h1),
            WorldChange::CapacityFreed(&h1),
            WorldChange::ImagePresent { host: &h1, image },
            WorldChange::ObjectGone { host: &h1, object },
            WorldChange::HostOnline(&h2),
            WorldChange::CapacityFreed(&h2),
            WorldChange::ImagePresent { host: &h1, image: "frr:8" },
            WorldChange::ImagePresent { host: &h2, image },
            WorldChange::ObjectGone { host: &h2, object },
            WorldChange::UserAction,
        ];
        let h = h1.clone();
        let shortage = Shortage::Memory { required: 2 << 30, available: 0 };
        let table = [
            (Blocked::HostUnknown { host: h.clone() }, "1000000001"),
            (Blocked::HostOffline { host: h.clone() }, "1000000001"),
            (Blocked::SourceUnreachable { host: h.clone() }, "1000000001"),
            (Blocked::HostFull { host: h.clone(), shortage }, "0100000001"),
            (Blocked::NoHost { tried: vec![] }, "1100110001"),
            (Blocked::ImageMissing { image: image.into(), host: h.clone() }, "0010000001"),
            (Blocked::ForeignObject { object: object.into(), host: h }, "0001000001"),
            (
                Blocked::Dependency {
                    node: NodeName::new("r1").unwrap(),
                    until: Stage::Healthy,
                    why: "it gave up".into(),
                },
                "0000000001",
            ),
            (Blocked::Unsupported { what: "no".into() }, "0000000001"),
        ];
        for (blocked, expected) in table {
            let found: String = changes.iter().map(|&c| if blocked.cleared_by(c) { '1' } else { '0' }).collect();
            assert_eq!(found, expected, "{blocked}");
            let json = serde_json::to_string(&blocked).unwrap();
            assert_eq!(serde_json::from_str::<Blocked>(&json).unwrap(), blocked, "{json}");
        }
    }

    #[test]
    fn messages_give_numbers_and_names() {
        let shortage = Shortage::Memory { required: 2048 << 20, available: 512 << 20 };
        let full = Blocked::HostFull { host: host("h2"), shortage };
        assert_eq!(full.to_string(), "Insufficient resources on h2: requires 2048 MB, 512 MB available");
        let tried = vec![(host("h1"), "offline".into()), (host("h2"), "requires 2 CPUs, 0.5 CPUs available".into())];
        let text = "No host can run the node: h1: offline; h2: requires 2 CPUs, 0.5 CPUs available";
        assert_eq!(Blocked::NoHost { tried }.to_string(), text);
        assert_eq!(Blocked::NoHost { tried: vec![] }.to_string(), "No host can run the node: there are no hosts");
    }
}
