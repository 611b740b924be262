//! What stands already of links that are to be built, and what of it is in their way.

use std::collections::HashMap;
use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind, Tunnel};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::LinkRequest;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_linux::netlink::{Link, Which};
use lifecycle_linux::wiring::label::{Label, Owner, link_bridge, owner, port_owner};
use lifecycle_linux::wiring::{Failure, Outcome, Place, are_peers, is_finished, port_behind};

use crate::detail::PortIdentity;
use crate::ovsdb::{Replica, Uuid};
use crate::removal::Doomed;
use crate::switch::{Bridge, Port};
use crate::tunnel;
use crate::worker::Worker;

/// One end of a link, with what stands there already.
pub(crate) struct End<'a> {
    pub(crate) point: &'a AttachPoint,
    pub(crate) place: Rc<Place>,
    pub(crate) label: Label,
    /// The interface at the link's end, if it is another one than that on the switch's side.
    pub(crate) node: Option<Link>,
    /// The one on the switch's side: a tap, or a veth's other end.
    pub(crate) host: Option<Link>,
    /// The name of the port, which it may have from the link that it was made for.
    pub(crate) port_name: IfName,
    port: Option<Port>,
}

/// A link to be built.
pub(crate) struct Plan<'a> {
    pub(crate) request: &'a LinkRequest,
    pub(crate) bridge: &'a IfName,
    pub(crate) switch: Rc<Place>,
    pub(crate) ends: [End<'a>; 2],
    /// Which ends' pairs of interfaces stand, whether or not the switch has them.
    pub(crate) pairs: [bool; 2],
    /// Which ends' ports stand as well.
    pub(crate) plugged: [bool; 2],
}

/// An end: the number of its link's plan, and which end of it.
pub(crate) type At = (usize, usize);

