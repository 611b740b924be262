//! The life of one seed: trouble; then calm, in which everything has to settle; then everything is asked for once more,
//! and has to come; then one node is restarted; then all is removed, and nothing may be left.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::machine::{LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{LinkRecord, NodeRecord};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::policy::link::LinkKey;
use lifecycle_engine::decide::invariant::{Violation, check_settled};
use lifecycle_engine::decide::{Command, NodeAction, World};

use super::expect::waits_in_vain;
use super::faults::Faults;
use super::labs::{self, JAIL, LOOM, POD, WIRE};
use super::machine::{HOST_NAMESPACE, make_pair_again};
use super::simulation::{Event, Seat, Simulation};

/// Time in which everything has to settle once the faults have stopped, in milliseconds. A node may be pending for ten
/// minutes, and use up its attempts afterwards.
const BOUND: u64 = 2_400_000;
/// Steps that settling takes at most; more means that something runs hot.
const SETTLING_STEPS: u64 = 15_000;

impl Simulation {
    /// Lives through everything; stops at the first violation.
    pub(super) fn live(&mut self, steps: u64) {
        self.unleash();
        while self.steps < steps && self.violations.is_empty() {
            if !self.advance() {
                break;
            }
            self.i18_foreign_things_are_untouched();
        }
        if !self.violations.is_empty() {
            return;
        }
        self.calm();
        let broken = self.mischief.per_mille(150);
        if broken {
            // L2: with one host broken, the other's nodes meet the same bound.
            for plugin in [POD, JAIL, WIRE, LOOM] {
                let hangs = self.mischief.coin();
                self.break_plugin(labs::host("h2"), labs::plugin(plugin), 10 * BOUND, hangs);
            }
        }
        self.settle("calm");
        self.outages.clear();
        self.recover();
        // A start that was refused, since one was under way that then failed, is asked for once more.
        for _ in 0..2 {
            self.ask_again();
            self.settle("asked again");
        }
        self.everything_came();
        self.restart_one();
        self.make_one_again();
        self.destroy_all();
        self.settle("destroyed");
        self.nothing_is_left();
    }

    /// Nothing goes wrong any more.
    fn calm(&mut self) {
        self.trace.say(self.clock.millis, || format!("---- calm after {} steps", self.steps));
        self.faults = Faults::NONE;
        let mischief =
            |event: &Event| matches!(event, Event::User | Event::Meddle | Event::Outage | Event::Jump | Event::Reboot);
        self.queue.retain(|_, event| !mischief(event));
        self.outages.clear();
        self.recover();
        self.machine.hosts.values_mut().filter_map(|host| host.switch.as_mut()).for_each(|switch| switch.hangs = false);
        self.user_acts = false;
        self.active_at = self.clock.millis;
    }

    /// Time without anything happening after which nothing will: every list and every check came twice, and what is to
    /// be collected had its grace.
    fn quiet(&self) -> u64 {
        let limits = &self.settings.limits;
        let passes = limits.sync_pass.max(limits.link_pass) * 2 + limits.collection_grace + limits.enforcement_pass * 2;
        u64::try_from(passes.as_millis()).unwrap_or(u64::MAX)
    }

    /// Lets time pass until nothing happens any more, then looks whether that is right.
    fn settle(&mut self, what: &str) {
        let (began, steps) = (self.clock.millis, self.steps);
        while self.violations.is_empty() {
            let rested = self.clock.millis - self.active_at;
            let told = matches!(&self.seat, Seat::Taken(controller) if controller.inputs.is_empty());
            let awake = told && !self.is_changing();
            if awake && rested > self.quiet() && !self.waits() {
                break;
            }
            if self.clock.millis - began > BOUND || self.steps - steps > SETTLING_STEPS {
                let text = format!("not settled ({what}): {:?}", self.pending());
                self.fail(Violation::new("L1", "everything", text));
            }
            if !self.advance() {
                self.fail(Violation::new("L1", "everything", "nothing is to happen any more"));
            }
            self.i18_foreign_things_are_untouched();
        }
        if !self.violations.is_empty() {
            return;
        }
        self.trace.say(self.clock.millis, || format!("---- settled ({what}) after {} steps", self.steps));
        let census = self.machine.census();
        let found = self.world().map(|world| check_settled(world, &census)).unwrap_or_default();
        // What is on a host that cannot be reached nobody can know.
        let severed = self.severed_links();
        let stale = self.stale_links();
        let unknown = |violation: &Violation| match violation.invariant {
            "I4" | "I10" => !self.outages.is_empty(),
            "I9" => stale.contains(&violation.subject),
            "L1" => severed.contains(&violation.subject),
            _ => false,
        };
        let found: Vec<Violation> = found.into_iter().filter(|violation| !unknown(violation)).collect();
        found.into_iter().for_each(|violation| self.fail(violation));
        let found = self.truth_of_settings().into_iter().filter(|violation| !severed.contains(&violation.subject));
        let silent = self.silent_links().into_iter().filter(|it| !severed.contains(&it.subject));
        let found: Vec<Violation> =
            found.chain(silent).chain(self.tunnels_not_needed()).chain(self.ports_not_needed()).collect();
        found.into_iter().for_each(|violation| self.fail(violation));
    }

