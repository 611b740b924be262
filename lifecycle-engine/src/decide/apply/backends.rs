//! Another backend for links that stand.

use std::collections::BTreeMap;

use lifecycle_core::id::{LabId, LinkId};
use lifecycle_core::model::{AuditAction, SubjectKind};
use lifecycle_core::topology::Topology;

use super::super::input::CommandError;
use super::super::ledger::Entry;
use super::super::link::{BackendChange, Wish};
use super::super::{Cx, Why, World};
use super::{by_text, key_text, link_text};

/// What becomes of links for which another backend is wished than before; nothing of those that stay where they are.
pub(super) type BackendChanges = BTreeMap<LinkId, Option<BackendChange>>;

/// What becomes of the links of a lab for which a topology wishes for another backend than before.
///
/// # Errors
/// [`CommandError::Invalid`] with every wish that cannot be had, and why.
pub(super) fn changes(world: &World, lab: LabId, topology: &Topology) -> Result<BackendChanges, CommandError> {
    let wanted = by_text(topology);
    let (mut changes, mut problems) = (BackendChanges::new(), Vec::new());
    for row in world.links_of(lab).filter(|row| !row.deleting) {
        let Some(spec) = wanted.get(&key_text(&row.spec)) else { continue };
        let wish = Wish::new(spec, Some(topology), &world.settings.backend);
        if wish == Wish::of(world, row) {
            continue;
        }
        match BackendChange::by(world, row, wish) {
            Ok(change) => drop(changes.insert(row.id, change)),
            Err(reason) => problems.push(format!("link {}: {reason}", link_text(&row.spec))),
        }
    }
    if problems.is_empty() {
        return Ok(changes);
    }
    Err(CommandError::Invalid { problems })
}

/// Has a link that stands go to another backend, or stay where it is. One that is not built will be built there.
pub(super) fn put(cx: &mut Cx<'_>, user: &str, id: LinkId, change: Option<BackendChange>) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let change = change.map(|change| BackendChange { keeps_ends: change.keeps_ends && !link.rebuild, ..change });
    if let Some(change) = &change {
        let (name, lab) = (link.spec.to_string(), link.lab);
        let entry = Entry::new(AuditAction::Placed, Why::user(user).because(change.describe(&link.spec)))
            .states(Some(change.from.to_string()), Some(change.to.to_string()));
        cx.record(SubjectKind::Link, id.to_string(), name, Some(lab), entry);
    }
    cx.change_link(id, |link| {
        link.next_backend = change.map(|change| change.to);
        if link.identity.is_none() {
            // What is just being built, or may have been, is not what is wanted now.
            link.incarnation += 1;
        }
        link.budget.reset_by_user();
    });
    cx.world.touch_link(id);
}
