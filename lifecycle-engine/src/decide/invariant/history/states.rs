//! States, intents and budgets: how they may change, and that the audit trail tells of each change.

use std::str::FromStr;

use lifecycle_core::machine::{Lifecycle, LinkState, NodeState};
use lifecycle_core::model::{AuditAction, AuditRow, Change, LinkRecord, NodeRecord, SubjectKind, Trigger};
use lifecycle_core::policy::enforcement::Budget;
use lifecycle_core::time::Deadline;

use super::super::Violation;
use super::{History, Seen};
use crate::decide::{Done, Subject};

impl History {
    pub(super) fn check_states(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        for row in &seen.step.batch.audit {
            i19_commanded_states_follow_the_tables(row, found);
            self.i14_error_is_left_within_the_budget(seen, row, found);
            self.i22_the_trail_is_chained(row, found);
        }
        for change in &seen.step.batch.changes {
            match change {
                Change::PutNode(row) => {
                    self.i22_every_change_is_in_the_trail(SubjectKind::Node, row.id, row.actual, found);
                    let Some(old) = self.nodes.get(&row.id) else { continue };
                    i21_only_users_change_what_is_wanted(seen, row.name.as_str(), old.desired == row.desired, found);
                    i14_the_first_cause_is_kept(row.name.as_str(), &old.budget, &row.budget, found);
                    self.i15_a_nodes_budget(seen, old, row, found);
                }
                Change::PutLink(row) => {
                    self.i22_every_change_is_in_the_trail(SubjectKind::Link, row.id, row.actual, found);
                    let Some(old) = self.links.get(&row.id) else { continue };
                    let name = row.key.to_string();
                    i21_only_users_change_what_is_wanted(seen, &name, old.desired == row.desired, found);
                    i14_the_first_cause_is_kept(&name, &old.budget, &row.budget, found);
                    self.i15_a_links_budget(seen, old, row, found);
                }
                Change::DropNode { id, .. } => self.i22_removal_is_in_the_trail(SubjectKind::Node, id, found),
                Change::DropLink { id, .. } => self.i22_removal_is_in_the_trail(SubjectKind::Link, id, found),
                _ => {}
            }
        }
    }

    /// I14: `error` is left by a user, by enforcement within its budget, or because the world shows otherwise.
    fn i14_error_is_left_within_the_budget(&self, seen: Seen<'_>, row: &AuditRow, found: &mut Vec<Violation>) {
        let enforced = matches!(row.trigger, Trigger::Enforcement | Trigger::AgentResponse);
        let leaves = row.action == AuditAction::StateChanged && row.from.as_deref() == Some("error");
        if !leaves || !enforced || seen.by_user() {
            return;
        }
        let node = row.id.parse().ok().and_then(|id| self.nodes.get(&id));
        let link = row.id.parse().ok().and_then(|id| self.links.get(&id));
        let given_up = match row.subject {
            SubjectKind::Node => node.is_some_and(|node| node.budget.given_up_at.is_some() && !node.deleting),
            SubjectKind::Link => link.is_some_and(|link| link.budget.given_up_at.is_some() && !link.deleting),
            _ => false,
        };
        if given_up {
            let to = row.to.as_deref().unwrap_or_default();
            found.push(Violation::new("I14", &row.name, format!("it had given up and becomes `{to}` by itself")));
        }
    }

    /// I22: each row of the trail begins where the one before ended, and nothing follows the last.
    fn i22_the_trail_is_chained(&mut self, row: &AuditRow, found: &mut Vec<Violation>) {
        if !matches!(row.subject, SubjectKind::Node | SubjectKind::Link) {
            return;
        }
        let key = (row.subject, row.id.clone());
        let last = self.trail.get(&key).cloned();
        let fits = match row.action {
            AuditAction::Created => last.is_none(),
            AuditAction::StateChanged | AuditAction::Deleted => last == Some(row.from.clone()) && row.from.is_some(),
            _ => last.as_ref().is_some_and(Option::is_some),
        };
        if !fits {
            let text = format!("audit row {} ({:?} from {:?}) does not follow {last:?}", row.seq, row.action, row.from);
            found.push(Violation::new("I22", &row.name, text));
        }
        match row.action {
            AuditAction::Created | AuditAction::StateChanged => drop(self.trail.insert(key, row.to.clone())),
            AuditAction::Deleted => drop(self.trail.insert(key, None)),
            _ => {}
        }
    }

    /// I22: a row's state is the one that the trail ends with.
    fn i22_every_change_is_in_the_trail<S: Lifecycle>(
        &self,
        kind: SubjectKind,
        id: impl ToString,
        state: S,
        found: &mut Vec<Violation>,
    ) {
        let id = id.to_string();
        let told = self.trail.get(&(kind, id.clone())).cloned().flatten();
        if told != Some(state.to_string()) {
            found.push(Violation::new("I22", id, format!("it is `{state}` and the trail says {told:?}")));
        }
    }