    /// Whether a node or a link waits for its next attempt, where that can be made, or a node for another one. What is to
    /// be removed is tried for ever, at long intervals.
    fn waits(&self) -> bool {
        let Some(world) = self.world() else { return false };
        if world.node_work.values().any(|work| work.held) {
            return true;
        }
        let waits = |node: &NodeRecord| {
            let stuck = node.blocked.is_some() || node.budget.given_up_at.is_some();
            let open = node.deleting || !node.actual.matches(node.desired) && !stuck;
            open && node.budget.next_attempt.is_some() && node.stale_since.is_none()
        };
        let severed = self.severed_links();
        let links = world.links.values().filter(|link| link.deleting && link.budget.next_attempt.is_some());
        let mut links = links.filter(|link| !has_stale_end(world, link));
        world.nodes.values().any(waits) || links.any(|link| !severed.contains(&link.key.to_string()))
    }

    /// Links of which nobody can tell, like of the nodes at their ends, and which are recorded as they were last.
    fn stale_links(&self) -> BTreeSet<String> {
        let Some(world) = self.world() else { return BTreeSet::new() };
        let stale = world.links.values().filter(|link| has_stale_end(world, link));
        stale.map(|link| link.key.to_string()).collect()
    }

    /// Links whose backend cannot be reached.
    fn severed_links(&self) -> BTreeSet<String> {
        let links = self.world().into_iter().flat_map(|world| world.links.values());
        let severed = links.filter(|link| {
            link.backends().any(|it| link.hosts().any(|host| self.outages.contains_key(&(host.clone(), it.clone()))))
        });
        severed.map(|link| link.key.to_string()).collect()
    }

    /// The user asks for everything once more, with nothing in the way.
    fn ask_again(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        self.machine.clear_the_way();
        self.foreign = self.machine.foreign();
        let Some(world) = self.world() else { return };
        let mut commands = Vec::new();
        for lab in world.labs.values().filter(|lab| !lab.deleting) {
            let name = lab.topology.name.clone();
            commands.push(Command::Reconcile { lab: name.clone() });
            for node in world.nodes_of(lab.id) {
                let action = match node.desired {
                    NodeIntent::Running => NodeAction::Start,
                    NodeIntent::Stopped => NodeAction::Stop { abort: false },
                };
                commands.push(Command::Node { lab: name.clone(), node: node.name.clone(), action });
            }
        }
        commands.into_iter().for_each(|command| self.command(command));
        self.active_at = self.clock.millis;
        self.decide();
    }

