//! Building links: all of a link or nothing of it.

use std::os::fd::AsFd;
use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, LinkRequest, Shaping, SwitchPort};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, OurName};
use lifecycle_core::topology::Admin;
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, Link, NewLink, Port, PortChange, Request, Veth, Which, change_link, create_bridge,
    create_veth, set_port,
};
use lifecycle_linux::wiring::bridge::keep_quiet;
use lifecycle_linux::wiring::label::{
    Label, Owner, in_the_way, link_bridge, link_bridge_alias, link_bridge_mac, owner, port_mac, port_owner,
};
use lifecycle_linux::wiring::shaping::slow_down;
use lifecycle_linux::wiring::{Failure, Outcome, Place, TapRequest, are_peers, doomed, is_finished, port_behind};

use crate::detail::Segment;
use crate::stand::is_own_port;
use crate::tunnel::{self, sent_to};
use crate::worker::Worker;

/// One end of a link, with what stands there already.
struct End<'a> {
    point: &'a AttachPoint,
    place: Rc<Place>,
    label: Label,
    /// Name of the port: that of the tap, or of the veth's other end, which may have it from the link that it was made for.
    port_name: IfName,
    /// The interface at the link's end; nothing apart from the port for a tap.
    node: Option<Link>,
    port: Option<Link>,
}

/// A link to be built.
struct Plan<'a> {
    request: &'a LinkRequest,
    switch: Rc<Place>,
    bridge_name: IfName,
    bridge: Option<Link>,
    ends: [End<'a>; 2],
}

/// What of a link stands already and can stay.
#[derive(Debug, Clone, Copy, Default)]
struct Stands {
    bridge: bool,
    ends: [bool; 2],
}

impl End<'_> {
    fn is_tap(&self) -> bool {
        matches!(self.point.place, AttachKind::Tap { .. })
    }

    fn is_own_port(&self) -> bool {
        is_own_port(&self.point.place)
    }

    fn port_owner(&self, link: &Link) -> Owner {
        if self.is_tap() { owner(link, self.label.controller) } else { port_owner(link, self.label.controller) }
    }

    /// Refuses what stands here and is neither of this link nor older.
    fn refuse_what_is_not_ours(&self) -> Outcome<()> {
        let node = self.node.as_ref().map(|link| (&link.name, owner(link, self.label.controller)));
        let port = self.port.as_ref().map(|link| (&link.name, self.port_owner(link)));
        [node, port].into_iter().flatten().try_for_each(|(name, owner)| owner.refuse_as(name, &self.label))
    }

    /// Whether the interface at the link's end was labelled and set up before.
    fn was_finished(&self) -> bool {
        self.node.as_ref().is_some_and(|node| is_finished(node, self.label))
    }

    /// Whether it is a node's own interface and was finished before, so that it is as its node wants it.
    fn is_left_to_its_node(&self) -> bool {
        self.was_finished() && matches!(self.point.place, AttachKind::Namespace(_))
    }

    /// Whether what stands here is this end of this incarnation, be it plugged in or not.
    fn stands(&self, switch: &Place) -> Outcome<bool> {
        let Some(port) = &self.port else { return Ok(false) };
        let ours = |owner: Owner| owner == Owner::End(self.label) || owner == Owner::Unlabelled;
        if port.group != LINK_GROUP || !ours(self.port_owner(port)) {
            return Ok(false);
        }
        if let Some(tunnel) = self.point.place.as_tunnel() {
            return Ok(tunnel::difference(switch, port, tunnel)?.is_none());
        }
        if self.is_tap() {
            return Ok(true);
        }
        let Some(node) = &self.node else { return Ok(false) };
        // Once it is finished, its node may give it another address.
        let born = || owner(node, self.label.controller) == Owner::Unlabelled && node.mac == Some(self.point.mac);
        Ok((self.was_finished() || born()) && are_peers(&self.place, node, switch, port)?)
    }
}

