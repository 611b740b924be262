//! What a link's identity records besides its ends.

use std::collections::BTreeMap;

use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;

/// The index of the bridge.
const BRIDGE: &str = "bridge";
/// The cookie of the namespace that bridge and ports are in.
const SWITCH: &str = "switch";

/// What is recorded of the switch's side of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Cookie of the namespace that bridge and ports are in.
    pub(crate) switch: u64,
    /// Index of the bridge.
    pub(crate) bridge: u32,
    /// Indexes of the ports.
    pub(crate) ports: [u32; 2],
}

impl Segment {
    pub(crate) fn write(&self) -> BTreeMap<String, String> {
        let mut detail = BTreeMap::from([
            (SWITCH.to_owned(), self.switch.to_string()),
            (BRIDGE.to_owned(), self.bridge.to_string()),
        ]);
        for side in [Side::A, Side::B] {
            detail.insert(port(side), self.ports[side.index()].to_string());
        }
        detail
    }

    pub(crate) fn read(identity: &LinkIdentity) -> Option<Self> {
        let get = |key: &str| identity.detail.get(key);
        let port = |side| get(&port(side))?.parse().ok();
        Some(Self {
            switch: get(SWITCH)?.parse().ok()?,
            bridge: get(BRIDGE)?.parse().ok()?,
            ports: [port(Side::A)?, port(Side::B)?],
        })
    }
}

fn port(side: Side) -> String {
    format!("port_{side}")
}
