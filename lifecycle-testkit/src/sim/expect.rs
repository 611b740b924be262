//! What has to be true of the machine once everything has settled.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lifecycle_core::machine::{LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{LinkRecord, NodeRecord};
use lifecycle_core::name::HostName;
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::tunnel;
use lifecycle_core::topology::{Admin, NodeSpec};
use lifecycle_engine::decide::World;
use lifecycle_engine::decide::invariant::Violation;

use super::machine::{Instance, LOST_IMAGE};
use super::simulation::Simulation;

impl Simulation {
    /// Running nodes are made of what is wanted now, and their links have the attributes that are wanted now.
    pub(super) fn truth_of_settings(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let Some(world) = self.world() else { return found };
        for node in world.nodes.values().filter(|node| node.actual == NodeState::Running && node.stale_since.is_none())
        {
            let made_of = self.instance_of(node).and_then(|it| it.spec.as_deref());
            let spent = node.blocked.is_some() || node.budget.given_up_at.is_some();
            if let (Some(made_of), Some(spec)) = (made_of, world.spec(node.id))
                && !same(made_of, spec)
                && !spent
            {
                found.push(Violation::new(
                    "L1",
                    &node.name,
                    format!("it runs as {made_of:?} where {spec:?} is wanted"),
                ));
            }
        }
        // What cannot be set is said of the link, which stays as it was.
        let set = |link: &&LinkRecord| link.actual == LinkState::Up && link.budget.given_up_at.is_none();
        for link in world.links.values().filter(set) {
            for (_, interface) in self.ends_of(link) {
                if interface.attrs != link.attrs() {
                    let text = format!("it has {:?} where {:?} is wanted", interface.attrs, link.attrs());
                    found.push(Violation::new("L1", &link.key, text));
                }
            }
        }
        for link in world.links.values().filter(set) {
            let lab = world.labs.get(&link.lab).and_then(|lab| lab.topology.settings.backend.as_ref());
            let wanted = link.spec.backend.as_ref().or(lab).unwrap_or(&self.settings.backend);
            if link.backend != *wanted || link.leaves().is_some() {
                found.push(Violation::new("L1", &link.key, format!("{} has it instead of {wanted}", link.backend)));
            }
        }
        found.extend(links_astray(world, self));
        found
    }

    fn instance_of(&self, node: &NodeRecord) -> Option<&Instance> {
        let host = self.machine.hosts.get(node.host.as_ref()?)?;
        let name = &node.instance.as_ref()?.reference.identifier;
        host.instances.get(&(node.provider.clone(), name.clone()))
    }

    fn ends_of(&self, link: &LinkRecord) -> impl Iterator<Item = (u64, &super::machine::Interface)> {
        let hosts = link.hosts().filter_map(|host| self.machine.hosts.get(host)).collect::<Vec<_>>();
        let (id, incarnation) = (link.id, link.incarnation);
        let all = hosts.into_iter().flat_map(|host| &host.interfaces);
        all.filter(move |(_, it)| it.mark == Some((id, incarnation))).map(|((cookie, _), it)| (*cookie, it))
    }

    /// With nothing in the way and everything asked for once more, everything is as wanted, or cannot be.
    pub(super) fn everything_came(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        let mut found = Vec::new();
        let Some(world) = self.world() else { return };
        for node in world.nodes.values() {
            let Some(spec) = world.spec(node.id) else { continue };
            let well = node.actual.matches(node.desired) && (!node.recreate || node.desired == NodeIntent::Stopped);
            if !well && !is_hopeless(node, spec) && !waits_in_vain(world, node) {
                let text = format!("`{}` for no reason: {:?} {:?}", node.actual, node.blocked, node.budget);
                found.push(Violation::new("L1", &node.name, text));
            }
            if well && node.actual == NodeState::Running && spec.cmd.is_none() && !node.ready.ready {
                found.push(Violation::new("L1", &node.name, format!("it runs and is not ready: {:?}", node.ready)));
            }
        }
        for link in world.links.values() {
            if self.could_be_up(world, link) && link.actual != LinkState::Up {
                let text = format!("`{}` for no reason: {:?}, {:?}", link.actual, link.oper, link.budget);
                found.push(Violation::new("L1", &link.key, text));
            }
        }
        found.into_iter().for_each(|violation| self.fail(violation));
    }

    fn could_be_up(&self, world: &World, link: &LinkRecord) -> bool {
        let nodes: Vec<&NodeRecord> = link.nodes.iter().flatten().filter_map(|id| world.nodes.get(id)).collect();
        let run = nodes.iter().all(|node| node.actual == NodeState::Running);
        let possible = link.spec.attrs.rate.is_none() && link.spec.attrs.admin == Admin::Up;
        // What was set down inside a node is the node's own affair.
        let mut given = link.nodes.iter().zip(link.carrier);
        let given = given.all(|(node, carrier)| node.is_none() || carrier == Some(true));
        let set_down = self.ends_of(link).any(|(_, it)| !it.up) && given;
        let path = self.path_mtu(nodes.into_iter().filter_map(|node| node.host.as_ref()));
        let fits = !link.spec.explicit_mtu || path.is_none_or(|path| link.spec.attrs.mtu <= path);
        run && possible && fits && !set_down && link.desired == LinkIntent::Up
    }

