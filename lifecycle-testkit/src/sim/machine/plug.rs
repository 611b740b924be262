//! What the network backend of a host does that has a switch: each end of a link is a pair of interfaces, one of which is
//! a port of the switch; an end at a tunnel is a port itself.

use lifecycle_core::attach::AttachPoint;
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::{IfName, PluginName};
use lifecycle_core::plugin::network::{
    EndIdentity, EndReport, LinkIdentity, LinkReport, LinkRequest, PortReport, ProbeResult, Shaping,
};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;
use lifecycle_core::topology::Admin;

use super::mistakes::Mistake;
use super::network::{HOST_NAMESPACE, Interface, conflict, is_free};
use super::switch::{Change, Port, Switch};
use super::{Host, missing};

const SIDES: [Side; 2] = [Side::A, Side::B];

/// An end of a link on the switch: the interface at the end, and its port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) end: u32,
    pub(super) port: u32,
}

/// The name that the port of a link's end gets. One that was parked has it from the link that it was made for.
fn port_name(link: LinkId, side: Side, point: &AttachPoint) -> IfName {
    if point.place.as_tunnel().is_some() { point.ifname.clone() } else { OurName::LinkEnd { link, side }.ifname() }
}

/// The port of an end in an identity, as its row, number and interface.
fn recorded(identity: &LinkIdentity, side: Side) -> Option<&String> {
    identity.detail.get(&side.to_string())
}

/// What is said of an end that stands with its port.
pub(super) fn report(end: &Interface, port: &Interface) -> EndReport {
    let at_port = PortReport { admin_up: port.up, mtu: port.attrs.mtu };
    EndReport {
        intact: true,
        admin_up: end.up,
        carrier: end.up && port.up,
        mtu: end.attrs.mtu,
        shaping: Some(Shaping::of(&port.attrs)),
        port: end.tunnel.is_none().then_some(at_port),
    }
}

fn record(port: &Port) -> String {
    let attached = port.attached.map(|it| (it.number, it.ifindex));
    format!("{} {attached:?}", port.row)
}

