//! Whether what is recorded is true, within the time that it takes to notice.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::model::{AuditAction, AuditRow, Change, LinkRecord, SubjectKind};
use lifecycle_core::time::BootInstant;

use super::super::{Violation, links};
use super::{History, Seen};
use crate::decide::{Action, Done, Subject, World};

/// What is remembered of what was read and changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Since when a node is recorded as running and does not.
    idle: BTreeMap<NodeId, BootInstant>,
    /// Since when a link is recorded as up and is not there.
    fallen: BTreeMap<LinkId, BootInstant>,
    /// Since when a link is recorded as up without proof.
    unproved: BTreeMap<LinkId, BootInstant>,
    /// Step in which an effect last ended that changed a link or an end of it.
    changed: BTreeMap<LinkId, u64>,
    /// Step that asked for the last reading that found a link up.
    proved: BTreeMap<LinkId, u64>,
    /// Step in which an effect last ended that changed a node.
    acted: BTreeMap<NodeId, u64>,
}

impl History {
    pub(super) fn check_truth(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        self.note_changes(seen);
        self.i4_a_row_stays_while_its_link_stands(seen, found);
        self.i7_old_readings_are_not_recorded(seen, found);
        self.i7_running_was_observed(seen, found);
        self.i9_up_was_verified(seen, found);
    }

    fn note_changes(&mut self, seen: Seen<'_>) {
        let (world, memory) = (seen.world, &mut self.truth);
        for (asked, outcome) in seen.ended(&self.asked) {
            match (asked.effect.subject, outcome) {
                (Subject::Link(id), Ok(Done::Report(report))) if report.is_up() => {
                    memory.proved.insert(id, asked.step);
                }
                (Subject::Link(id), _) if asked.effect.action.is_mutating() => {
                    memory.changed.insert(id, world.step);
                }
                (Subject::Node(id), _) if changes_ends(&asked.effect.action) => {
                    memory.acted.insert(id, world.step);
                    for link in world.links_at(id) {
                        memory.changed.insert(link.id, world.step);
                    }
                }
                _ => {}
            }
        }
        for (id, old) in &self.links {
            // What was voided is another link under the same name.
            if world.links.get(id).is_none_or(|link| link.incarnation != old.incarnation) {
                memory.changed.insert(*id, world.step);
                memory.proved.remove(id);
            }
        }
    }

    /// I4: the row of a link outlives what was built, unless what it was attached to went away.
    fn i4_a_row_stays_while_its_link_stands(&self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        for change in &seen.step.batch.changes {
            let Change::DropLink { id, .. } = change else { continue };
            let Some((link, identity)) = self.links.get(id).and_then(|link| Some((link, link.identity.as_ref()?)))
            else {
                continue;
            };
            let attached = identity.ends().all(|end| {
                let node = end.point.node.map(|id| seen.world.nodes.get(&id).and_then(|node| node.instance.as_ref()));
                node.is_none_or(|it| it.is_some_and(|it| it.reference.incarnation == end.point.incarnation))
            });
            if attached && links::stands(link, seen.census) {
                found.push(Violation::new("I4", &link.key, "its row was removed and it stands"));
            }
        }
    }

    /// I7: what synchronisation records of a node was read after whatever was last done to it.
    fn i7_old_readings_are_not_recorded(&self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        let synced = |row: &&AuditRow| {
            let by_sync = row.subject == SubjectKind::Node && row.decided_by == "sync";
            by_sync && row.action == AuditAction::StateChanged
        };
        for row in seen.step.batch.audit.iter().filter(synced) {
            let Ok(id) = row.id.parse::<NodeId>() else { continue };
            let (Some(node), Some(&acted)) = (self.nodes.get(&id), self.truth.acted.get(&id)) else { continue };
            let readings = seen.ended(&self.asked).filter(|(asked, outcome)| {
                let here = node.host.as_ref() == Some(&asked.effect.host) && node.provider == asked.effect.plugin;
                let about = match &asked.effect.action {
                    Action::ListNodes => true,
                    Action::ObserveNode(instance) => instance.node == id,
                    _ => false,
                };
                here && about && outcome.is_ok()
            });
            let last = readings.map(|(asked, _)| asked.step).max();
            if last.is_some_and(|asked| asked < acted) {
                let text = format!("recorded as {:?} by what was read before it was acted upon", row.to);
                found.push(Violation::new("I7", &row.name, text));
            }
        }
    }

    /// I7: what is recorded as running was observed to run within two full passes, or is marked stale.
    fn i7_running_was_observed(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        let limits = &seen.world.settings.limits;
        let patience = (limits.sync_pass + limits.reading) * 2 + Duration::from_secs(5);
        let runs = |id: NodeId| seen.census.instances.iter().any(|it| it.seen.instance.node == id && it.is_live());
        for node in seen.world.nodes.values() {
            let idle = node.actual == NodeState::Running && node.stale_since.is_none() && !runs(node.id);
            if let Some(since) = last(&mut self.truth.idle, node.id, idle, seen.now.boot, patience) {
                let text = format!("recorded as running, and it does not run since {} ms", since.as_millis());
                found.push(Violation::new("I7", &node.name, text));
            }
        }
    }

    /// I9: what is recorded as up was verified after the last change of either end, or is being read right now.
    fn i9_up_was_verified(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        let limits = &seen.world.settings.limits;
        let patience = (limits.link_pass + limits.reading) * 2 + Duration::from_secs(5);
        let memory = &mut self.truth;
        for link in seen.world.links.values() {
            let up = link.actual == LinkState::Up && !is_stale(seen.world, link);
            if up && link.leaves().is_some() {
                found.push(Violation::new("I9", &link.key, "recorded as up, and it is between two backends"));
            }
            let fallen = up && !links::stands(link, seen.census);
            if let Some(since) = last(&mut memory.fallen, link.id, fallen, seen.now.boot, patience) {
                let text = format!("recorded as up, and it is not there since {} ms", since.as_millis());
                found.push(Violation::new("I9", &link.key, text));
            }
            let changed = memory.changed.get(&link.id).copied().unwrap_or(0);
            let proved = memory.proved.get(&link.id).is_some_and(|&proved| proved >= changed);
            let work = seen.world.link_work.get(&link.id);
            let pending = work.is_some_and(|work| work.unverified || work.effect.is_some());
            if up && !proved && !pending {
                found.push(Violation::new("I9", &link.key, "recorded as up, and it was not verified since it changed"));
            }
            if let Some(since) = last(&mut memory.unproved, link.id, up && !proved, seen.now.boot, patience) {
                let text = format!("recorded as up, and unproved since {} ms", since.as_millis());
                found.push(Violation::new("I9", &link.key, text));
            }
        }
    }
}

/// Whether an action on a node may change its ends of links.
fn changes_ends(action: &Action) -> bool {
    matches!(action, Action::CreateNode(_) | Action::StartNode(_) | Action::StopNode { .. } | Action::DestroyNode(_))
}

fn is_stale(world: &World, link: &LinkRecord) -> bool {
    link.nodes.iter().flatten().any(|id| world.nodes.get(id).is_some_and(|node| node.stale_since.is_some()))
}

/// Keeps since when something holds; the time once it has lasted too long.
fn last<K: Ord + Copy>(
    since: &mut BTreeMap<K, BootInstant>,
    key: K,
    holds: bool,
    now: BootInstant,
    patience: Duration,
) -> Option<Duration> {
    if !holds {
        since.remove(&key);
        return None;
    }
    let began = *since.entry(key).or_insert(now);
    now.since(began).filter(|&lasted| lasted > patience)
}
