//! Verifying links.

use lifecycle_core::plugin::network::{LinkIdentity, LinkReport};
use lifecycle_core::policy::link::Side;
use lifecycle_linux::netlink::{BRIDGE_PORT_FORWARD_ALL, Link};
use lifecycle_linux::wiring::{Outcome, TestFrames, are_peers, note_own_changes, report_plugged, shaping};

use crate::stand::{Stand, ends_of, is_own_port};
use crate::tunnel;
use crate::worker::Worker;

impl Worker {
    /// Compares a link with its identity and sends a frame each way. Changes nothing.
    pub(crate) fn verify(&mut self, identity: &LinkIdentity) -> Outcome<LinkReport> {
        let ends = ends_of(identity)?;
        let mut stand = self.stand(identity)?;
        let mut problems = Vec::new();
        let mut joined = is_bridge_there(&stand, &mut problems)?;
        if let (Some(switch), Some(bridge)) = (&stand.switch, &stand.bridge) {
            self.news.settle(identity.link, (switch.cookie, bridge.index), bridge);
        }
        let mut shaping = [None; 2];
        let mut ways = [true; 2];
        for side in [Side::A, Side::B] {
            let end = ends[side.index()];
            match &stand.ends[side.index()] {
                Some((place, link)) => {
                    self.news.settle(identity.link, (place.cookie, link.index), link);
                    match end.point.place.as_tunnel() {
                        None => note_own_changes(end, link, &mut problems),
                        Some(tunnel) => {
                            ways[side.index()] = tunnel::has_way(place, tunnel, &mut problems)?;
                            if let Some(difference) = tunnel::difference(place, link, tunnel)? {
                                problems.push(difference);
                                stand.ends[side.index()] = None;
                            }
                        }
                    }
                }
                None => problems.push(format!("the interface {} (index {}) is gone", end.point.ifname, end.ifindex)),
            }
            let found = stand.ends[side.index()].as_ref();
            let plugged = match (&stand.switch, &stand.ports[side.index()], found) {
                (Some(switch), Some(port), Some((place, link))) => {
                    let key = (switch.cookie, port.index);
                    self.news.settle(identity.link, key, port);
                    let slowed = shaping::read(switch, port.index, &port.name, &mut problems)?;
                    joined &= slowed.is_some();
                    // What leaves through a tunnel is slowed down in part only.
                    shaping[side.index()] = slowed.filter(|_| end.point.place.as_tunnel().is_none());
                    self.news.settle_shaping(key, slowed.unwrap_or_default());
                    is_own_port(&end.point.place) || are_peers(place, link, switch, port)?
                }
                _ => false,
            };
            if !plugged && found.is_some() {
                problems.push(format!("the peer of {} on the bridge's side is gone", end.point.ifname));
            }
            joined &=
                plugged && stand.ports[side.index()].as_ref().is_some_and(|port| is_port(port, &stand, &mut problems));
        }
        let found = stand.ends.each_ref().map(|found| found.as_ref().map(|(place, link)| (&**place, link)));
        let probe = if !joined {
            TestFrames::skipped("the link does not stand")
        } else if ends.iter().any(|end| end.point.place.as_tunnel().is_some()) {
            TestFrames::skipped("the far end of a tunnel is on another host")
        } else if ends.iter().any(|end| is_own_port(&end.point.place)) {
            TestFrames::skipped("only its node can send through a tap")
        } else if !stand.ports.iter().flatten().all(|port| port.admin_up) {
            TestFrames::skipped("an end is without carrier")
        } else {
            self.frames.exchange(&self.places, found, &mut problems)?
        };
        if joined {
            self.known.entry(identity.link).or_insert_with(|| identity.clone());
        }
        let [mut a, mut b] = [Side::A, Side::B].map(|side| {
            let side = side.index();
            report_plugged(found[side].map(|(_, link)| link), stand.ports[side].as_ref(), shaping[side])
        });
        a.carrier &= ways[0];
        b.carrier &= ways[1];
        Ok(LinkReport { a, b: Some(b), joined, probe, problems })
    }
}

/// Whether the bridge of a link is there, is up, and joins nothing else.
fn is_bridge_there(stand: &Stand, problems: &mut Vec<String>) -> Outcome<bool> {
    let (Some(switch), Some(bridge)) = (&stand.switch, &stand.bridge) else {
        problems.push("the bridge of the link is gone".to_owned());
        return Ok(false);
    };
    let before = problems.len();
    if !bridge.admin_up {
        problems.push(format!("the bridge {} is down", bridge.name));
    }
    let ports = switch.route(|route| route.ports(bridge.index))?;
    for stranger in ports.iter().filter(|port| !stand.segment.ports.contains(&port.index)) {
        problems.push(format!("{} was plugged into the bridge of the link", stranger.name));
    }
    Ok(problems.len() == before)
}

/// Whether a port is on the link's bridge and lets through what it should.
fn is_port(port: &Link, stand: &Stand, problems: &mut Vec<String>) -> bool {
    let name = &port.name;
    if port.master != Some(stand.segment.bridge) {
        problems.push(format!("{name} is not a port of its bridge any more"));
        return false;
    }
    let state = port.port.unwrap_or_default();
    if state.group_fwd_mask != BRIDGE_PORT_FORWARD_ALL {
        problems.push(format!("{name} does not let all link-local frames through"));
        return false;
    }
    if port.carrier && !state.forwarding && stand.bridge.as_ref().is_some_and(|bridge| bridge.admin_up) {
        // Whether frames pass all the same, the test frame tells: the kernel lets a port forward a moment after it came up.
        problems.push(format!("{name} does not forward what it receives"));
    }
    true
}
