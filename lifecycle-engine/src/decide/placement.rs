//! Chooses hosts for nodes, and keeps count of what is reserved on each.

use std::collections::BTreeMap;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::HostState as Reachability;
use lifecycle_core::model::{AuditAction, SubjectKind};
use lifecycle_core::name::HostName;
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::placement::{Amount, HostFacts, PlacementRequest, place};
use lifecycle_core::topology::NodeSpec;

use super::ledger::Entry;
use super::node::Phase;
use super::{Cx, Why, World};

/// What is reserved on each host, counted once a step and kept up as nodes are placed.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    by_host: Option<BTreeMap<HostName, Amount>>,
}

impl Reserved {
    fn count(world: &World) -> BTreeMap<HostName, Amount> {
        let mut by_host: BTreeMap<HostName, Amount> = BTreeMap::new();
        for node in world.nodes.values() {
            let (Some(host), Some(spec)) = (&node.host, world.spec(node.id)) else { continue };
            // A stopped node keeps its reservation: it must be able to start where its disks are.
            let placed = world.node_work.get(&node.id).is_some_and(|work| work.phase != Phase::Place);
            if node.instance.is_some() || placed {
                let (sum, need) = (by_host.entry(host.clone()).or_default(), need(spec));
                sum.memory += need.memory;
                sum.cpu_milli += need.cpu_milli;
            }
        }
        by_host
    }
}

/// What a node reserves.
pub(super) fn need(spec: &NodeSpec) -> Amount {
    let cpu = spec.resources.cpu.unwrap_or(0.0).max(0.0) * 1000.0;
    Amount { memory: spec.resources.memory.unwrap_or(0), cpu_milli: cpu.ceil() as u64 }
}

/// Chooses a host for a node that has no instance, reserves what it needs there, and writes down how that came about.
pub(super) fn choose(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Blocked> {
    let no_host = || Blocked::NoHost { tried: Vec::new() };
    let world = &*cx.ledger.world;
    let Some(node) = world.nodes.get(&id) else { return Err(no_host()) };
    let Some(spec) = world.spec(id) else { return Err(no_host()) };
    let need = need(spec);
    let last = node.host.clone();
    let by_host = cx.reserved.by_host.get_or_insert_with(|| Reserved::count(world));
    let provider = &node.provider;
    let facts: Vec<HostFacts<'_>> = world
        .hosts
        .values()
        .filter(|host| host.providers.contains_key(provider))
        .map(|host| HostFacts {
            name: &host.name,
            state: if host.providers.get(provider).is_some_and(|provider| provider.unreachable) {
                Reachability::Offline
            } else {
                Reachability::Online
            },
            capacity: host.capacity.map_or(UNLIMITED, |capacity| Amount {
                memory: capacity.memory,
                cpu_milli: (capacity.cpu * 1000.0) as u64,
            }),
            reserved: by_host.get(&host.name).copied().unwrap_or_default(),
        })
        .collect();
    let lab_default = world.labs.get(&node.lab).and_then(|lab| lab.topology.settings.host.as_ref());
    let request = PlacementRequest { explicit: spec.host.as_ref(), last: last.as_ref(), lab_default, need };
    let placement = place(&request, &facts);
    let chain = placement.chain_text();
    let (name, lab) = (node.name.to_string(), node.lab);
    let host = placement.host?;
    let sum = by_host.entry(host.clone()).or_default();
    sum.memory += need.memory;
    sum.cpu_milli += need.cpu_milli;
    if last.as_ref() != Some(&host) {
        let why = Why::placement().because(chain);
        let entry =
            Entry::new(AuditAction::Placed, why).states(last.map(|host| host.to_string()), Some(host.to_string()));
        cx.record(SubjectKind::Node, id.to_string(), name, Some(lab), entry);
        cx.change_node(id, |node| node.host = Some(host));
    }
    Ok(())
}

/// The capacity of a host that does not tell it.
const UNLIMITED: Amount = Amount { memory: u64::MAX, cpu_milli: u64::MAX };
