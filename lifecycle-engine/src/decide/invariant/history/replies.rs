//! Answers to commands.

use std::collections::BTreeSet;

use super::super::Violation;
use super::Seen;
use crate::decide::{Command, Input, Reply};

/// I24: a bulk call puts every node of its lab in exactly one class.
pub(super) fn i24_a_bulk_call_classifies_each_node_once(seen: Seen<'_>, found: &mut Vec<Violation>) {
    for (id, reply) in &seen.step.replies {
        let Ok(Reply::Bulk { affected, skipped_transitional, already_in_state, .. }) = reply else { continue };
        let command = seen.inputs.iter().find_map(|input| match input {
            Input::Command { id: asked, command: Command::Bulk { lab, .. }, .. } if asked == id => Some(lab),
            _ => None,
        });
        let Some(lab) = command.and_then(|name| seen.world.lab_by_name(name)) else { continue };
        let all = || affected.iter().chain(skipped_transitional).chain(already_in_state);
        let classed: BTreeSet<_> = all().collect();
        let nodes: BTreeSet<_> = seen.world.nodes_of(lab.id).map(|node| &node.name).collect();
        if classed.len() != all().count() || (seen.inputs.len() == 1 && !nodes.is_subset(&classed)) {
            found.push(Violation::new("I24", &lab.topology.name, format!("{reply:?} where there are {nodes:?}")));
        }
    }
}
