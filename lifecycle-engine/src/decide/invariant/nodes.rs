//! Invariants about nodes that hold at every moment.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeIntent;
use lifecycle_core::model::{LinkRecord, NodeRecord};
use lifecycle_core::name::HostName;
use lifecycle_core::policy::enforcement;
use lifecycle_core::policy::placement::Amount;
use lifecycle_core::time::Now;

use super::{Census, Violation};
use crate::decide::{Phase, Subject, World};

/// I1: a node has at most one live instance, over all hosts.
pub fn i1_one_live_instance(census: &Census) -> Vec<Violation> {
    let mut live: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for it in census.instances.iter().filter(|it| it.is_live() && !it.by_hand) {
        let place = format!("{} on {} by {}", it.seen.instance, it.host, it.provider);
        live.entry(it.seen.instance.node).or_default().push(place);
    }
    let several = live.into_iter().filter(|(_, places)| places.len() > 1);
    several.map(|(node, places)| Violation::new("I1", node, format!("live more than once: {places:?}"))).collect()
}

/// I2: a node with an explicit host lives there or nowhere. An instance that its user's last change left elsewhere may
/// stay until the explicit host is ready to take its place.
pub fn i2_explicit_host_is_inviolable(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = Vec::new();
    for it in census.instances.iter().filter(|it| it.is_live() && !it.by_hand) {
        let Some(node) = world.nodes.get(&it.seen.instance.node) else { continue };
        let Some(explicit) = world.spec(node.id).and_then(|spec| spec.host.as_ref()) else { continue };
        let awaits_migration = node.recreate || node.deleting;
        let orphan = node.incarnation != it.seen.instance.incarnation;
        if it.host != *explicit && !awaits_migration && !orphan {
            found.push(Violation::new("I2", &node.name, format!("it is to be on {explicit} and lives on {}", it.host)));
        }
    }
    found
}

/// I4: every instance with our mark belongs to a row or is on the list of what is to be removed.
///
/// Something that came to be after the last list was read belongs to neither for a while.
pub fn i4_every_instance_has_an_owner(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = Vec::new();
    for it in &census.instances {
        let instance = &it.seen.instance;
        let owned = world.nodes.get(&instance.node).is_some_and(|row| {
            let named = row.instance.as_ref().is_none_or(|it| it.reference.identifier == instance.identifier);
            row.incarnation == instance.incarnation
                && row.host.as_ref() == Some(&it.host)
                && row.provider == it.provider
                && named
        });
        let provider = world.hosts.get(&it.host).and_then(|host| host.providers.get(&it.provider));
        let listed = provider.is_some_and(|provider| provider.orphans.contains_key(instance));
        if !owned && !listed {
            found.push(Violation::new("I4", instance, format!("on {} it belongs to nobody", it.host)));
        }
    }
    found
}

/// I16: at most one active job per node, and no active job without a node that it works on.
pub fn i16_one_active_job_per_node(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for node in world.nodes.values() {
        let Some(job) = node.job else { continue };
        match world.jobs.get(&job) {
            None => found.push(Violation::new("I16", &node.name, format!("its job {job} does not exist"))),
            Some(row) if row.finished_at.is_some() => {
                found.push(Violation::new("I16", &node.name, format!("its job {job} is over")));
            }
            Some(row) if !row.action.nodes().contains(&node.id) => {
                found.push(Violation::new("I16", &node.name, format!("its job {job} is not about it")));
            }
            Some(_) => {}
        }
    }
    for job in world.jobs.values().filter(|job| job.finished_at.is_none()) {
        let works = |id: &NodeId| world.nodes.get(id).is_some_and(|node| node.job == Some(job.id));
        if !job.action.nodes().iter().any(works) {
            found.push(Violation::new("I16", job.id, "it is active and works on nothing"));
        }
    }
    found
}

