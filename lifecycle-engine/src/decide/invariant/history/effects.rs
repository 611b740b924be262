//! What is asked of the world outside: by whom, with what record, on whose behalf.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::attach::PlaceKind;
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{AuditAction, NodeRecord};
use lifecycle_core::name::HostName;
use lifecycle_core::plugin::network::{EndMark, LinkIdentity};
use lifecycle_core::plugin::provider::InstanceRef;
use lifecycle_core::policy::enforcement::Budget;

use super::super::Violation;
use super::{History, Seen, readings};
use crate::decide::{Action, ConnectPlan, Effect, EffectId, EndPlan, Input, ProviderState, Subject, apply};

/// What is remembered of effects.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Hosts on which the image of a node was found or fetched since the work on the node began.
    images: BTreeMap<NodeId, Vec<HostName>>,
    /// Nodes whose old instance was touched by the present work.
    touched: BTreeSet<NodeId>,
}

impl History {
    pub(super) fn check_effects(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        let ensured: Vec<(NodeId, HostName)> = seen
            .ended(&self.asked)
            .filter_map(|(asked, outcome)| match (&asked.effect.action, asked.effect.subject) {
                (Action::EnsureImage(_), Subject::Node(id)) if outcome.is_ok() => Some((id, asked.effect.host.clone())),
                _ => None,
            })
            .collect();
        for (id, host) in ensured {
            self.effects.images.entry(id).or_default().push(host);
        }
        self.note_readings(seen);
        self.note_marks(seen);
        for effect in &seen.step.effects {
            self.i6_the_unknown_is_looked_at(effect, found);
            self.i6_the_old_was_seen_to_be_gone(seen, effect, found);
            if effect.action.is_mutating() {
                readings::i6_what_is_there_was_read(seen, effect, found);
                self.i25_one_at_a_time(seen, effect, found);
                self.i30_a_mark_is_used_once(effect, found);
                self.i3_only_the_present_epoch_acts(seen, effect, found);
                i23_nothing_is_done_without_a_record(seen, effect, found);
                i25_an_operation_is_about_its_subject(seen, effect, found);
                i15_no_attempt_before_its_time(seen, effect, found);
                i2_an_explicit_host_or_none(seen, effect, found);
                i6_a_start_follows_the_end_elsewhere(seen, effect, found);
                self.i5_the_old_stays_until_the_new_is_ready(seen, effect, found);
            }
            // What reads is never without effect on budgets of time, but may be asked of anybody at any time.
        }
        self.effects.images.retain(|id, _| seen.world.node_work.contains_key(id));
        self.effects.touched.retain(|id| seen.world.node_work.contains_key(id));
    }

    /// I25: nothing is asked of a node or link while something is being done to it.
    fn i25_one_at_a_time(&self, seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
        let ended =
            |id: EffectId| seen.inputs.iter().any(|it| matches!(it, Input::Outcome { effect, .. } if *effect == id));
        let alike = |asked: &Effect| {
            asked.subject == effect.subject && effect.subject != Subject::Host && asked.action.is_at_subject()
        };
        let before = self.asked.values().map(|asked| &asked.effect).filter(|asked| !ended(asked.id));
        let beside = seen.step.effects.iter().filter(|asked| asked.id < effect.id);
        if let Some(other) = before.chain(beside).find(|asked| alike(asked)) {
            let text = format!("{} while {} is under way", effect.action.name(), other.action.name());
            found.push(Violation::new("I25", format!("{:?}", effect.subject), text));
        }
    }

    /// I3: only the controller that took over last acts. One that did not notice is stopped by its commit, so every step
    /// that acts has something to commit.
    fn i3_only_the_present_epoch_acts(&self, seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
        if seen.world.head.epoch != self.epoch {
            let text = format!("{} in epoch {} after {}", effect.action.name(), seen.world.head.epoch, self.epoch);
            found.push(Violation::new("I3", effect.id, text));
        }
        if seen.step.batch.is_empty() {
            let text =
                format!("{} in a step that commits nothing, so that nobody could fence it", effect.action.name());
            found.push(Violation::new("I3", effect.id, text));
        }
    }

    /// I5: an instance that is in the way of a move is touched only once its new host can be reached and has what the
    /// node needs. That its resources are reserved there is I28.
    fn i5_the_old_stays_until_the_new_is_ready(&mut self, seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
        let (Subject::Node(id), Action::StopNode { .. } | Action::DestroyNode(_)) = (effect.subject, &effect.action)
        else {
            return;
        };
        let Some(node) = seen.world.nodes.get(&id) else { return };
        let Some(spec) = seen.world.spec(id).filter(|_| node.desired == NodeIntent::Running && !node.deleting) else {
            return;
        };
        let Some(target) = spec.host.as_ref().filter(|target| **target != effect.host) else { return };
        if !self.effects.touched.insert(id) {
            return;
        }
        let mut fail = |what: &str| found.push(Violation::new("I5", &node.name, format!("{target} {what}")));
        let state = seen.world.hosts.get(target);
        let name = apply::provider_of_node(seen.world, id);
        let provider = state.and_then(|host| host.providers.get(&name));
        let wants_image = spec.image.is_some() && provider.is_some_and(|provider| provider.capabilities.images);
        if !provider.is_some_and(ProviderState::answers) {
            fail("cannot be reached, and its old instance is touched");
        }
        if wants_image && !self.effects.images.get(&id).is_some_and(|hosts| hosts.contains(target)) {
            fail("was not seen to have its image, and its old instance is touched");
        }
    }
}

