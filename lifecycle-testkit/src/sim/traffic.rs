//! What an observer sees who looks at frames, tags and tunnels instead of at what anybody says of them.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle_core::machine::LinkState;
use lifecycle_core::model::LinkRecord;
use lifecycle_engine::decide::invariant::Violation;

use super::simulation::Simulation;

impl Simulation {
    /// Whether a link carries frames. A switch in user space forwards none while its database is down.
    fn carries(&self, link: &LinkRecord) -> bool {
        link.halves().all(|(name, half)| {
            let down = self.outage_of(name, &half.backend).is_some_and(|outage| !outage.hangs);
            let host = self.machine.hosts.get(name);
            host.is_some_and(|host| host.carries(half) && !(down && host.is_on_switch(&half.backend)))
        })
    }

    /// I9 on the wire: what is recorded as up carries frames, but for the time that it takes to notice.
    pub(super) fn i9_up_links_carry_frames(&mut self) {
        let limits = &self.settings.limits;
        let patience = (limits.link_pass + limits.reading) * 2 + Duration::from_secs(5);
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let Some(world) = self.world() else { return };
        let now = self.clock.millis;
        let idle: Vec<_> = world.links.values().filter(|link| is_known_up(self, link) && !self.carries(link)).collect();
        let since: BTreeMap<_, _> =
            idle.iter().map(|link| (link.id, self.idle.get(&link.id).copied().unwrap_or(now))).collect();
        let long = idle.iter().filter(|link| now - since[&link.id] > patience);
        let found: Vec<Violation> =
            long.map(|link| Violation::new("I9", &link.key, "recorded as up, and no frame passes")).collect();
        self.idle = since;
        found.into_iter().for_each(|violation| self.fail(violation));
    }

    /// The same once everything has settled: now.
    pub(super) fn silent_links(&self) -> Vec<Violation> {
        let links = self.world().into_iter().flat_map(|world| world.links.values());
        let silent = links.filter(|link| is_known_up(self, link) && !self.carries(link));
        silent.map(|link| Violation::new("I9", &link.key, "settled as up, and no frame passes")).collect()
    }

    /// I12: ports of two links never have one tag.
    pub(super) fn i12_segments_are_told_apart(&mut self) {
        let mut found = Vec::new();
        for host in self.machine.hosts.values() {
            let mut owners = BTreeMap::new();
            for (_, port) in host.switch.iter().flat_map(|switch| switch.ports()) {
                let owner = *owners.entry(port.tag).or_insert(port.mark.0);
                if owner != port.mark.0 {
                    let text = format!("links {owner} and {} both have it on {}", port.mark.0, host.name);
                    found.push(Violation::new("I12", format!("tag {}", port.tag), text));
                }
            }
        }
        found.into_iter().for_each(|violation| self.fail(violation));
    }

    /// I13: what a switch has of a link stands for a link that is plugged into it.
    pub(super) fn ports_not_needed(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for host in self.machine.hosts.values() {
            for (name, port) in host.switch.iter().flat_map(|switch| switch.ports()) {
                let link = self.world().and_then(|world| world.links.get(&port.mark.0));
                if let Some(link) = link.filter(|link| link.halves().any(|(_, half)| host.is_bridge(&half.backend))) {
                    let text = format!("it is in a bridge, and {name} is a port of the switch on {}", host.name);
                    found.push(Violation::new("I13", &link.key, text));
                }
            }
        }
        found
    }

    /// I13: a tunnel to another host stands if and only if something leads through it.
    pub(super) fn tunnels_not_needed(&self) -> Vec<Violation> {
        let hosts = self.machine.hosts.values();
        let astray = hosts.filter(|host| host.tunnels() != host.tunnels_needed());
        astray
            .map(|host| {
                let (has, needs) = (host.tunnels(), host.tunnels_needed());
                Violation::new("I13", &host.name, format!("it has tunnels to {has:?} and needs those to {needs:?}"))
            })
            .collect()
    }
}

fn is_known_up(simulation: &Simulation, link: &LinkRecord) -> bool {
    let nodes = |world: &lifecycle_engine::decide::World| {
        link.nodes.iter().flatten().all(|id| world.nodes.get(id).is_some_and(|node| node.stale_since.is_none()))
    };
    link.actual == LinkState::Up && simulation.world().is_some_and(nodes)
}