/// I20: no transitional state is older than its deadline without work on it, where its provider answers.
///
/// A pass of enforcement may be on its way to it.
pub fn i20_no_state_outlives_its_deadline(world: &World, now: Now) -> Vec<Violation> {
    let patience = world.settings.limits.enforcement_pass * 2 + Duration::from_secs(1);
    let overdue = |node: &&NodeRecord| {
        let due = enforcement::due_millis(node.deadline, now.boot);
        let slack = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        node.actual.is_transitional() && due + slack < now.boot.millis && answers(world, node)
    };
    // Enforcement begins so much at a time; what it has put off for a moment is not forgotten.
    let soon = now.boot.after(Duration::from_secs(1)).millis;
    let idle = |node: &&NodeRecord| {
        let put_off =
            world.timers.iter().take_while(|(at, _)| *at <= soon).any(|(_, it)| *it == Subject::Node(node.id));
        !put_off && !world.node_work.contains_key(&node.id)
    };
    let forgotten = world.nodes.values().filter(overdue).filter(idle);
    let text = |node: &NodeRecord| format!("`{}` and forgotten, on {:?} by {}", node.actual, node.host, node.provider);
    forgotten.map(|node| Violation::new("I20", &node.name, text(node))).collect()
}

fn answers(world: &World, node: &NodeRecord) -> bool {
    node.host.as_ref().is_none_or(|host| world.answers(host, &node.provider))
}

/// I28: what is reserved on a host, work under way included, is within its capacity.
///
/// A node that is to be made anew still holds what it was made with, which no row tells any more; it is left out.
pub fn i28_reservations_fit(world: &World) -> Vec<Violation> {
    let mut sums: BTreeMap<&HostName, Amount> = BTreeMap::new();
    for node in world.nodes.values() {
        let (Some(host), Some(spec)) = (&node.host, world.spec(node.id)) else { continue };
        // What a look finds was there before it was counted.
        let work = world.node_work.get(&node.id);
        let placed = work.is_some_and(|it| !matches!(it.phase, Phase::Place | Phase::Look) && it.target.is_none());
        // An instance that is to go was made of what was wanted before.
        if (node.instance.is_some() || placed) && !node.recreate && !node.deleting {
            let spec = world.complete(spec);
            let sum = sums.entry(host).or_default();
            sum.memory += spec.resources.memory.unwrap_or(0);
            sum.cpu_milli += (spec.resources.cpu.unwrap_or(0.0).max(0.0) * 1000.0).ceil() as u64;
        }
    }
    let mut found = Vec::new();
    for (name, sum) in sums {
        let Some(capacity) = world.hosts.get(name).and_then(|host| host.capacity) else { continue };
        if sum.memory > capacity.memory || sum.cpu_milli > (capacity.cpu * 1000.0) as u64 {
            found.push(Violation::new("I28", name, format!("reserved {sum:?} of {capacity:?}")));
        }
    }
    found
}

/// L1 for nodes, once nothing happens any more: each is as its user wants it, or cannot be by itself.
pub fn l1_nodes_are_settled(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for node in world.nodes.values() {
        let spent = node.budget.given_up_at.is_some() || node.blocked.is_some();
        let wanted = node.actual.matches(node.desired) && (!node.recreate || node.desired == NodeIntent::Stopped);
        if node.stale_since.is_some() {
            // Nobody can tell, and nothing can be done, until its host is back.
        } else if node.deleting && world.links_at(node.id).any(|link| is_cut_off(world, link)) {
            // Its row goes with those of its links, of which half is on a host that cannot be reached.
        } else if node.deleting {
            found.push(Violation::new("L1", &node.name, format!("`{}` and still to be removed", node.actual)));
        } else if !wanted && !spent {
            let work = world.node_work.get(&node.id);
            let text = format!("`{}` where `{}` is wanted: {work:?}", node.actual, node.desired);
            found.push(Violation::new("L1", &node.name, text));
        } else if let Some(work) = world.node_work.get(&node.id) {
            found.push(Violation::new("L1", &node.name, format!("still worked on: {work:?}")));
        } else if let Some(job) = node.job {
            found.push(Violation::new("L1", &node.name, format!("still in job {job}")));
        }
    }
    found
}

/// Whether an end of a link is at a node that cannot be reached, or its backend there cannot.
pub(super) fn is_cut_off(world: &World, link: &LinkRecord) -> bool {
    let mut nodes = link.nodes.iter().flatten().filter_map(|id| world.nodes.get(id));
    let is_lost = |host, name| world.backend(host, name).is_some_and(|backend| backend.unreachable);
    let lost = |host| link.backends().any(|name| is_lost(host, name));
    nodes.any(|node| node.stale_since.is_some()) || link.hosts().any(lost)
}