/// I2: a node with an explicit host is made and started nowhere else.
fn i2_an_explicit_host_or_none(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let (Subject::Node(id), Action::CreateNode(_) | Action::StartNode(_)) = (effect.subject, &effect.action) else {
        return;
    };
    let Some(explicit) = seen.world.spec(id).and_then(|spec| spec.host.as_ref()) else { return };
    if *explicit != effect.host {
        let text = format!("{} on {} where {explicit} is meant", effect.action.name(), effect.host);
        found.push(Violation::new("I2", id, text));
    }
}

/// I6: nothing is made or started while an instance lives elsewhere.
fn i6_a_start_follows_the_end_elsewhere(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let (Subject::Node(id), Action::CreateNode(_) | Action::StartNode(_)) = (effect.subject, &effect.action) else {
        return;
    };
    for other in seen.census.live(id).filter(|it| it.host != effect.host || it.provider != effect.plugin) {
        let text = format!("{} on {} while it lives on {}", effect.action.name(), effect.host, other.host);
        found.push(Violation::new("I6", id, text));
    }
}

/// I15: no attempt is made before its time.
fn i15_no_attempt_before_its_time(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let budget: Option<&Budget> = match effect.subject {
        Subject::Node(id) => seen.world.nodes.get(&id).map(|node| &node.budget),
        Subject::Link(id) => seen.world.links.get(&id).map(|link| &link.budget),
        Subject::Host => None,
    };
    let wait = budget.and_then(|budget| budget.next_attempt);
    // What follows a start belongs to the attempt that started.
    let follows = matches!(effect.action, Action::RunCommands { .. });
    if wait.is_some_and(|wait| !wait.rebased(seen.now.boot).is_over(seen.now.boot)) && !follows {
        let text = format!("{} before the end of {wait:?}", effect.action.name());
        found.push(Violation::new("I15", format!("{:?}", effect.subject), text));
    }
}

/// I23: what is done was recorded before, so that whoever comes next knows what may have been done.
fn i23_nothing_is_done_without_a_record(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let recorded = match effect.subject {
        Subject::Node(id) => seen.world.nodes.get(&id).is_some_and(|node| node_is_recorded(seen, node, effect)),
        Subject::Link(_) => link_is_recorded(seen, effect),
        Subject::Host => collection_is_recorded(seen, effect),
    };
    if !recorded {
        let row = match effect.subject {
            Subject::Node(id) => format!("{:?}", seen.world.nodes.get(&id)),
            Subject::Link(id) => format!("{:?}", seen.world.links.get(&id)),
            Subject::Host => String::new(),
        };
        let text = format!("{:?} is not what the rows say: {row}", effect.action);
        found.push(Violation::new("I23", format!("{:?}", effect.subject), text));
    }
}

fn node_is_recorded(seen: Seen<'_>, node: &NodeRecord, effect: &Effect) -> bool {
    use NodeState::{Pending, Running, Starting, Stopping};
    let here = node.host.as_ref() == Some(&effect.host) && node.provider == effect.plugin;
    let is = |wanted: &InstanceRef| node.instance.as_ref().is_some_and(|it| it.reference == *wanted);
    match &effect.action {
        // For a node that is to move the image is fetched beforehand, where it is to be.
        Action::EnsureImage(_) => (here && node.actual == Pending) || (node.recreate && is_target(seen, node, effect)),
        Action::CreateNode(request) => {
            here && node.actual == Pending && node.instance.is_none() && node.incarnation == request.incarnation
        }
        Action::StartNode(instance) => here && node.actual == Starting && is(instance),
        Action::StopNode { instance, .. } => here && node.actual == Stopping && is(instance),
        Action::DestroyNode(instance) => {
            let meant = node.deleting || node.recreate || node.actual == Pending;
            here && meant && node.incarnation == instance.incarnation
        }
        Action::RunCommands { instance, .. } => here && node.actual == Running && is(instance),
        _ => false,
    }
}

fn is_target(seen: Seen<'_>, node: &NodeRecord, effect: &Effect) -> bool {
    seen.world.node_work.get(&node.id).is_some_and(|work| work.target.as_ref() == Some(&effect.host))
}

