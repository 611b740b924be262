//! Reading links back: verifying one, and finding all.

use std::rc::Rc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, LinkReport, ObservedLink, ProbeResult};
use lifecycle_core::policy::link::Side;
use lifecycle_linux::ethtool::{Offloads, offloads};
use lifecycle_linux::netlink::{Link, Which};
use lifecycle_linux::wiring::label::{Owner, owner, port_owner};
use lifecycle_linux::wiring::seen::oldest;
use lifecycle_linux::wiring::{
    Failure, Outcome, Place, TestFrames, are_peers, note_own_changes, report_plugged, shaping,
};

use crate::detail::{self, PortIdentity, port_name};
use crate::switch::{Bridge, Port, our_ports};
use crate::worker::Worker;

/// An end as it was found.
type Found = Option<(Rc<Place>, Link)>;

impl Worker {
    /// Compares a link with its identity and sends a frame each way. Changes nothing.
    pub(crate) fn verify(&mut self, identity: &LinkIdentity) -> Outcome<LinkReport> {
        let mut problems = Vec::new();
        let client = self.client_for_reading()?;
        self.see_switch()?;
        let end_b = identity.b.as_ref().ok_or_else(foreign_identity)?;
        let bridge_name = identity.detail.get(detail::BRIDGE).ok_or_else(foreign_identity)?;
        let controller = self.controller;
        let (bridge, tags) = client.read(|db| {
            let bridge = Bridge::named(db, bridge_name, controller);
            let tags = bridge.as_ref().map(|bridge| bridge.tags(db)).unwrap_or_default();
            (bridge, tags)
        });
        match &bridge {
            None => problems.push(format!("the bridge {bridge_name} is gone")),
            Some(bridge) if !bridge.passes_all => {
                problems.push(format!("the bridge {bridge_name} does not pass all link-local frames"));
            }
            Some(_) => {}
        }
        let mut joined = bridge.as_ref().is_some_and(|bridge| bridge.passes_all);
        let (mut hosts, mut slowed) = ([None, None], [None; 2]);
        let mut found: [Found; 2] = [None, None];
        let mut tunnels = [None, None];
        let (mut segments, mut taps) = ([None, None], false);
        for (side, end) in [(Side::A, &identity.a), (Side::B, end_b)] {
            let port = PortIdentity::read(identity, side).ok_or_else(foreign_identity)?;
            let tunnel = end.point.place.as_tunnel();
            let tap = matches!(end.point.place, AttachKind::Tap { .. });
            taps |= tap;
            let here = if tunnel.is_some() { None } else { self.find(identity, end, &mut problems)? };
            if let Some((place, node)) = &here {
                let host = match tap {
                    true => Some(node.clone()).filter(|node| node.index == port.ifindex),
                    false => self.plugged(identity, (place, node), &port, &mut problems)?,
                };
                joined &= host.is_some();
                if let Some(host) = &host {
                    let switch = self.switch()?;
                    let read = shaping::read(&switch, host.index, &host.name, &mut problems)?;
                    joined &= read.is_some();
                    self.news.settle_shaping((switch.cookie, host.index), read.unwrap_or_default());
                    slowed[side.index()] = read;
                }
                hosts[side.index()] = host;
                if !tap && bridge.as_ref().is_some_and(|bridge| bridge.userspace) {
                    joined &= does_its_own_work(place, node, &mut problems)?;
                }
            }
            let row = client.read(|db| {
                let in_place = |row: &Port| bridge.as_ref().is_some_and(|bridge| bridge.has(db, &row.uuid));
                let row = Port::named(db, &port_name(identity, side), controller);
                row.filter(|row| row.uuid == port.uuid && in_place(row))
            });
            if let Some(tunnel) = tunnel {
                let end = (identity, side);
                tunnels[side.index()] = Some(self.verify_tunnel(end, tunnel, row.as_ref(), &mut problems)?);
            }
            match row {
                None => {
                    problems.push(format!("the port of end {side} is not on the bridge {bridge_name} any more"));
                    joined = false;
                }
                Some(row) => {
                    joined &= is_attached(&row, &port, side, &mut problems);
                    joined &= is_on_its_tag(&row, end, side, &mut problems);
                    segments[side.index()] = row.tag.filter(|_| row.passes_all);
                }
            }
            found[side.index()] = here;
        }
        match segments {
            [Some(a), Some(b)] if a == b && tags.get(&a) == Some(&2) => {}
            [Some(a), Some(b)] if a == b => {
                problems.push(format!("another port of the bridge {bridge_name} carries the link's tag {a}"));
                joined = false;
            }
            _ => {
                problems.push("the ports are not on one segment".to_owned());
                joined = false;
            }
        }
        let ends = found.each_ref().map(|found| found.as_ref().map(|(place, link)| (&**place, link)));
        let probe = match joined {
            true if tunnels.iter().any(Option::is_some) => {
                TestFrames::skipped("the far end of a tunnel is on another host")
            }
            true if taps => TestFrames::skipped("only its node can send through a tap"),
            true => match self.frames.exchange(&self.places, ends, &mut problems)? {
                ProbeResult::Failed { .. } => {
                    // Once it has said that it runs, one that was only about to begin has all its ports.
                    self.question_switch(&client)?;
                    problems.pop();
                    self.frames.exchange(&self.places, ends, &mut problems)?
                }
                probe => probe,
            },
            false => TestFrames::skipped("the link does not stand"),
        };
        if joined {
            self.known.entry(identity.link).or_insert_with(|| identity.clone());
        }
        let [on_a, on_b] =
            [0, 1].map(|side| report_plugged(ends[side].map(|(_, link)| link), hosts[side].as_ref(), slowed[side]));
        let [a, b] = [(tunnels[0].take(), on_a), (tunnels[1].take(), on_b)].map(|(tunnel, end)| tunnel.unwrap_or(end));
        Ok(LinkReport { a, b: Some(b), joined, probe, problems })
    }