impl Worker {
    /// Builds a link, or finds that it stands already.
    pub(crate) fn connect(&mut self, request: &LinkRequest) -> Outcome<LinkIdentity> {
        self.refuse(&request.attrs)?;
        let (a, b) = (request.a.place.name(), request.b.place.name());
        let can = self.facts.capabilities();
        if !can.can_connect(a, b) {
            let why = [a, b].iter().find_map(|place| can.missing.get(&place.to_string()));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Failure::unsupported(format!(
                "the linux-bridge backend cannot connect a {a} and a {b} here{why}"
            )));
        }
        let plan = self.plan(request)?;
        let stands = self.what_stands(&plan)?;
        self.make_way(&plan, stands)?;
        let built = self.bear(&plan, stands).and_then(|()| self.label(&plan, stands));
        let identity = built.and_then(|()| self.identity(&plan, stands));
        match &identity {
            Ok(identity) => drop(self.known.insert(identity.link, identity.clone())),
            Err(_) => self.undo(request),
        }
        identity
    }

    fn what_stands(&self, plan: &Plan<'_>) -> Outcome<Stands> {
        let [a, b] = &plan.ends;
        let bridge = plan.bridge.as_ref().is_some_and(|bridge| self.is_of(bridge, plan.request));
        Ok(Stands { bridge, ends: [a.stands(&plan.switch)?, b.stands(&plan.switch)?] })
    }

    fn is_of(&self, bridge: &Link, request: &LinkRequest) -> bool {
        bridge.group == LINK_GROUP
            && link_bridge(bridge, self.controller)
                .is_some_and(|(_, incarnation)| incarnation.is_none_or(|it| it == request.incarnation))
    }

    /// Looks at what is at the ends and refuses what is not ours; changes nothing.
    fn plan<'a>(&mut self, request: &'a LinkRequest) -> Outcome<Plan<'a>> {
        let switch = self.switch(&request.a.place, &request.b.place)?;
        let mut end = |point: &'a AttachPoint, side: Side| -> Outcome<End<'a>> {
            let place = self.places.of(&point.place, None)?;
            if place.site() != switch.site() && !matches!(point.place, AttachKind::HostNet) {
                let message = "the ends belong to different users' networks; no bridge reaches both";
                return Err(Failure::unsupported(message));
            }
            let controller = self.controller;
            let label = Label::of(controller, request.mark(side));
            let (port_name, node) = match &point.place {
                AttachKind::Tap { name, .. } => (name.clone(), None),
                AttachKind::Tunnel(_) => (label.port_name(), None),
                _ => (label.port_name(), place.link(Which::Name(&point.ifname))?),
            };
            let (port_name, port) = match port_behind(node.as_ref(), &switch, &label)? {
                Some((name, port)) => (name, Some(port)),
                None => (port_name.clone(), switch.link(Which::Name(&port_name))?),
            };
            let end = End { point, place, label, port_name, node, port };
            end.refuse_what_is_not_ours()?;
            Ok(end)
        };
        let ends = [end(&request.a, Side::A)?, end(&request.b, Side::B)?];
        let where_it_is = |end: &End<'_>| match end.is_own_port() {
            true => (end.place.cookie, end.port_name.clone()),
            false => (end.place.cookie, end.point.ifname.clone()),
        };
        if where_it_is(&ends[0]) == where_it_is(&ends[1]) {
            return Err(Failure::new(ErrorKind::InvalidInput, "both ends are one and the same interface"));
        }
        let bridge_name = OurName::LinkBridge { link: request.link }.ifname();
        let bridge = switch.link(Which::Name(&bridge_name))?;
        match bridge.as_ref().map(|bridge| link_bridge(bridge, self.controller)) {
            Some(None) => return Err(in_the_way(bridge_name.as_str())),
            Some(Some((_, Some(incarnation)))) if incarnation > request.incarnation => {
                let message = format!("incarnation {incarnation} of the link stands already");
                return Err(Failure::new(ErrorKind::Conflict, message));
            }
            _ => {}
        }
        Ok(Plan { request, switch, bridge_name, bridge, ends })
    }

    /// Removes what older incarnations left, or what of this one is not whole.
    fn make_way(&mut self, plan: &Plan<'_>, stands: Stands) -> Outcome<()> {
        let mut places = Vec::new();
        let fallen = || plan.ends.iter().zip(stands.ends).filter_map(|(end, stands)| (!stands).then_some(end));
        let bridge = plan.bridge.as_ref().filter(|_| !stands.bridge);
        for link in bridge.into_iter().chain(fallen().filter_map(|end| end.port.as_ref())) {
            self.doom_part(&plan.switch, link)?;
            places.push(&plan.switch);
        }
        for end in fallen() {
            if let Some(node) = &end.node {
                let port = end.port.as_ref();
                self.news.forget((end.place.cookie, node.index));
                if port.is_none_or(|port| node.lower != Some(port.index)) {
                    self.doom_part(&end.place, node)?;
                    places.push(&end.place);
                }
            }
        }
        places.dedup_by_key(|place| place.cookie);
        places.into_iter().try_for_each(|place| doomed::sweep(place))
    }

    /// Makes the bridge, and ports on it at birth, each with its end in its final place; what stands is plugged in. Nothing
    /// new is up yet.
    fn bear(&self, plan: &Plan<'_>, stands: Stands) -> Outcome<()> {
        let Plan { request, switch, bridge_name, .. } = plan;
        if !stands.bridge {
            let mac = Some(link_bridge_mac(self.controller, request.link));
            let new = NewLink { mac, group: LINK_GROUP, ..NewLink::new(bridge_name) };
            switch.route(|route| route.run(create_bridge(&new)))?;
            crash_point("link-bridge-made");
        }
        let vanished = || Failure::new(ErrorKind::Conflict, "the bridge vanished while the link was being built");
        let bridge = switch.link(Which::Name(bridge_name))?.ok_or_else(vanished)?;
        let mut requests = Vec::new();
        for (end, stands) in plan.ends.iter().zip(stands.ends) {
            if stands {
                let plug = Change { master: Some(bridge.index), ..Change::default() };
                requests.push(change_link(Which::Name(&end.port_name), &plug));
                continue;
            }
            if let AttachKind::Tap { name, owner, flags } = &end.point.place {
                let (mtu, master) = (request.attrs.mtu, Some(bridge.index));
                let tap = TapRequest { name, owner: *owner, flags: *flags, label: &end.label, mtu, master };
                self.places.make_tap(switch, &tap)?;
                continue;
            }
            let new = |name, mac| NewLink {
                mac: Some(mac),
                mtu: Some(request.attrs.mtu),
                group: LINK_GROUP,
                ..NewLink::new(name)
            };
            let port = new(&end.port_name, port_mac(self.controller, end.port_name.as_str()));
            let port = NewLink { master: Some(bridge.index), ..port };
            if let Some(tunnel) = end.point.place.as_tunnel() {
                tunnel::bear(switch, &port, tunnel)?;
                continue;
            }
            let node = NewLink { ns: Some(end.place.ns.as_fd()), ..new(&end.point.ifname, end.point.mac) };
            requests.push(create_veth(&Veth { a: port, b: node }));
        }
        if stands.bridge {
            requests.extend(unplug_strangers(plan, bridge.index)?);
        }
        let made: Result<(), _> = switch.route(|route| route.run_all(&requests)).into_iter().collect();
        crash_point("link-ports-made");
        Ok(made?)
    }

    /// Labels all parts of a link and sets them up, the bridge first and the nodes' ends last. An end that was finished
    /// before is as its node wants it.
    fn label(&self, plan: &Plan<'_>, stands: Stands) -> Outcome<()> {
        let Plan { request, switch, bridge_name, .. } = plan;
        let bridge = Which::Name(bridge_name);
        keep_quiet(switch, bridge);
        let alias = link_bridge_alias(self.controller, request.link, request.incarnation);
        let change = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
        switch.route(|route| route.run(change_link(bridge, &change)))?;
        let (up, mtu) = (Some(request.attrs.admin == Admin::Up), Some(request.attrs.mtu));
        // Two ends need no memory of who is where: whatever comes in goes out on the other side, as on a cable.
        let pass = PortChange { group_fwd_mask: Some(BRIDGE_PORT_FORWARD_ALL), learning: Some(false) };
        for (end, stands) in plan.ends.iter().zip(stands.ends) {
            let port = Which::Name(&end.port_name);
            keep_quiet(switch, port);
            let alias = if end.is_tap() { end.label.to_string() } else { end.label.of_port() };
            let change = Change { up, mtu: mtu.filter(|_| stands), alias: Some(&alias), ..Change::default() };
            let requests = [set_port(port, pass), change_link(port, &change)];
            let finished: Result<(), _> = switch.route(|route| route.run_all(&requests)).into_iter().collect();
            finished.map_err(|error| match end.point.place.as_tunnel() {
                Some(tunnel) => tunnel::refused(error, tunnel),
                None => error.into(),
            })?;
        }
        for (end, stands) in plan.ends.iter().zip(stands.ends) {
            if end.is_own_port() || stands && end.is_left_to_its_node() {
                continue;
            }
            let alias = end.label.to_string();
            let change = Change { up, mtu: mtu.filter(|_| stands), alias: Some(&alias), ..Change::default() };
            end.place.route(|route| route.run(change_link(Which::Name(&end.point.ifname), &change)))?;
            crash_point("link-end-finished");
        }
        Ok(())
    }

    /// Reads a link back as it was built, and makes it as slow as it is to be.
    fn identity(&mut self, plan: &Plan<'_>, stands: Stands) -> Outcome<LinkIdentity> {
        let Plan { request, switch, .. } = plan;
        let vanished = || Failure::new(ErrorKind::Conflict, "a part vanished while the link was being built");
        let bridge = switch.link(Which::Name(&plan.bridge_name))?.ok_or_else(vanished)?;
        let up = request.attrs.admin == Admin::Up;
        let (mut ends, mut ports) = (Vec::new(), [0; 2]);
        for (end, stands) in plan.ends.iter().zip(stands.ends) {
            let mut port = switch.link(Which::Name(&end.port_name))?.ok_or_else(vanished)?;
            if port.master != Some(bridge.index) {
                return Err(vanished());
            }
            if end.point.place.as_tunnel().is_some() {
                tunnel::refuse_shorter(&port, request.attrs.mtu)?;
            }
            let sent = sent_to(&end.point.place, &request.attrs);
            slow_down(switch, port.index, &sent)?;
            self.news.settle_shaping((switch.cookie, port.index), Shaping::of(&sent));
            ports[end.label.side.index()] = port.index;
            let (index, mac) = if end.is_own_port() {
                port.carrier = up;
                (port.index, port.mac.unwrap_or(end.point.mac))
            } else {
                let mut node = end.place.link(Which::Name(&end.point.ifname))?.ok_or_else(vanished)?;
                if !are_peers(&end.place, &node, switch, &port)? {
                    return Err(Failure::new(
                        ErrorKind::Conflict,
                        "an end was replaced while the link was being built",
                    ));
                }
                // What the kernel will announce of the end as it was left is no news.
                node.admin_up = if stands && end.is_left_to_its_node() { node.admin_up } else { up };
                node.carrier = up && node.admin_up;
                port.carrier = node.carrier;
                self.news.settle(request.link, (end.place.cookie, node.index), &node);
                (node.index, end.point.mac)
            };
            port.admin_up = up;
            port.carrier &= !end.is_tap();
            port.port = port.port.map(|state| Port { forwarding: true, ..state });
            self.news.settle(request.link, (switch.cookie, port.index), &port);
            let (bridge, port) = (plan.bridge_name.to_string(), end.port_name.to_string());
            let plugged = Some(SwitchPort { bridge, port, vlan: None });
            let (point, namespace) = (end.point.clone(), end.place.cookie);
            ends.push(EndIdentity { point, namespace, ifindex: index, mac, plugged });
        }
        self.news.settle(request.link, (switch.cookie, bridge.index), &bridge);
        let detail = Segment { switch: switch.cookie, bridge: bridge.index, ports }.write();
        let b = ends.pop();
        let a = ends.pop().ok_or_else(vanished)?;
        let LinkRequest { link, incarnation, .. } = **request;
        Ok(LinkIdentity { backend: crate::name(), link, incarnation, boot: self.boot, a, b, detail })
    }

    /// Removes what was made of a link that could not be finished.
    fn undo(&mut self, request: &LinkRequest) {
        let undone = self.plan(request).and_then(|plan| self.make_way(&plan, Stands::default()));
        if let Err(failure) = undone {
            // It bears the mark, so that collection finds it.
            tracing::warn!(link = %request.link, ?failure, "half a link could not be removed at once");
        }
    }
}

/// What others plugged into the bridge of a link is taken off it, and otherwise left as it is.
fn unplug_strangers(plan: &Plan<'_>, bridge: u32) -> Outcome<Vec<Request>> {
    let ours = |name: &str| plan.ends.iter().any(|end| end.port_name.as_str() == name);
    let off = Change { master: Some(0), ..Change::default() };
    let ports = plan.switch.route(|route| route.ports(bridge))?;
    Ok(ports.iter().filter(|port| !ours(&port.name)).map(|port| change_link(Which::Index(port.index), &off)).collect())
}
