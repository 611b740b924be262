//! What a link's identity records besides its ends.

use std::collections::BTreeMap;

use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;

use crate::ovsdb::Uuid;

/// The name of the bridge.
pub(crate) const BRIDGE: &str = "bridge";

/// What is recorded of a link's port at one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortIdentity {
    /// Index of its interface in the switch's namespace.
    pub(crate) ifindex: u32,
    /// Its row in the database.
    pub(crate) uuid: Uuid,
    /// Its number on the bridge.
    pub(crate) number: i64,
}

impl PortIdentity {
    pub(crate) fn write(&self, side: Side, detail: &mut BTreeMap<String, String>) {
        detail.insert(format!("ifindex_{side}"), self.ifindex.to_string());
        detail.insert(format!("port_{side}"), self.uuid.to_string());
        detail.insert(format!("number_{side}"), self.number.to_string());
    }

    pub(crate) fn read(identity: &LinkIdentity, side: Side) -> Option<Self> {
        let get = |what: &str| identity.detail.get(&format!("{what}_{side}"));
        Some(Self {
            ifindex: get("ifindex")?.parse().ok()?,
            uuid: Uuid::new(get("port")?),
            number: get("number")?.parse().ok()?,
        })
    }
}

/// The name of a link's port at one side: the recorded one, since a port that was parked has it from the link that it was made
/// for.
pub(crate) fn port_name(identity: &LinkIdentity, side: Side) -> String {
    let plugged = identity.end(side).and_then(|end| end.plugged.as_ref());
    let derived = || OurName::LinkEnd { link: identity.link, side }.ifname().to_string();
    plugged.map_or_else(derived, |plugged| plugged.port.clone())
}