    /// The MTU that fits between two hosts; none where all is on one.
    fn path_mtu<'a>(&self, hosts: impl Iterator<Item = &'a HostName>) -> Option<u32> {
        let names: BTreeSet<&HostName> = hosts.collect();
        let packets = names.iter().filter_map(|name| self.machine.hosts.get(*name)).map(|host| host.packet);
        let smallest = packets.min().filter(|_| names.len() > 1)?;
        Some(smallest - tunnel::overhead(IpAddr::from([0, 0, 0, 0])))
    }

    /// I17: with nothing wanted, nothing of ours is left, neither outside nor in what the controller remembers.
    pub(super) fn nothing_is_left(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        let census = self.machine.census();
        let mut found = Vec::new();
        if !census.instances.is_empty() || !census.links.is_empty() {
            found.push(Violation::new("I17", "machine", format!("left behind: {census:?}")));
        }
        if let Some(world) = self.world() {
            found.extend(leftovers(world));
        }
        found.into_iter().for_each(|violation| self.fail(violation));
    }
}

/// Whether nothing can be done about a node that is not as wanted.
fn is_hopeless(node: &NodeRecord, spec: &NodeSpec) -> bool {
    match &node.blocked {
        Some(Blocked::HostFull { .. } | Blocked::NoHost { .. }) => true,
        Some(Blocked::ImageMissing { .. }) => {
            spec.image.as_deref() == Some(LOST_IMAGE)
                || spec.image_pull_policy == lifecycle_core::topology::ImagePullPolicy::Never
        }
        Some(_) => false,
        None => spec.cmd.is_some() && node.budget.given_up_at.is_some(),
    }
}

/// Whether a node waits for one that does not run, for reasons of its own.
pub(super) fn waits_in_vain(world: &World, node: &NodeRecord) -> bool {
    let waits = world.spec(node.id).into_iter().flat_map(|spec| &spec.wait_for);
    let mut others = waits.filter_map(|wait| world.node_by_name(node.lab, &wait.node));
    others.any(|other| other.actual != NodeState::Running || !other.ready.ready)
}

/// What is wanted of a node at first is not part of what it is made of, nor what its starts wait for.
fn same(made_of: &NodeSpec, wanted: &NodeSpec) -> bool {
    NodeSpec { desired: wanted.desired, wait_for: wanted.wait_for.clone(), ..made_of.clone() } == *wanted
}

fn leftovers(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut left = |what: &str, count: usize| {
        if count > 0 {
            found.push(Violation::new("I17", "memory", format!("{count} {what} left behind")));
        }
    };
    left("labs", world.labs.len());
    left("nodes", world.nodes.len());
    left("links", world.links.len());
    left("jobs", world.jobs.len());
    left("pieces of work on nodes", world.node_work.len());
    left("pieces of work on links", world.link_work.len());
    left("probes", world.probes.len());
    for host in world.hosts.values() {
        for provider in host.providers.values() {
            left("slots", provider.busy);
            left("nodes in line", provider.waiting.len());
            left("orphans", provider.orphans.len());
        }
        left("orphaned links", host.backends.values().map(|backend| backend.orphans.len()).sum());
    }
    left("indexes", world.index_sizes().iter().sum());
    found
}

/// Links that are up and whose tunnel carries less than they believe, or leads from or to an address that a host no longer
/// has.
fn links_astray(world: &World, simulation: &Simulation) -> Vec<Violation> {
    let mut found = Vec::new();
    for link in world.links.values().filter(|link| link.actual == LinkState::Up) {
        let path = simulation.path_mtu(link.hosts());
        if link.path_mtu != path {
            let text = format!("{path:?} bytes fit through its tunnel, and it believes {:?}", link.path_mtu);
            found.push(Violation::new("L1", &link.key, text));
        }
        let hosts: Vec<IpAddr> =
            link.hosts().filter_map(|host| Some(simulation.machine.hosts.get(host)?.address)).collect();
        let tunnels = simulation.ends_of(link).filter_map(|(_, it)| it.tunnel.as_ref());
        for tunnel in
            tunnels.filter(|it| !hosts.contains(&it.remote) || !it.local.is_some_and(|it| hosts.contains(&it)))
        {
            let text =
                format!("its tunnel leads from {:?} to {}, and its hosts are {hosts:?}", tunnel.local, tunnel.remote);
            found.push(Violation::new("L1", &link.key, text));
        }
    }
    found
}