/// The ends that have interfaces.
pub(crate) fn ends(plans: &[&Plan<'_>]) -> Vec<At> {
    let ends = (0..plans.len()).flat_map(|plan| [(plan, 0), (plan, 1)]);
    ends.filter(|(plan, end)| plans[*plan].ends[*end].tunnel().is_none()).collect()
}

/// Ports with the name of another end than they are labelled as, for which they were parked, by the end of that label.
pub(crate) type ParkedPorts = HashMap<(LinkId, Side), Vec<(String, Uuid)>>;

pub(crate) fn parked_ports(db: &Replica, controller: ControllerId) -> ParkedPorts {
    let mut parked = ParkedPorts::new();
    for (uuid, row) in db.rows("Port") {
        if let Some((name, label)) = row.text("name").zip(Port::label_of(row, controller))
            && *name != *label.port_name().as_str()
        {
            parked.entry((label.link, label.side)).or_default().push((name.to_owned(), uuid.clone()));
        }
    }
    parked
}

impl Worker {
    /// Looks at what stands at the ends of a link. Which port was parked with a tap is not known yet.
    pub(crate) fn ends<'a>(&mut self, request: &'a LinkRequest) -> Outcome<[End<'a>; 2]> {
        self.refuse(&request.attrs)?;
        let places = [request.a.place.name(), request.b.place.name()];
        if let Some(other) =
            places.iter().find(|kind| matches!(kind, PlaceKind::Bridge | PlaceKind::Macvlan | PlaceKind::Dummy))
        {
            return Err(Failure::unsupported(format!("the ovs backend attaches nothing to a {other}")));
        }
        let switch = self.switch()?;
        let mut end = |point: &'a AttachPoint, side: Side| -> Outcome<End<'a>> {
            let place = self.place(&point.place)?;
            let label = Label::of(self.controller, request.mark(side));
            let node = match &point.place {
                AttachKind::Tunnel(tunnel) => self.refuse_astray(tunnel).map(|()| None)?,
                AttachKind::Tap { .. } => None,
                _ => place.link(Which::Name(&point.ifname))?,
            };
            let (port_name, host) = match port_behind(node.as_ref(), &switch, &label)? {
                Some((name, host)) => (name, Some(host)),
                None => {
                    let name = label.port_name();
                    let host = switch.link(Which::Name(interface(&point.place, &name)))?;
                    (name, host)
                }
            };
            Ok(End { point, place, label, node, host, port_name, port: None })
        };
        Ok([end(&request.a, Side::A)?, end(&request.b, Side::B)?])
    }

    /// Sees what is to be done about a link that has these ends. What older incarnations left, or what of this one is not
    /// whole, is doomed; what is not ours is refused.
    pub(crate) fn plan<'a>(
        &mut self,
        request: &'a LinkRequest,
        bridge: &'a IfName,
        mut ends: [End<'a>; 2],
        parked: &ParkedPorts,
        doomed: &mut Doomed,
    ) -> Outcome<Plan<'a>> {
        let (client, switch) = (self.client()?, self.switch()?);
        for end in &mut ends {
            let parked = parked.get(&(request.link, end.label.side)).map(Vec::as_slice).unwrap_or_default();
            // No interface in a node tells which port was parked with a tap.
            if let Some((name, _)) = parked.first().filter(|_| end.is_tap())
                && let Ok(name) = IfName::new(name)
            {
                end.port_name = name;
            }
            end.port = client.read(|db| Port::named(db, end.port_name.as_str(), self.controller));
            // One that was parked for this end and is not the one that stands is in nobody's way and would stay.
            let fallen = parked.iter().filter(|(name, _)| *name != end.port_name.as_str());
            doomed.ports.extend(fallen.map(|(_, uuid)| uuid.clone()));
            end.refuse_what_is_not_ours()?;
        }
        let where_it_is = |end: &End<'_>| (end.place.cookie, end.ifname());
        if where_it_is(&ends[0]) == where_it_is(&ends[1]) {
            return Err(Failure::new(ErrorKind::InvalidInput, "both ends are one and the same interface"));
        }
        let (mut pairs, mut plugged) = ([false; 2], [false; 2]);
        for (side, end) in ends.iter().enumerate() {
            pairs[side] = self.is_pair(end, &switch)?;
            if let Some(host) = end.host.as_ref().filter(|_| pairs[side]) {
                self.refuse_what_a_bridge_has(&switch, host)?;
            }
            plugged[side] = pairs[side] && self.is_plugged_into(end, bridge)?;
            if !plugged[side] {
                doomed.ports.extend(end.port.as_ref().map(|port| port.uuid.clone()));
            }
            if !pairs[side] {
                // One end of a pair takes the other along.
                if let Some(host) = &end.host {
                    self.doom_interface(&switch, host, doomed);
                }
                if let Some(node) = &end.node {
                    self.doom_interface(&end.place, node, doomed);
                }
            }
        }
        Ok(Plan { request, bridge, switch, ends, pairs, plugged })
    }

    /// What another backend has plugged into the bridge of a link is taken over only once it has let go of it.
    fn refuse_what_a_bridge_has(&self, switch: &Place, host: &Link) -> Outcome<()> {
        let master = host.master.map(|master| switch.link(Which::Index(master))).transpose()?.flatten();
        match master.filter(|master| link_bridge(master, self.controller).is_some()) {
            Some(bridge) => {
                let message = format!("{} is still a port of the bridge {}", host.name, bridge.name);
                Err(Failure::new(ErrorKind::Conflict, message))
            }
            None => Ok(()),
        }
    }

    /// Whether an end's two interfaces stand and belong together, or its tap stands. A tunnel needs none, and they would be
    /// in its way.
    fn is_pair(&self, end: &End<'_>, switch: &Place) -> Outcome<bool> {
        if end.tunnel().is_some() {
            return Ok(end.host.is_none());
        }
        let Some(host) = &end.host else { return Ok(false) };
        let ours = |owner| owner == Owner::End(end.label) || owner == Owner::Unlabelled;
        if end.is_tap() {
            return Ok(host.group == LINK_GROUP && ours(end.host_owner(host)));
        }
        let Some(node) = &end.node else { return Ok(false) };
        // Once it is finished, its node may give it another address.
        let born = || owner(node, self.controller) == Owner::Unlabelled && node.mac == Some(end.point.mac);
        Ok(host.group == LINK_GROUP
            && ours(port_owner(host, self.controller))
            && (end.was_finished() || born())
            && are_peers(&end.place, node, switch, host)?)
    }

    /// Whether the switch has the port of an end whose interfaces stand. A port that was opened for another interface of the
    /// same name is none: only taking it off and, once the switch has done so, adding it again helps.
    fn is_plugged_into(&self, end: &End<'_>, bridge: &IfName) -> Outcome<bool> {
        let Some(port) = &end.port else { return Ok(false) };
        let on_bridge = self
            .client()?
            .read(|db| Bridge::named(db, bridge.as_str(), self.controller).is_some_and(|it| it.has(db, &port.uuid)));
        let attached = on_bridge && port.owner == Owner::End(end.label) && port.is_attached();
        if let Some(tunnel) = end.tunnel() {
            return Ok(attached && port.tunnel.as_ref() == Some(&tunnel::options(tunnel)?));
        }
        let Some(host) = &end.host else { return Ok(false) };
        let known = self.known.get(&end.label.link).and_then(|known| PortIdentity::read(known, end.label.side));
        let reopened = known.is_some_and(|known| known.uuid == port.uuid && known.ifindex != host.index);
        Ok(attached && !reopened && port.ifindex.is_none_or(|ifindex| ifindex == host.index))
    }
}