impl Host {
    pub(super) fn is_at_fault(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn switch(&mut self) -> &mut Switch {
        self.switch.get_or_insert_default()
    }

    /// The switch looks into its database, unless it hangs.
    pub(super) fn let_switch_look(&mut self) {
        let Some(mut switch) = self.switch.take() else { return };
        switch.look(|name| self.at(HOST_NAMESPACE, name).map(|(index, _)| index));
        self.switch = Some(switch);
    }

    /// Waits until the switch has carried out what was committed.
    pub(super) fn await_switch(&mut self) -> Result<()> {
        if self.is_at_fault(Mistake::TrustsACommit) {
            return Ok(());
        }
        self.let_switch_look();
        let hangs = || Error::new(ErrorKind::Unreachable, "connect", "the switch does not take up a change");
        self.switch().is_current().then_some(()).ok_or_else(hangs)
    }

    /// Commits changes. Of some transactions the answer is lost, and of some of these the transaction as well: what came
    /// of them is read back.
    pub(super) fn transact(&mut self, changes: &[Change]) -> Result<()> {
        let answered = !self.call.is_multiple_of(3);
        if answered || self.call.is_multiple_of(2) {
            let committed = self.switch().commit(changes);
            if answered || committed.is_err() {
                return committed;
            }
        }
        let done = self.switch().has(changes) && !self.is_at_fault(Mistake::RetriesBlindly);
        if done { Ok(()) } else { self.switch().commit(changes) }
    }

    /// An end of a link as it stands, if it was made under this mark.
    fn pair(&self, cookie: u64, point: &AttachPoint, mark: (LinkId, u64)) -> Option<Pair> {
        let ours = |it: &Interface| it.mark == Some(mark);
        let (end, found) = self.at(cookie, &point.ifname).filter(|(_, it)| ours(it))?;
        if point.place.as_tunnel().is_some() {
            return (found.tunnel.as_ref() == point.place.as_tunnel()).then_some(Pair { end, port: end });
        }
        let (_, port) = found.peer.filter(|(cookie, _)| *cookie == HOST_NAMESPACE)?;
        let other = self.interfaces.get(&(HOST_NAMESPACE, port)).filter(|it| ours(it) && it.port)?;
        (other.peer == Some((cookie, end))).then_some(Pair { end, port })
    }

    /// Builds a link, or puts right what of it is not as it should be. Nothing of it remains where that fails.
    pub(super) fn plug(
        &mut self,
        plugin: &PluginName,
        request: &LinkRequest,
        cookies: [u64; 2],
    ) -> Result<LinkIdentity> {
        self.remove_marked(request.link, |n| n != request.incarnation);
        let plugged = self.try_to_plug(plugin, request, cookies);
        if plugged.is_err() {
            self.drop_marked(request.link, |_| true);
            // What was refused was not committed, or so one may think.
            if !self.is_at_fault(Mistake::RetriesBlindly) {
                self.unplug(request.link, |_| true);
            }
        }
        plugged
    }

    fn try_to_plug(&mut self, plugin: &PluginName, request: &LinkRequest, cookies: [u64; 2]) -> Result<LinkIdentity> {
        let mark = (request.link, request.incarnation);
        let (names, pairs) = self.standing_pairs(request, cookies);
        let port = |pair: &Pair| self.interfaces.get(&(HOST_NAMESPACE, pair.port));
        if pairs.iter().flatten().filter_map(port).any(|port| port.bridged) {
            return Err(conflict("connect", "a port is in a bridge"));
        }
        let strays = self.switch().ports().filter(|(name, port)| port.mark == mark && !names.contains(name));
        let strays: Vec<Change> = strays.map(|(name, _)| Change::Remove(name.clone())).collect();
        // Taking off is never refused.
        drop(self.switch().commit(&strays));
        // What the switch opened for another interface of the name is let go of only when it sees the name gone.
        let stands = [0, 1].map(|side| {
            let attached = self.switch.as_ref()?.port(&names[side])?.attached?;
            (attached.ifindex == pairs[side]?.port).then_some(())
        });
        let lost = (0..2).filter(|&side| stands[side].is_none()).collect::<Vec<_>>();
        let removed: Vec<Change> = lost.iter().map(|&side| Change::Remove(names[side].clone())).collect();
        if !self.is_at_fault(Mistake::AddsAgainInOneStep) {
            self.transact(&removed)?;
            self.await_switch()?;
        }
        let [a, b] = self.whole_pairs(request, cookies, &names, pairs)?;
        let mut changes = if self.is_at_fault(Mistake::AddsAgainInOneStep) { removed } else { Vec::new() };
        changes.extend(self.segment(&names, &lost, mark)?);
        if !changes.is_empty() {
            self.transact(&changes)?;
        }
        self.await_switch()?;
        let ports = names.each_ref().map(|name| self.switch().port(name).map(record));
        let mut identity = self.identity(plugin, request, cookies, [a.end, b.end]);
        for (side, port) in SIDES.into_iter().zip(ports) {
            let port = port.ok_or_else(|| conflict("connect", "a port vanished"))?;
            identity.detail.insert(side.to_string(), port);
        }
        self.tell_link(request.link);
        Ok(identity)
    }

    /// The names of the ports of a link, and its ends as far as they stand. What an attempt left that was made between other
    /// places under the same mark is removed.
    pub(super) fn standing_pairs(
        &mut self,
        request: &LinkRequest,
        cookies: [u64; 2],
    ) -> ([IfName; 2], [Option<Pair>; 2]) {
        let (points, mark) = ([&request.a, &request.b], (request.link, request.incarnation));
        let pairs = [0, 1].map(|side| self.pair(cookies[side], points[side], mark));
        let names = SIDES.map(|side| {
            let stands = pairs[side.index()].and_then(|pair| self.interfaces.get(&(HOST_NAMESPACE, pair.port)));
            stands.map_or_else(|| port_name(request.link, side, points[side.index()]), |port| port.name.clone())
        });
        let known = |name: &IfName| names.contains(name) || points.iter().any(|point| point.ifname == *name);
        let strays = self.interfaces.iter().filter(|(_, it)| it.mark == Some(mark) && !known(&it.name));
        let strays: Vec<_> = strays.map(|(key, _)| *key).collect();
        strays.into_iter().for_each(|key| self.drop_pair(key));
        (names, pairs)
    }

    /// Makes the ends that do not stand, and sets the ports of those that do.
    pub(super) fn whole_pairs(
        &mut self,
        request: &LinkRequest,
        cookies: [u64; 2],
        names: &[IfName; 2],
        mut pairs: [Option<Pair>; 2],
    ) -> Result<[Pair; 2]> {
        let (points, mark) = ([&request.a, &request.b], (request.link, request.incarnation));
        for side in [0, 1] {
            if pairs[side].is_none() {
                for (cookie, name) in [(cookies[side], &points[side].ifname), (HOST_NAMESPACE, &names[side])] {
                    let left = self.at(cookie, name).filter(|(_, it)| it.mark == Some(mark)).map(|(index, _)| index);
                    left.into_iter().for_each(|index| self.drop_pair((cookie, index)));
                    is_free(self.at(cookie, name), name)?;
                }
                pairs[side] = Some(self.bear(request, points[side], cookies[side], &names[side]));
            }
        }
        let [Some(a), Some(b)] = pairs else { return Err(conflict("connect", "an end vanished")) };
        self.put_ports_right(request, [a, b]);
        Ok([a, b])
    }

    /// What puts both ports on a segment that is nobody else's.
    fn segment(&mut self, names: &[IfName; 2], lost: &[usize], mark: (LinkId, u64)) -> Result<Vec<Change>> {
        let hasty = self.is_at_fault(Mistake::FreesATagTooEarly);
        let switch = self.switch.clone().unwrap_or_default();
        let tags = names.each_ref().map(|name| switch.port(name).map(|port| port.tag));
        if lost.is_empty() && tags[0] == tags[1] && tags[0].is_some_and(|tag| switch.users(tag) == 2) {
            return Ok(Vec::new());
        }
        let tag = switch.free_tag(|name| !hasty || self.at(HOST_NAMESPACE, name).is_some())?;
        let change = |side: usize| match lost.contains(&side) {
            true => Change::Add(names[side].clone(), tag, mark),
            false => Change::Retag(names[side].clone(), tag),
        };
        Ok(vec![change(0), change(1)])
    }

    /// Makes an end with its port.
    fn bear(&mut self, request: &LinkRequest, point: &AttachPoint, cookie: u64, port: &IfName) -> Pair {
        let end = self.new_ifindex();
        let tunnel = point.place.as_tunnel().cloned();
        let index = if tunnel.is_some() { end } else { self.new_ifindex() };
        let interface = Interface {
            name: point.ifname.clone(),
            mac: point.mac,
            up: request.attrs.admin == Admin::Up,
            peer: tunnel.is_none().then_some((HOST_NAMESPACE, index)),
            tunnel,
            port: false,
            bridged: false,
            mark: Some((request.link, request.incarnation)),
            attrs: request.attrs,
            set_by: self.call,
        };
        if interface.peer.is_some() {
            let peer = Some((cookie, end));
            let other = Interface { name: port.clone(), peer, port: true, ..interface.clone() };
            self.interfaces.insert((HOST_NAMESPACE, index), other);
        }
        self.interfaces.insert((cookie, end), interface);
        Pair { end, port: index }
    }

    /// Ports that stood before may have been set otherwise.
    fn put_ports_right(&mut self, request: &LinkRequest, pairs: [Pair; 2]) {
        let call = self.call;
        for pair in pairs {
            let key = (HOST_NAMESPACE, pair.port);
            if let Some(port) = self.interfaces.get_mut(&key).filter(|port| port.set_by <= call) {
                (port.up, port.attrs, port.set_by) = (request.attrs.admin == Admin::Up, request.attrs, call);
            }
        }
    }

    /// Takes the ports of a link off the switch.
    pub(super) fn unplug(&mut self, link: LinkId, incarnation: impl Fn(u64) -> bool) {
        let Some(switch) = &mut self.switch else { return };
        let ours = switch.ports().filter(|(_, port)| port.mark.0 == link && incarnation(port.mark.1));
        let changes: Vec<Change> = ours.map(|(name, _)| Change::Remove(name.clone())).collect();
        if !changes.is_empty() {
            // Taking off is never refused.
            drop(switch.commit(&changes));
            self.tell_link(link);
        }
    }

    /// The interfaces behind both ends of a link on the switch: the port's own, or the end at a tunnel itself.
    pub(super) fn port_of(&self, identity: &LinkIdentity, end: &EndIdentity) -> Option<(u32, &Interface)> {
        let ((_, index), found) = self.end(end, identity)?;
        if found.tunnel.is_some() {
            return Some((index, found));
        }
        let peer = found.peer.filter(|(cookie, _)| *cookie == HOST_NAMESPACE)?;
        self.interfaces.get(&peer).filter(|it| it.port).map(|port| (peer.1, port))
    }

    /// Whether frames pass from end to end, whatever anybody believes.
    pub(super) fn switch_joins(&self, identity: &LinkIdentity) -> bool {
        let (Some(switch), Some(b)) = (&self.switch, &identity.b) else { return false };
        let (Some(a), Some(b)) = (self.port_of(identity, &identity.a), self.port_of(identity, b)) else { return false };
        switch.joins([(&a.1.name, a.0), (&b.1.name, b.0)])
    }

    /// Compares a link on the switch with its identity, and sees whether a frame passes.
    pub(super) fn verify_on_switch(&self, identity: &LinkIdentity) -> LinkReport {
        let naive = self.is_at_fault(Mistake::VerifiesTagsOnly);
        let mut problems = Vec::new();
        let switch = self.switch.clone().unwrap_or_default();
        let mut tags = Vec::new();
        let mut read = |side: Side, end: &EndIdentity| {
            let stands = self.port_of(identity, end).map(|(_, port)| port.name.clone());
            let name = stands.unwrap_or_else(|| port_name(identity.link, side, &end.point));
            let row = switch.port(&name);
            tags.push(row.map(|row| row.tag));
            let same_row = row.map(record).as_ref() == recorded(identity, side);
            let cookie = end.namespace;
            let found = match naive {
                true => self.at(cookie, &end.point.ifname).map(|(_, it)| it),
                false => self.end(end, identity).map(|(_, it)| it),
            };
            let port = match naive {
                true => self.at(HOST_NAMESPACE, &name).map(|(_, it)| it),
                false => self.port_of(identity, end).map(|(_, it)| it),
            };
            let (Some(found), Some(port)) = (found, port) else {
                problems.push(format!("{} or its port is not what was built", end.point.ifname));
                return EndReport::default();
            };
            if found.tunnel.as_ref() != end.point.place.as_tunnel() || !naive && !same_row {
                problems.push(format!("{name} is another port than was attached, or leads elsewhere"));
                return EndReport::default();
            }
            report(found, port)
        };
        let (a, b) = (read(Side::A, &identity.a), identity.b.as_ref().map(|b| read(Side::B, b)));
        let one_segment = tags[0].is_some_and(|tag| tags.iter().all(|other| *other == Some(tag)));
        let alone = naive || tags[0].is_some_and(|tag| switch.users(tag) == 2);
        if !one_segment || !alone {
            problems.push(format!("the ports are not on one segment of their own: {tags:?}"));
        }
        let joined = problems.is_empty();
        let probe = match (naive, joined, self.switch_joins(identity)) {
            (true, ..) => ProbeResult::NotNeeded,
            (_, false, _) => ProbeResult::Skipped { reason: "the link does not stand".to_owned() },
            (_, true, true) => ProbeResult::Passed,
            (_, true, false) => ProbeResult::Failed { reason: "no frame arrives".to_owned() },
        };
        LinkReport { a, b, joined, probe, problems }
    }

    /// What takes the carrier of a side's far end: with ports, the far end's own.
    pub(super) fn set_carrier_at_port(&mut self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        let port = identity.end(side.other()).and_then(|end| self.port_of(identity, end)).map(|(index, _)| index);
        let port = port.ok_or_else(|| missing("set carrier", identity.link))?;
        if let Some(port) = self.interfaces.get_mut(&(HOST_NAMESPACE, port)) {
            port.up = up && port.attrs.admin == Admin::Up;
        }
        self.tell_link(identity.link);
        Ok(())
    }
}
