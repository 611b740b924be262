//! Read-only synchronisation: records what a provider says is true.
//!
//! It holds a ledger and nothing else, so it can change recorded states but cannot ask for an effect. What has to be done
//! about a difference is enforcement's business.

use std::collections::BTreeMap;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeInstance;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::provider::{ExitRecord, InstanceRef, InstanceState, ObservedNode};
use lifecycle_core::policy::enforcement::Spent;

use super::host::{OTHER_INCARNATION, Orphan};
use super::node::{self, Goal, NodeWork};
use super::planted::{self, Bug};
use super::{Ledger, Why};

/// Records a list of all instances that a provider has on a host, asked for in step `issued`.
pub(super) fn take(
    ledger: &mut Ledger<'_>,
    host: &HostName,
    plugin: &PluginName,
    found: Vec<ObservedNode>,
    issued: u64,
) {
    let mut by_node: BTreeMap<NodeId, ObservedNode> = BTreeMap::new();
    let adopts_any = ledger.world.has_bug(Bug::AdoptsAnyIncarnation);
    let collects_stopped = ledger.world.has_bug(Bug::CollectsWhatIsStopped);
    let mut strangers = Vec::new();
    for seen in found {
        let id = seen.instance.node;
        let row = ledger.world.nodes.get(&id);
        let lives_here = row.is_some_and(|row| row.host.as_ref() == Some(host) && row.provider == *plugin);
        match row {
            None => strangers.push((seen.instance, "its node is gone")),
            Some(_) if !lives_here => strangers.push((seen.instance, "its node runs elsewhere")),
            Some(row) if row.incarnation != seen.instance.incarnation && !adopts_any => {
                strangers.push((seen.instance, OTHER_INCARNATION));
            }
            Some(row) if collects_stopped && row.actual == NodeState::Stopped && row.desired == NodeIntent::Stopped => {
                strangers.push((seen.instance, "nobody wants it"));
            }
            Some(row) => {
                // Of several under one mark it is the one that is recorded.
                let recorded = row.instance.as_ref().is_some_and(|own| own.reference == seen.instance);
                let second = if recorded || !by_node.contains_key(&id) { by_node.insert(id, seen) } else { Some(seen) };
                strangers.extend(second.map(|seen| (seen.instance, "it is a second instance of its node")));
            }
        }
    }
    note_orphans(ledger, host, plugin, strangers);

    let here: Vec<NodeId> = ledger
        .world
        .nodes
        .values()
        .filter(|row| row.host.as_ref() == Some(host) && row.provider == *plugin)
        .map(|row| row.id)
        .collect();
    for id in here {
        if !is_current(ledger, id, issued) {
            continue;
        }
        match by_node.remove(&id) {
            Some(seen) => record(ledger, id, seen),
            None => record_absence(ledger, id),
        }
    }
}

/// Records what a provider says of one instance, asked for in step `issued`.
pub(super) fn take_one(
    ledger: &mut Ledger<'_>,
    host: &HostName,
    plugin: &PluginName,
    asked: &InstanceRef,
    found: Option<ObservedNode>,
    issued: u64,
) {
    let Some(row) = ledger.world.nodes.get(&asked.node) else { return };
    let lives_here = row.host.as_ref() == Some(host) && row.provider == *plugin;
    if !lives_here || row.incarnation != asked.incarnation || !is_current(ledger, asked.node, issued) {
        return;
    }
    if row.instance.as_ref().is_some_and(|own| own.reference != *asked) {
        // A second instance of the node: a list tells what is to become of it.
        if let Some(provider) = ledger.world.hosts.get_mut(host).and_then(|host| host.providers.get_mut(plugin)) {
            provider.list_again = true;
        }
        return;
    }
    match found {
        Some(seen) => record(ledger, asked.node, seen),
        None => record_absence(ledger, asked.node),
    }
}

/// Whether a list asked for in step `issued` still says something about a node: nothing was done to it since. What is asked
/// for in the step that takes in how something ended is read after it.
fn is_current(ledger: &Ledger<'_>, id: NodeId, issued: u64) -> bool {
    let worked_on = ledger.world.node_work.get(&id).is_some_and(NodeWork::is_at_instance);
    let trusts_all = ledger.world.has_bug(Bug::TrustsOldLists);
    !worked_on && (trusts_all || ledger.world.last_done.get(&id).is_none_or(|&done| done <= issued))
}

