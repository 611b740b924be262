//! Chooses hosts for nodes, keeps count of what is reserved on each, and looks again at nodes that could not be placed
//! when the world has changed.

use std::collections::BTreeMap;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::HostState as Reachability;
use lifecycle_core::model::{AuditAction, NodeRecord, SubjectKind};
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::policy::blocked::{Blocked, WorldChange};
use lifecycle_core::policy::placement::{Amount, HostFacts, Placement, PlacementRequest, place};
use lifecycle_core::topology::NodeSpec;

use super::host::HostState;
use super::ledger::Entry;
use super::node::Phase;
use super::planted::{self, Bug};
use super::{Cx, Why, World, apply};

/// What is reserved on each host, counted once a step and kept up as nodes are placed.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    by_host: Option<BTreeMap<HostName, Amount>>,
}

impl Reserved {
    fn count(world: &World) -> BTreeMap<HostName, Amount> {
        let mut by_host: BTreeMap<HostName, Amount> = BTreeMap::new();
        for node in world.nodes.values() {
            let Some(spec) = world.spec(node.id) else { continue };
            let need = need(world, spec);
            for host in held(world, node) {
                add(&mut by_host, host, need);
            }
        }
        by_host
    }
}

fn add(by_host: &mut BTreeMap<HostName, Amount>, host: &HostName, need: Amount) {
    if let Some(sum) = by_host.get_mut(host) {
        sum.memory += need.memory;
        sum.cpu_milli += need.cpu_milli;
    } else {
        by_host.insert(host.clone(), need);
    }
}

/// The hosts on which a node holds resources: where it is, even stopped, since it must be able to start where its disks
/// are; and where its next instance is going to be.
fn held<'a>(world: &'a World, node: &'a NodeRecord) -> impl Iterator<Item = &'a HostName> {
    let work = world.node_work.get(&node.id);
    // Of what a controller before was about to make it is not known yet whether it is there.
    let placed = work.map_or(node.actual.is_transitional(), |it| it.phase != Phase::Place && it.target.is_none());
    let ahead = !world.has_bug(Bug::ReservesOnlyWhatIsThere);
    let exists = node.instance.is_some() && !planted::needs_nothing(world, node);
    let here = node.host.as_ref().filter(|_| exists || ahead && placed);
    let next = work.and_then(|work| work.target.as_ref()).filter(|target| ahead && Some(*target) != here);
    here.into_iter().chain(next)
}

/// What a node reserves.
fn need(world: &World, spec: &NodeSpec) -> Amount {
    let (memory, cpu) = match world.kinds.get(&spec.kind) {
        Some((_, kind)) => kind.resources(spec),
        None => (spec.resources.memory, spec.resources.cpu),
    };
    let cpu = cpu.unwrap_or(0.0).max(0.0) * 1000.0;
    Amount { memory: memory.unwrap_or(0), cpu_milli: cpu.ceil() as u64 }
}

/// Where a node's next instance would be, given what is reserved; what the node itself holds counts as free.
fn consider(world: &World, by_host: &BTreeMap<HostName, Amount>, node: &NodeRecord, spec: &NodeSpec) -> Placement {
    let need = need(world, spec);
    let provider = apply::provider_of_node(world, node.id);
    let own: Vec<&HostName> = held(world, node).collect();
    let facts: Vec<HostFacts<'_>> = world
        .hosts
        .values()
        .filter(|host| host.providers.contains_key(&provider))
        .map(|host| {
            let mut reserved = by_host.get(&host.name).copied().unwrap_or_default();
            if own.contains(&&host.name) {
                reserved.memory = reserved.memory.saturating_sub(need.memory);
                reserved.cpu_milli = reserved.cpu_milli.saturating_sub(need.cpu_milli);
            }
            let unreachable = host.providers.get(&provider).is_some_and(|provider| provider.unreachable);
            let capacity = host.capacity.map_or(UNLIMITED, |capacity| Amount {
                memory: capacity.memory,
                cpu_milli: (capacity.cpu * 1000.0) as u64,
            });
            let state = if unreachable { Reachability::Offline } else { Reachability::Online };
            HostFacts { name: &host.name, state, capacity, reserved }
        })
        .collect();
    let lab_default = world.labs.get(&node.lab).and_then(|lab| lab.topology.settings.host.as_ref());
    let last = node.host.as_ref();
    let explicit = spec.host.as_ref().filter(|host| !planted::is_only_a_wish(world, host, &provider));
    place(&PlacementRequest { explicit, last, lab_default, need }, &facts)
}