fn link_is_recorded(seen: Seen<'_>, effect: &Effect) -> bool {
    let Subject::Link(id) = effect.subject else { return false };
    let Some(link) = seen.world.links.get(&id) else { return false };
    let here = link.hosts().any(|host| *host == effect.host) && *effect.action.backend(link) == effect.plugin;
    let built = |identity: &LinkIdentity| link.halves().any(|half| half == (&effect.host, identity));
    here && match &effect.action {
        Action::Connect(plan) => {
            // Built from nothing, or what was built is mended or taken over.
            let creating = link.actual == LinkState::Creating && link.identity.is_none();
            let again = link.identity.is_some() && (link.rebuild || link.leaves().is_some());
            (creating || again) && link.incarnation == plan.incarnation
        }
        Action::Disconnect(identity) => built(identity) && (link.rebuild || link.deleting),
        Action::Release(identity) => built(identity) && link.leaves().is_some(),
        Action::Park { identity, heirs } => {
            let told = |mark: &EndMark| {
                let heir = seen.world.links.get(&mark.link);
                heir.is_some_and(|heir| heir.incarnation == mark.incarnation && heir.parked(mark.side).is_some())
            };
            built(identity) && link.deleting && heirs.iter().flatten().all(told)
        }
        Action::SetParams { identity, attrs } => built(identity) && link.attrs() == *attrs,
        Action::SetCarrier { identity, .. } | Action::Redirect { identity, .. } => built(identity),
        _ => false,
    }
}

/// What is collected is on the list with a row in the trail, and is nobody's.
fn collection_is_recorded(seen: Seen<'_>, effect: &Effect) -> bool {
    let told = |id: String| {
        let mut rows = seen.step.batch.audit.iter().filter(|row| row.action == AuditAction::Collected);
        rows.any(|row| row.id == id)
    };
    match &effect.action {
        Action::DestroyNode(instance) => {
            let owned = seen.world.nodes.get(&instance.node).is_some_and(|row| {
                let here = row.host.as_ref() == Some(&effect.host) && row.provider == effect.plugin;
                let named = row.instance.as_ref().is_none_or(|it| it.reference.identifier == instance.identifier);
                here && row.incarnation == instance.incarnation && named
            });
            told(instance.node.to_string()) && !owned
        }
        Action::RemoveLink { observed, .. } => {
            let row = seen.world.links.get(&observed.link);
            let owned = row.is_some_and(|row| observed.incarnation.is_none_or(|n| n == row.incarnation));
            told(observed.link.to_string()) && !owned
        }
        _ => false,
    }
}

/// I25: an operation on a node is about that node, one on a link about that link and its nodes.
fn i25_an_operation_is_about_its_subject(seen: Seen<'_>, effect: &Effect, found: &mut Vec<Violation>) {
    let about = match (effect.subject, &effect.action) {
        (Subject::Node(id), Action::CreateNode(request)) => request.node == id,
        (Subject::Node(id), Action::EnsureImage(spec)) => seen.world.spec(id).is_some_and(|own| own.name == spec.name),
        (
            Subject::Node(id),
            Action::StartNode(it)
            | Action::StopNode { instance: it, .. }
            | Action::DestroyNode(it)
            | Action::RunCommands { instance: it, .. },
        ) => it.node == id,
        (Subject::Link(id), Action::Connect(plan)) => plan.link == id && joins_its_nodes(seen, plan),
        (
            Subject::Link(id),
            Action::Disconnect(it)
            | Action::Release(it)
            | Action::Park { identity: it, .. }
            | Action::SetParams { identity: it, .. }
            | Action::Redirect { identity: it, .. }
            | Action::SetCarrier { identity: it, .. },
        ) => it.link == id,
        (Subject::Host, Action::DestroyNode(_) | Action::RemoveLink { .. }) => true,
        _ => false,
    };
    let alone = match effect.subject {
        Subject::Node(id) => seen.world.node_work.get(&id).is_some_and(|work| work.effect == Some(effect.id)),
        Subject::Link(id) => seen.world.link_work.get(&id).is_some_and(|work| work.effect == Some(effect.id)),
        Subject::Host => true,
    };
    if !about || !alone {
        let text = format!("{:?} is about something else, or not the only one", effect.action);
        found.push(Violation::new("I25", format!("{:?}", effect.subject), text));
    }
}

fn joins_its_nodes(seen: Seen<'_>, plan: &ConnectPlan) -> bool {
    let Some(link) = seen.world.links.get(&plan.link) else { return false };
    plan.ends.iter().zip(link.nodes).all(|(end, node)| match end {
        EndPlan::Port { instance, .. } => {
            let row = node.and_then(|id| seen.world.nodes.get(&id));
            // That it is gone may come out in the step in which the other half of the link answered.
            row.is_some_and(|row| row.instance.as_ref().map_or(row.id == instance.node, |it| it.reference == *instance))
        }
        // Half of a link between two hosts leads to a tunnel in place of the node that the other half is for.
        EndPlan::Place(point) => node.is_none() || link.span.is_some() && point.place.name() == PlaceKind::Tunnel,
    })
}