fn record(ledger: &mut Ledger<'_>, id: NodeId, seen: ObservedNode) {
    planted::want_what_is_seen(ledger, id, &seen);
    let Some(row) = ledger.world.nodes.get(&id) else { return };
    let (state, working) = (row.actual, ledger.world.node_work.contains_key(&id));
    let (wanted, recreate) = (row.desired == NodeIntent::Running && !row.deleting, row.recreate);
    let instance = NodeInstance { reference: seen.instance, management: seen.management };
    // Links that were not built for want of a place can be, now that it is known.
    let is_new_place = seen.namespace != ledger.world.places.get(&id).cloned();
    match seen.namespace {
        Some(place) => drop(ledger.world.places.insert(id, place)),
        None => drop(ledger.world.places.remove(&id)),
    }
    let is_new = row.instance.as_ref() != Some(&instance);
    if is_new {
        ledger.change_node(id, |row| row.instance = Some(instance));
    }
    if is_new || is_new_place {
        ledger.world.touch_links_at(id);
    }
    match seen.state {
        InstanceState::Starting | InstanceState::Stopping => {}
        InstanceState::Running | InstanceState::Paused => match state {
            NodeState::Running | NodeState::Stopping => {}
            // A start that is being worked on has its own way of ending.
            NodeState::Pending | NodeState::Starting if working => {}
            _ => ledger.node_is(id, NodeState::Running, Why::sync().because("it was found running")),
        },
        InstanceState::Created => match state {
            NodeState::Running => {
                ended(ledger, id, ExitRecord { code: None, signal: None, at: None });
            }
            NodeState::Starting | NodeState::Stopping if !working => {
                ledger.node_is(id, NodeState::Stopped, Why::sync().because("it was found stopped"));
            }
            _ => {}
        },
        InstanceState::Exited(exit) => match state {
            NodeState::Running => ended(ledger, id, exit),
            NodeState::Starting if !working => ended(ledger, id, exit),
            NodeState::Stopping if !working => {
                ledger.node_is(id, NodeState::Stopped, Why::sync().because("it was found stopped"));
            }
            _ => {}
        },
        // What does not run needs not be whole: it is made anew when it is to run.
        InstanceState::Broken { .. } if !wanted && matches!(state, NodeState::Stopped | NodeState::Exited) => {
            if !recreate {
                ledger.change_node(id, |row| row.recreate = true);
            }
        }
        InstanceState::Broken { reason } => {
            if !recreate {
                ledger.change_node(id, |row| row.recreate = true);
            }
            if state != NodeState::Error && (!working || state == NodeState::Running) {
                if !working {
                    node::count_failure(ledger, id, &reason);
                }
                ledger.node_is(id, NodeState::Error, Why::drift().error(reason));
            }
        }
    }
}

/// The process of a running node ended by itself, or by a hand that is not ours.
fn ended(ledger: &mut Ledger<'_>, id: NodeId, exit: ExitRecord) {
    let Some(row) = ledger.world.nodes.get(&id) else { return };
    // What is about to be made anew, or ended anyway, is not judged by how it ends.
    let ending = ledger.world.node_work.get(&id).is_some_and(|work| work.goal != Goal::Run);
    let wanted = row.desired == NodeIntent::Running && !row.deleting && !row.recreate && !ending;
    let stable_after = ledger.world.settings.enforcement.stable_after;
    let ran = row.running_since.and_then(|since| ledger.now.boot.since(since));
    let stable = ran.is_some_and(|ran| ran >= stable_after);
    let text = format!("its process ended by itself: {exit}");
    ledger.change_node(id, |row| row.exit = Some(exit));
    ledger.node_is(id, NodeState::Exited, Why::drift().because(text.clone()));
    if !wanted || ledger.world.has_bug(Bug::CrashesCostNothing) {
        return;
    }
    if stable {
        ledger.change_node(id, |row| row.budget.ran_stably());
    }
    if node::count_failure(ledger, id, &text) == Spent::GiveUp {
        let message = ledger.world.nodes.get(&id).map(|row| row.budget.give_up_message()).unwrap_or_default();
        ledger.node_is(id, NodeState::Error, Why::enforcement().error(message));
    }
}

/// A node of which the provider has no instance.
fn record_absence(ledger: &mut Ledger<'_>, id: NodeId) {
    let Some(row) = ledger.world.nodes.get(&id) else { return };
    let (state, had_one) = (row.actual, row.instance.is_some());
    if state == NodeState::Running && ledger.world.has_bug(Bug::TakesAbsenceForAHiccup) {
        return;
    }
    node::lose_instance(ledger, id);
    match state {
        NodeState::Running | NodeState::Starting | NodeState::Stopping | NodeState::Stopped | NodeState::Exited
            if had_one || state.is_transitional() || state == NodeState::Running =>
        {
            ledger.node_is(id, NodeState::Undeployed, Why::drift().because("its instance is gone"));
        }
        _ => {}
    }
}

/// Puts instances that belong to no row on the list of what is to be removed, and takes off what is there no longer.
fn note_orphans(
    ledger: &mut Ledger<'_>,
    host: &HostName,
    plugin: &PluginName,
    strangers: Vec<(InstanceRef, &'static str)>,
) {
    let since = ledger.now.boot;
    let Some(provider) = ledger.world.hosts.get_mut(host).and_then(|host| host.providers.get_mut(plugin)) else {
        return;
    };
    let mut old = std::mem::take(&mut provider.orphans);
    for (instance, reason) in strangers {
        let orphan = old.remove(&instance).unwrap_or(Orphan { since, reason, removing: None });
        provider.orphans.insert(instance, orphan);
    }
}