    /// I25 on the machine: a restart of one node touches no other, and keeps the links of that one.
    fn restart_one(&mut self) {
        let Some((lab, node)) = self.running_node() else { return };
        if !self.violations.is_empty() {
            return;
        }
        let before = self.others(&lab, &node);
        let links = self.links_up_at(&lab, &node);
        self.command(Command::Node { lab: lab.clone(), node: node.clone(), action: NodeAction::Restart });
        self.active_at = self.clock.millis;
        self.decide();
        self.settle("restarted");
        if self.violations.is_empty() {
            self.everything_came();
            let after = self.others(&lab, &node);
            for name in before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)) {
                let text =
                    format!("a restart of {node} changed {name}: {:?} became {:?}", before.get(name), after.get(name));
                self.fail(Violation::new("I25", &lab, text));
            }
            let kept = self.links_up_at(&lab, &node);
            for (key, was) in links.into_iter().filter(|(key, was)| kept.get(key) != Some(was)) {
                let text = format!("a restart of {node} did not keep it: {was:?} became {:?}", kept.get(&key));
                self.fail(Violation::new("I25", key, text));
            }
        }
    }

    /// A port of the switch and the end at it are made again under their old names: the link is mended, and the end that
    /// nobody touched is as it was.
    fn make_one_again(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        let Some(world) = self.world() else { return };
        // Of one that was given up nothing is put right until its user wants it again.
        let well = |link: &&LinkRecord| link.actual == LinkState::Up && link.budget.given_up_at.is_none();
        let ends = world.links.values().filter(well).filter_map(|link| {
            let (host, half) = link.halves().next()?;
            let other = half.b.as_ref().map(|end| (end.namespace, end.ifindex));
            Some((link.id, link.key.clone(), host.clone(), (half.a.namespace, half.a.ifindex), other))
        });
        let ends: Vec<_> = ends.filter(|(.., end, _)| end.0 != HOST_NAMESPACE).collect();
        let Some((id, key, host, end, other)) = self.mischief.clone().pick(&ends).cloned() else { return };
        let Some(host) = self.machine.hosts.get_mut(&host).filter(|host| host.switch.is_some()) else { return };
        if make_pair_again(host, end).is_none() {
            return;
        }
        host.tell_link(id);
        self.active_at = self.clock.millis;
        self.trace.say(self.clock.millis, || format!("---- an end of {key} is made again under its old name"));
        self.settle("made again");
        if self.violations.is_empty() {
            let link = self.world().and_then(|world| world.links.get(&id));
            let half = link.filter(|link| link.actual == LinkState::Up).and_then(|link| link.identity.as_ref());
            let now = half.map(|half| half.b.as_ref().map(|end| (end.namespace, end.ifindex)));
            if now != Some(other) {
                let text = format!("it was not mended in place: its other end {other:?} became {now:?}");
                self.fail(Violation::new("L1", key, text));
            }
        }
    }

    fn running_node(&mut self) -> Option<(LabName, NodeName)> {
        let world = self.world()?;
        let lab = |id| world.labs.get(&id).map(|lab| lab.topology.name.clone());
        let runs = world.nodes.values().filter(|node| node.actual == NodeState::Running && !node.recreate);
        // One that ends by itself would restart others' links in its own time.
        let steady = runs
            .filter(|node| world.spec(node.id).is_some_and(|spec| spec.cmd.is_none()))
            .filter(|node| !waits_in_vain(world, node));
        let nodes: Vec<_> = steady.filter_map(|node| Some((lab(node.lab)?, node.name.clone()))).collect();
        self.mischief.clone().pick(&nodes).cloned()
    }

    /// Every other instance and every interface of links that do not end at a node.
    fn others(&self, lab: &LabName, node: &NodeName) -> BTreeMap<String, String> {
        let Some(world) = self.world() else { return BTreeMap::new() };
        let Some(row) = world.lab_by_name(lab).and_then(|lab| world.node_by_name(lab.id, node)) else {
            return BTreeMap::new();
        };
        let mut others = BTreeMap::new();
        for host in self.machine.hosts.values() {
            for ((_, name), it) in host.instances.iter().filter(|(_, it)| it.node != row.id) {
                others.insert(format!("{} {name}", host.name), format!("{} {} {:?}", it.cookie, it.starts, it.state));
            }
            for (key, it) in &host.interfaces {
                let own = it.mark.is_some_and(|(link, _)| world.links_at(row.id).any(|at| at.id == link));
                if !own {
                    others.insert(format!("{} {key:?}", host.name), format!("{it:?}"));
                }
            }
        }
        others
    }

    /// The links of a node that are up, and what each is made of.
    fn links_up_at(&self, lab: &LabName, node: &NodeName) -> BTreeMap<LinkKey, Vec<(u64, u32)>> {
        let Some(world) = self.world() else { return BTreeMap::new() };
        let row = world.lab_by_name(lab).and_then(|lab| world.node_by_name(lab.id, node));
        let links = row.into_iter().flat_map(|row| world.links_at(row.id));
        let up = links.filter(|link| link.actual == LinkState::Up);
        up.map(|link| {
            let identity = link.identity.iter().flat_map(|identity| [Some(&identity.a), identity.b.as_ref()]);
            (link.key.clone(), identity.flatten().map(|end| (end.namespace, end.ifindex)).collect())
        })
        .collect()
    }

    fn destroy_all(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        let Some(world) = self.world() else { return };
        let labs: Vec<LabName> = world.lab_names().cloned().collect();
        labs.into_iter().for_each(|lab| self.command(Command::Destroy { lab }));
        self.active_at = self.clock.millis;
        self.decide();
    }
}

/// Whether a node at an end of a link is on a host that cannot be reached.
fn has_stale_end(world: &World, link: &LinkRecord) -> bool {
    let mut nodes = link.nodes.iter().flatten().filter_map(|id| world.nodes.get(id));
    nodes.any(|node| node.stale_since.is_some())
}
