//! Interfaces of nodes that go from one link to another.

use lifecycle_core::id::LabId;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Endpoint, LinkSpec, Topology};

use super::super::World;
use super::super::link::{self, Wish};
use super::{by_text, end_text, key_text, link_text};

/// The interfaces that are plugged in elsewhere when a lab becomes what a topology says, and what becomes of each.
pub(super) fn plugged_elsewhere(world: &World, lab: LabId, topology: &Topology) -> Vec<String> {
    let wanted = by_text(topology);
    let standing = world.links_of(lab).filter(|row| !row.deleting && row.identity.is_some());
    let mut texts = Vec::new();
    for row in standing.filter(|row| !wanted.contains_key(&key_text(&row.spec))) {
        for (side, end) in [Side::A, Side::B].into_iter().zip(row.spec.ends()) {
            let Some(new) = ending_at(topology, end) else { continue };
            let wish = Wish::new(new, Some(topology), &world.settings.backend);
            let becomes = match link::stays(world, row, side, new, wish) {
                true => "in place",
                false => "made anew, without addresses and with another index",
            };
            texts.push(format!(
                "{}, from {} to {}: {becomes}",
                end_text(end, ""),
                link_text(&row.spec),
                link_text(new)
            ));
        }
    }
    texts
}

/// The link of a topology that ends at an interface of a node.
fn ending_at<'a>(topology: &'a Topology, end: &Endpoint) -> Option<&'a LinkSpec> {
    let end = end.as_node()?;
    topology.links.iter().find(|spec| spec.side_at(&end.node, &end.ifname).is_some())
}