    fn i22_removal_is_in_the_trail(&self, kind: SubjectKind, id: impl ToString, found: &mut Vec<Violation>) {
        let id = id.to_string();
        if self.trail.get(&(kind, id.clone())) != Some(&None) {
            found.push(Violation::new("I22", id, "it was removed and the trail does not say so"));
        }
    }

    fn i15_a_nodes_budget(&self, seen: Seen<'_>, old: &NodeRecord, row: &NodeRecord, found: &mut Vec<Violation>) {
        let policy = seen.world.settings.enforcement;
        let ran = old.running_since.and_then(|since| seen.now.boot.since(since));
        let stable = ran.is_some_and(|ran| ran >= policy.stable_after);
        let done = seen.ended(&self.asked).any(|(asked, outcome)| {
            asked.effect.subject == Subject::Node(row.id)
                && (outcome.is_ok() || asked.effect.action.name() == "observe_node")
        });
        // However it came about, nothing is waited for any more.
        let there = row.actual.matches(row.desired);
        let budgets = Budgets { old: &old.budget, new: &row.budget, max: policy.max_attempts };
        budgets.i15(seen, row.name.as_str(), stable, done || stable || there, found);
    }

    fn i15_a_links_budget(&self, seen: Seen<'_>, old: &LinkRecord, row: &LinkRecord, found: &mut Vec<Violation>) {
        let proved = seen.ended(&self.asked).any(|(asked, outcome)| {
            asked.effect.subject == Subject::Link(row.id)
                && matches!(outcome, Ok(Done::Report(report)) if report.is_intact())
        });
        let budgets = Budgets { old: &old.budget, new: &row.budget, max: seen.world.settings.repair.max_attempts };
        budgets.i15(seen, &row.key.to_string(), proved, proved, found);
    }
}

/// A budget before and after a step.
struct Budgets<'a> {
    old: &'a Budget,
    new: &'a Budget,
    max: u32,
}

impl Budgets<'_> {
    /// I15: no more attempts than the budget has, until a user or a lasting success gives it back; and a wait ends only
    /// by time, by a user, or by success.
    fn i15(&self, seen: Seen<'_>, subject: &str, regained: bool, succeeded: bool, found: &mut Vec<Violation>) {
        let Self { old, new, max } = *self;
        if new.attempts > max {
            found.push(Violation::new("I15", subject, format!("{} attempts of {max}", new.attempts)));
        }
        if new.attempts < old.attempts && !regained && !seen.by_user() {
            let text = format!("its budget came back from {} to {} attempts by itself", old.attempts, new.attempts);
            found.push(Violation::new("I15", subject, text));
        }
        let Some(wait) = old.next_attempt.filter(|wait| !wait.rebased(seen.now.boot).is_over(seen.now.boot)) else {
            return;
        };
        let kept = |now: Deadline| {
            now.wait_millis >= wait.wait_millis && (now.from == wait.from || now.from.boot != wait.from.boot)
        };
        let excused = succeeded || seen.by_user() || new.given_up_at.is_some() || new.attempts > old.attempts;
        if !excused && !new.next_attempt.is_some_and(kept) {
            found.push(Violation::new("I15", subject, format!("its wait {wait:?} became {:?}", new.next_attempt)));
        }
    }
}

/// I14: the first cause stays until the budget is whole again.
fn i14_the_first_cause_is_kept(subject: &str, old: &Budget, new: &Budget, found: &mut Vec<Violation>) {
    if old.attempts > 0 && new.attempts > old.attempts && old.first_error != new.first_error {
        let text = format!("its first error {:?} became {:?}", old.first_error, new.first_error);
        found.push(Violation::new("I14", subject, text));
    }
}

/// I19: a state that was commanded follows by the table; what was merely observed is marked as drift where it does not.
fn i19_commanded_states_follow_the_tables(row: &AuditRow, found: &mut Vec<Violation>) {
    if row.action != AuditAction::StateChanged || row.trigger == Trigger::Drift {
        return;
    }
    let (Some(from), Some(to)) = (row.from.as_deref(), row.to.as_deref()) else { return };
    let fits = match row.subject {
        SubjectKind::Node => follows::<NodeState>(from, to),
        SubjectKind::Link => follows::<LinkState>(from, to),
        _ => true,
    };
    if !fits {
        found.push(Violation::new("I19", &row.name, format!("from `{from}` to `{to}`, which the table lacks")));
    }
}

fn follows<S: Lifecycle + FromStr>(from: &str, to: &str) -> bool {
    let (Ok(from), Ok(to)) = (from.parse::<S>(), to.parse::<S>()) else { return false };
    from.may_become(to)
}

/// I21: only a user's call changes what is wanted.
fn i21_only_users_change_what_is_wanted(seen: Seen<'_>, subject: &str, same: bool, found: &mut Vec<Violation>) {
    if !same && !seen.by_user() {
        found.push(Violation::new("I21", subject, "what is wanted of it changed and nobody asked for it"));
    }
}