/// Chooses the host of a node's next instance and reserves what it needs there. None while it is still being read what
/// the host can carry; the node is looked at again when it was.
pub(super) fn reserve(cx: &mut Cx<'_>, id: NodeId) -> Result<Option<HostName>, Blocked> {
    let no_host = || Blocked::NoHost { tried: Vec::new() };
    let world = &*cx.ledger.world;
    let Some(node) = world.nodes.get(&id) else { return Err(no_host()) };
    let Some(spec) = world.spec(id) else { return Err(no_host()) };
    let by_host = cx.reserved.by_host.get_or_insert_with(|| Reserved::count(world));
    let placement = consider(world, by_host, node, spec);
    let chain = placement.chain_text();
    let host = placement.host?;
    if world.hosts.get(&host).is_some_and(HostState::awaits_capacity) {
        return Ok(None);
    }
    if !held(world, node).any(|held| *held == host) {
        add(by_host, &host, need(world, spec));
    }
    if node.host.as_ref() != Some(&host) {
        let (name, lab) = (node.name.to_string(), node.lab);
        let (from, to) = (node.host.as_ref().map(HostName::to_string), host.to_string());
        let entry = Entry::new(AuditAction::Placed, Why::placement().because(chain)).states(from, Some(to));
        cx.record(SubjectKind::Node, id.to_string(), name, Some(lab), entry);
    }
    Ok(Some(host))
}

/// A node without an instance belongs to the host that was chosen for it, and to the provider that is wanted.
pub(super) fn settle_at(cx: &mut Cx<'_>, id: NodeId, host: HostName) {
    let provider = apply::provider_of_node(cx.world, id);
    let there =
        cx.world.nodes.get(&id).is_some_and(|node| node.host.as_ref() == Some(&host) && node.provider == provider);
    if !there {
        cx.change_node(id, |node| put(node, Some(host), provider));
    }
}

/// Gives a node another place, or none. Whether its former provider answers means nothing for it any more.
pub(super) fn put(node: &mut NodeRecord, host: Option<HostName>, provider: PluginName) {
    (node.host, node.provider, node.stale_since) = (host, provider, None);
}

/// Looks again at nodes that could not be placed, once something was freed or came back. True when one of them can be
/// placed now.
pub(super) fn look_again(cx: &mut Cx<'_>) -> bool {
    if !std::mem::take(&mut cx.world.freed) || cx.world.blocked.is_empty() {
        return false;
    }
    // What was freed is counted only now.
    cx.reserved = Reserved::default();
    let world = &*cx.ledger.world;
    let by_host = &*cx.reserved.by_host.get_or_insert_with(|| Reserved::count(world));
    let fits = |id: &&NodeId| {
        let (Some(node), Some(spec)) = (world.nodes.get(*id), world.spec(**id)) else { return false };
        match &node.blocked {
            Some(Blocked::SourceUnreachable { .. }) => super::node::provider_answers(world, node),
            Some(
                Blocked::HostUnknown { .. }
                | Blocked::HostOffline { .. }
                | Blocked::HostFull { .. }
                | Blocked::NoHost { .. },
            ) => consider(world, by_host, node, spec).host.is_ok(),
            Some(
                Blocked::ImageMissing { .. }
                | Blocked::ForeignObject { .. }
                | Blocked::Dependency { .. }
                | Blocked::Unsupported { .. },
            )
            | None => false,
        }
    };
    let freed: Vec<NodeId> = world.blocked.iter().filter(fits).copied().collect();
    for &id in &freed {
        cx.change_node(id, |node| node.blocked = None);
    }
    !freed.is_empty()
}

/// What a host can carry was read: nodes that wait to be placed, or did not fit, are looked at again.
pub(super) fn capacity_read(world: &mut World) {
    world.freed = true;
    let waits = |phase: Phase| matches!(phase, Phase::Place | Phase::Prepare);
    let waiting: Vec<NodeId> =
        world.node_work.iter().filter(|(_, work)| waits(work.phase)).map(|(id, _)| *id).collect();
    waiting.into_iter().for_each(|id| world.touch_node(id));
}

/// A node's image arrived on a host: others that wait for it there are looked at again.
pub(super) fn image_arrived(cx: &mut Cx<'_>, id: NodeId) {
    let Some(image) = cx.world.spec(id).and_then(|spec| cx.world.complete(spec).image) else { return };
    let target = cx.world.node_work.get(&id).and_then(|work| work.target.clone());
    let Some(host) = target.or_else(|| cx.world.nodes.get(&id)?.host.clone()) else { return };
    let change = WorldChange::ImagePresent { host: &host, image: &image };
    let waits = |id: &&NodeId| {
        let blocked = cx.world.nodes.get(*id).and_then(|node| node.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.cleared_by(change))
    };
    let waiting: Vec<NodeId> = cx.world.blocked.iter().filter(waits).copied().collect();
    for id in waiting {
        cx.change_node(id, |node| node.blocked = None);
    }
}

/// Whether things of ours that belong to nobody are on the provider of a node, and on their way to be removed: one of
/// them may bear the node's name. Has them looked for.
pub(super) fn leftovers_are_in_the_way(cx: &mut Cx<'_>, id: NodeId) -> bool {
    let Some(node) = cx.world.nodes.get(&id) else { return false };
    let (Some(host), provider) = (node.host.clone(), node.provider.clone()) else { return false };
    let provider = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&provider));
    let Some(provider) = provider else { return false };
    provider.list_again = true;
    !provider.orphans.is_empty()
}

/// The capacity of a host that does not tell it.
const UNLIMITED: Amount = Amount { memory: u64::MAX, cpu_milli: u64::MAX };
