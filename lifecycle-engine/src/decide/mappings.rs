//! Where the interfaces of a lab's nodes are plugged in.

use std::collections::BTreeMap;

use lifecycle_core::id::LabId;
use lifecycle_core::model::{InterfaceMapping, LinkRecord};
use lifecycle_core::policy::link::Side;

use super::World;

impl World {
    /// Where the interfaces of a lab's nodes are plugged in, each interface once, ordered by node and interface.
    pub fn mappings(&self, lab: LabId) -> Vec<InterfaceMapping> {
        let mut found = BTreeMap::new();
        for link in self.links_of(lab) {
            for side in [Side::A, Side::B] {
                let Some(mapping) = self.mapping(link, side) else { continue };
                // An interface that goes from one link to another is where it was until that is gone.
                let rank = (link.built_at(side).is_some(), !link.deleting);
                let place = (mapping.node_name.clone(), mapping.interface.clone());
                let best = found.entry(place).or_insert_with(|| (rank, mapping.clone()));
                if best.0 < rank {
                    *best = (rank, mapping);
                }
            }
        }
        found.into_values().map(|(_, mapping)| mapping).collect()
    }

    fn mapping(&self, link: &LinkRecord, side: Side) -> Option<InterfaceMapping> {
        let spec = link.nodes[side.index()].and_then(|node| self.spec(node));
        let kind = spec.map(|spec| spec.kind.as_str());
        let vendor = kind.and_then(|kind| self.kinds.get(kind));
        let end = link.spec.ends()[side.index()].as_node()?;
        let port = vendor.and_then(|(vendor, data)| vendor.port(data, &end.ifname));
        InterfaceMapping::new(link, side, kind, port)
    }
}