    /// Finds an end by its recorded identity.
    fn find(&mut self, identity: &LinkIdentity, end: &EndIdentity, problems: &mut Vec<String>) -> Outcome<Found> {
        let name = &end.point.ifname;
        let Some((place, link)) = self.standing_end(identity, end)? else {
            problems.push(format!("the interface {name} (index {}) is gone", end.ifindex));
            return Ok(None);
        };
        self.news.settle(identity.link, (place.cookie, link.index), &link);
        note_own_changes(end, &link, problems);
        Ok(Some((place, link)))
    }

    /// The interface on the switch's side, if it is still the one that was made, and the peer of the end.
    fn plugged(
        &mut self,
        identity: &LinkIdentity,
        (place, node): (&Place, &Link),
        port: &PortIdentity,
        problems: &mut Vec<String>,
    ) -> Outcome<Option<Link>> {
        let switch = self.switch()?;
        let host = switch.link(Which::Index(port.ifindex))?;
        let ours = |host: &Link| port_owner(host, self.controller).may_be_of(identity.link, identity.incarnation);
        let host = host.filter(ours);
        if let Some(host) = host
            && are_peers(place, node, &switch, &host)?
        {
            self.news.settle(identity.link, (switch.cookie, host.index), &host);
            return Ok(Some(host));
        }
        problems.push(format!("the peer of {} on the switch's side is gone", node.name));
        Ok(None)
    }

    /// Finds everything that is of links of this controller. Ends in nodes go with their peers on the switch's side, so that
    /// no node need be looked into.
    pub(crate) fn observe(&mut self) -> Outcome<Vec<ObservedLink>> {
        let mut parts = Vec::new();
        if !self.is_without_switch() {
            let client = self.client_for_reading()?;
            self.see_switch()?;
            let ports = client.read(|db| our_ports(db, self.controller));
            let labels = ports.iter().filter_map(Port::label);
            parts.extend(labels.map(|label| (label.link, Some(label.incarnation), None)));
        } else if !nix::unistd::geteuid().is_root() {
            // An ordinary user made nothing beside a switch that is not there, and may not look.
            return Ok(Vec::new());
        }
        let switch = self.switch()?;
        for link in switch.route(|route| route.links())? {
            let end = || match owner(&link, self.controller) {
                Owner::End(label) => Some((label.link, Some(label.incarnation))),
                Owner::Foreign | Owner::Bridge | Owner::Unlabelled => None,
            };
            if let (Some((id, incarnation)), Ok(name)) = (self.port_of(&link).or_else(end), IfName::new(&link.name)) {
                parts.push((id, incarnation, Some((switch.cookie, link.index, name))));
            }
        }
        Ok(oldest(parts))
    }
}

fn foreign_identity() -> Failure {
    Failure::new(ErrorKind::InvalidInput, "the identity is not one that this backend gave")
}

/// Whether the switch still has the port that was attached, and took the interface that was made for it.
fn is_attached(row: &Port, port: &PortIdentity, side: Side, problems: &mut Vec<String>) -> bool {
    let before = problems.len();
    if let Some(error) = &row.error {
        problems.push(format!("Open vSwitch cannot attach end {side}: {error}"));
    }
    if row.number != Some(port.number) {
        let now = row.number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        problems.push(format!("the port of end {side} has number {now} instead of {}", port.number));
    }
    // A database that was started anew does not know until the switch has something to tell it.
    // A tunnel has no interface of its own.
    if row.tunnel.is_none() && row.ifindex.is_some_and(|ifindex| ifindex != port.ifindex) {
        problems.push(format!("the port of end {side} stands for another interface than was attached"));
    }
    problems.len() == before
}

/// Whether a port is on the segment that was recorded. That both are on one proves nothing; that they were put on another one
/// together is a fault all the same, since people look for the link where it was recorded.
fn is_on_its_tag(row: &Port, end: &EndIdentity, side: Side, problems: &mut Vec<String>) -> bool {
    let recorded = end.plugged.as_ref().and_then(|plugged| plugged.vlan).map(u32::from);
    if row.tag == recorded {
        return true;
    }
    let text = |tag: Option<u32>| tag.map_or_else(|| "none".to_owned(), |tag| tag.to_string());
    problems.push(format!("the port of end {side} has tag {} instead of {}", text(row.tag), text(recorded)));
    false
}

/// Whether an end computes its own checksums and cuts its own segments, which a switch in user space does not do for it.
fn does_its_own_work(place: &Place, link: &Link, problems: &mut Vec<String>) -> Outcome<bool> {
    let Ok(name) = IfName::new(&link.name) else { return Ok(false) };
    let left = place.route(|route| offloads(&*route, &name))?;
    if left == Offloads::NONE {
        return Ok(true);
    }
    problems.push(format!("{name} leaves checksums or segmentation to the switch, which passes no TCP then"));
    Ok(false)
}
