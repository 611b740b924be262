//! What was read before something is done: where nobody knows what is there, the next thing is a look.

use std::collections::BTreeMap;

use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::model::Change;

use super::super::Violation;
use super::{History, Seen};
use crate::decide::{Action, Effect, Subject};

/// What is remembered of what has to be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Effects on nodes of which nobody knows what they came to, with the step that learned so.
    unknown: BTreeMap<NodeId, (u64, Effect)>,
    /// Removals of instances that others are to follow, with the step that asked for them or learned of their end.
    unconfirmed: BTreeMap<NodeId, (u64, Effect)>,
}

/// Marks of what is known to be gone: they are not used again, so that what comes late is told from what is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    nodes: BTreeMap<NodeId, u64>,
    links: BTreeMap<LinkId, u64>,
}

impl History {
    /// Notes what nobody knows, and what was read since.
    pub(super) fn note_readings(&mut self, seen: Seen<'_>) {
        let (mut unknown, mut unconfirmed) =
            (std::mem::take(&mut self.readings.unknown), std::mem::take(&mut self.readings.unconfirmed));
        for (asked, outcome) in seen.ended(&self.asked) {
            let effect = &asked.effect;
            match (effect.subject, &effect.action, outcome) {
                (Subject::Node(id), action, outcome) if is_at_instance(action) => {
                    if outcome.as_ref().is_err_and(|error| error.kind().is_unknown()) {
                        unknown.insert(id, (seen.world.step, effect.clone()));
                    }
                    if let Some((since, _)) = unconfirmed.get_mut(&id) {
                        *since = seen.world.step;
                    }
                }
                // A list tells as much as a look.
                (_, Action::ObserveNode(_) | Action::ListNodes, Ok(_)) => {
                    let unread = |id: &NodeId, (since, at): &mut (u64, Effect)| {
                        let about = match &effect.action {
                            Action::ObserveNode(instance) => instance.node == *id,
                            _ => at.host == effect.host && at.plugin == effect.plugin,
                        };
                        !about || *since > asked.step
                    };
                    unknown.retain(unread);
                    unconfirmed.retain(unread);
                }
                _ => {}
            }
        }
        (self.readings.unknown, self.readings.unconfirmed) = (unknown, unconfirmed);
    }

    /// I6: where one instance follows another, that the first is gone was read, not only reported.
    pub(super) fn i6_the_old_was_seen_to_be_gone(
        &mut self,
        seen: Seen<'_>,
        effect: &Effect,
        found: &mut Vec<Violation>,
    ) {
        let Subject::Node(id) = effect.subject else { return };
        match effect.action {
            // What is on no row was never started.
            Action::DestroyNode(_) if seen.world.nodes.get(&id).is_some_and(|node| node.instance.is_some()) => {
                self.readings.unconfirmed.insert(id, (seen.world.step, effect.clone()));
            }
            Action::CreateNode(_) if self.readings.unconfirmed.contains_key(&id) => {
                found.push(Violation::new("I6", id, "create_node before its old instance was seen to be gone"));
            }
            _ => {}
        }
    }

    pub(super) fn note_marks(&mut self, seen: Seen<'_>) {
        for change in &seen.step.batch.changes {
            match change {
                Change::PutNode(row) if row.instance.is_none() => {
                    if let Some(gone) = self.nodes.get(&row.id).and_then(|old| old.instance.as_ref()) {
                        self.marks.nodes.insert(row.id, gone.reference.incarnation);
                    }
                }
                Change::PutLink(row) if row.identity.is_none() => {
                    if let Some(gone) = self.links.get(&row.id).and_then(|old| old.identity.as_ref()) {
                        self.marks.links.insert(row.id, gone.incarnation);
                    }
                }
                Change::DropNode { id, .. } => drop(self.marks.nodes.remove(id)),
                Change::DropLink { id, .. } => drop(self.marks.links.remove(id)),
                _ => {}
            }
        }
    }

    /// I30 for marks: what was gone is not made again under its mark.
    pub(super) fn i30_a_mark_is_used_once(&self, effect: &Effect, found: &mut Vec<Violation>) {
        let (gone, mark) = match (effect.subject, &effect.action) {
            (Subject::Node(id), Action::CreateNode(request)) => (self.marks.nodes.get(&id), request.incarnation),
            (Subject::Link(id), Action::Connect(plan)) => (self.marks.links.get(&id), plan.incarnation),
            _ => return,
        };
        if gone.is_some_and(|gone| mark <= *gone) {
            let text = format!("{} under mark {mark}, which something bore that is gone", effect.action.name());
            found.push(Violation::new("I30", format!("{:?}", effect.subject), text));
        }
    }

    /// I6: where nobody knows what an effect came to, nothing is made or started before a look. To remove what may be gone
    /// already does no harm.
    pub(super) fn i6_the_unknown_is_looked_at(&mut self, effect: &Effect, found: &mut Vec<Violation>) {
        let Subject::Node(id) = effect.subject else { return };
        let Some((_, at)) = self.readings.unknown.get(&id) else { return };
        if at.host != effect.host || at.plugin != effect.plugin {
            return;
        }
        match effect.action {
            Action::ObserveNode(_) => drop(self.readings.unknown.remove(&id)),
            Action::CreateNode(_) | Action::StartNode(_) => {
                let text = format!("{} before a look at what {} came to", effect.action.name(), at.action.name());
                found.push(Violation::new("I6", id, text));
            }
            _ => {}
        }
    }
}

/// I6: nothing is done to a node through a provider before it was read what is there.
pub(super) fn i6_what_is_there_was_read(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let Subject::Node(id) = effect.subject else { return };
    let host = seen.world.hosts.get(&effect.host);
    if !host.and_then(|host| host.providers.get(&effect.plugin)).is_some_and(|provider| provider.synced) {
        let text = format!("{} on {} before a list of {} was read", effect.action.name(), effect.host, effect.plugin);
        found.push(Violation::new("I6", id, text));
    }
}

/// Whether an action may change an instance.
const fn is_at_instance(action: &Action) -> bool {
    matches!(action, Action::CreateNode(_) | Action::StartNode(_) | Action::StopNode { .. } | Action::DestroyNode(_))
}