impl Plan<'_> {
    /// Whether the interface on the switch's side of an end stood before and bears its label, which it gets when it is set up.
    pub(crate) fn was_set_up(&self, index: usize) -> bool {
        let end = &self.ends[index];
        let labelled = |host: &Link| end.host_owner(host) == Owner::End(end.label);
        self.pairs[index] && end.host.as_ref().is_some_and(labelled)
    }

    /// Whether both interfaces of an end stood before and are left as they are but for what its port is told.
    pub(crate) fn stood_as_wanted(&self, index: usize) -> bool {
        self.was_set_up(index) && self.is_left_to_its_node(index)
    }

    /// Whether an end stood and was finished before, so that it is as its node wants it.
    pub(crate) fn is_left_to_its_node(&self, index: usize) -> bool {
        let end = &self.ends[index];
        self.pairs[index] && end.was_finished() && matches!(end.point.place, AttachKind::Namespace(_))
    }
}

/// The name of the interface on the switch's side of an end, whose port has a name that is derived from a link.
fn interface<'a>(place: &'a AttachKind, port: &'a IfName) -> &'a IfName {
    match place {
        AttachKind::Tap { name, .. } => name,
        _ => port,
    }
}

impl End<'_> {
    pub(crate) fn is_tap(&self) -> bool {
        matches!(self.point.place, AttachKind::Tap { .. })
    }

    /// The name of the interface on the switch's side.
    pub(crate) fn interface(&self) -> &IfName {
        interface(&self.point.place, &self.port_name)
    }

    fn host_owner(&self, host: &Link) -> Owner {
        let controller = self.label.controller;
        if self.is_tap() { owner(host, controller) } else { port_owner(host, controller) }
    }

    /// Whether the interface on the switch's side is one that may be removed with this end. The name of a tap is its
    /// machine's, and another link may have ended there.
    pub(crate) fn is_ours(&self, host: &Link) -> bool {
        match self.host_owner(host) {
            Owner::End(label) => !self.is_tap() || label == self.label,
            owner => !self.is_tap() && owner != Owner::Foreign,
        }
    }

    pub(crate) fn tunnel(&self) -> Option<&Tunnel> {
        self.point.place.as_tunnel()
    }

    /// The interface at the link's end; the port itself for a tunnel or a tap.
    fn ifname(&self) -> IfName {
        match self.point.place {
            AttachKind::Tunnel(_) | AttachKind::Tap { .. } => self.interface().clone(),
            _ => self.point.ifname.clone(),
        }
    }

    fn refuse_what_is_not_ours(&self) -> Outcome<()> {
        let controller = self.label.controller;
        let node = self.node.as_ref().map(|link| (self.point.ifname.as_str(), owner(link, controller)));
        let host = self.host.as_ref().map(|link| (link.name.as_str(), self.host_owner(link)));
        let port = self.port.as_ref().map(|port| (port.name.as_str(), port.owner));
        let mut found = [node, host, port].into_iter().flatten();
        found.try_for_each(|(name, owner)| owner.refuse_as(name, &self.label))
    }

    /// Whether the interface at the link's end was labelled and set up before.
    fn was_finished(&self) -> bool {
        self.node.as_ref().is_some_and(|node| is_finished(node, self.label))
    }
}
