//! Reading links back as they were built: the interfaces, which is work for the time in which the switch is busy, and what it
//! attached to them.
//!
//! What stood before as it is wanted was looked at when the links were planned, and is not read again; the rest is read for
//! all links in one go where they share a namespace.

use std::collections::{BTreeMap, HashMap};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, LinkRequest, Shaping, SwitchPort};
use lifecycle_core::topology::Admin;
use lifecycle_linux::netlink::{Link, Which, get_link};
use lifecycle_linux::wiring::{Failure, Outcome, are_peers, shaping};

use crate::detail::{self, PortIdentity};
use crate::plan::{At, Plan, ends};
use crate::switch::Port;
use crate::tunnel;
use crate::worker::Worker;

/// The interfaces of an end: that on the switch's side, and the other one unless that is the same.
pub(crate) type Interfaces = (Link, Option<Link>);

impl Worker {
    /// The interfaces of links that are `wired`, by their ends, with those on the switch's side slowed down as they are to be.
    pub(crate) fn interfaces(
        &self,
        plans: &[&Plan<'_>],
        wired: &[Outcome<Option<i64>>],
    ) -> HashMap<At, Outcome<Interfaces>> {
        let with_node = |((plan, end), host): (At, Outcome<Link>)| {
            ((plan, end), host.and_then(|host| plans[plan].node(end, &host).map(|node| (host, node))))
        };
        self.hosts(plans, wired).into_iter().map(with_node).collect()
    }

    /// The interfaces on the switch's side, slowed down as they are to be.
    fn hosts(&self, plans: &[&Plan<'_>], wired: &[Outcome<Option<i64>>]) -> HashMap<At, Outcome<Link>> {
        let Some(switch) = plans.first().map(|plan| &plan.switch) else { return HashMap::new() };
        let ends = ends(plans).into_iter().filter(|(plan, _)| wired[*plan].is_ok());
        let (stood, unread): (Vec<At>, Vec<At>) = ends.partition(|(plan, end)| plans[*plan].was_set_up(*end));
        let requests: Vec<_> =
            unread.iter().map(|(plan, end)| get_link(Which::Name(plans[*plan].ends[*end].interface()))).collect();
        let read = unread.into_iter().zip(switch.route(|route| route.links_of(&requests)));
        let read = read.map(|(at, host)| (at, host.map_err(Failure::from).and_then(|host| host.ok_or_else(vanished))));
        let stood =
            stood.into_iter().map(|(plan, end)| ((plan, end), plans[plan].ends[end].host.clone().ok_or_else(vanished)));
        let mut hosts: HashMap<At, Outcome<Link>> = read.chain(stood).collect();
        let wanted = |plan: usize| Shaping::of(&plans[plan].request.attrs);
        // What is new has nothing that slows it down.
        let is_to_do = |(plan, end): At| plans[plan].pairs[end] || wanted(plan) != Shaping::default();
        let to_do: Vec<(At, u32)> = hosts
            .iter()
            .filter_map(|(at, host)| Some((*at, host.as_ref().ok()?.index)).filter(|(at, _)| is_to_do(*at)))
            .collect();
        let each = to_do.iter().map(|((plan, _), index)| (*index, &plans[*plan].request.attrs));
        for (((plan, end), index), slowed) in to_do.iter().zip(shaping::slow_down_all(switch, each)) {
            match slowed {
                Ok(()) => self.news.settle_shaping((switch.cookie, *index), wanted(*plan)),
                Err(failure) => drop(hosts.insert((*plan, *end), Err(failure))),
            }
        }
        hosts
    }

    /// The ports of a link, provided that the switch has attached both.
    fn ports(&self, plan: &Plan<'_>) -> Outcome<[Port; 2]> {
        let client = self.client()?;
        let port = |end: usize| {
            let name = &plan.ends[end].port_name;
            let Some(port) = client.read(|db| Port::named(db, name.as_str(), self.controller)) else {
                return Err(Failure::new(ErrorKind::Conflict, "a port vanished while the link was being built"));
            };
            if let Some(error) = port.error {
                return Err(Failure::new(ErrorKind::Failed, format!("Open vSwitch cannot attach {name}: {error}")));
            }
            if port.number.is_none_or(|number| number <= 0) {
                let datapath = if self.userspace { "netdev" } else { "system" };
                let message = format!(
                    "Open vSwitch committed the port {name} but did not attach it; most likely the `{datapath}` datapath of \
                     the bridge {} cannot be had here: see the log of ovs-vswitchd, or set another `datapath`",
                    plan.bridge
                );
                return Err(Failure::new(ErrorKind::Failed, message));
            }
            Ok(port)
        };
        Ok([port(0)?, port(1)?])
    }

    /// The identity of a link that has these interfaces.
    pub(crate) fn identity(
        &self,
        plan: &Plan<'_>,
        interfaces: [Option<Outcome<Interfaces>>; 2],
    ) -> Outcome<LinkIdentity> {
        let ports = self.ports(plan)?;
        let switch = &plan.switch;
        let mut detail = BTreeMap::from([(detail::BRIDGE.to_owned(), plan.bridge.to_string())]);
        let up = plan.request.attrs.admin == Admin::Up;
        let mut identities = Vec::new();
        for (index, ((end, port), interfaces)) in plan.ends.iter().zip(ports).zip(interfaces).enumerate() {
            let number = port.number.unwrap_or_default();
            let vlan = port.tag.and_then(|tag| tag.try_into().ok());
            let plugged = SwitchPort { bridge: plan.bridge.to_string(), port: port.name, vlan };
            if end.tunnel().is_some() {
                PortIdentity { ifindex: 0, uuid: port.uuid, number }.write(end.label.side, &mut detail);
                identities.push(tunnel::identity(switch, end.point, plugged));
                continue;
            }
            let (mut host, mut node) = interfaces.ok_or_else(vanished)??;
            PortIdentity { ifindex: host.index, uuid: port.uuid, number }.write(end.label.side, &mut detail);
            // What the kernel will announce of the end as it is left is no news.
            (host.admin_up, host.mtu) = (up, plan.request.attrs.mtu);
            let (ifindex, mac) = match &mut node {
                Some(node) => {
                    node.admin_up = if plan.is_left_to_its_node(index) { node.admin_up } else { up };
                    (node.carrier, host.carrier) = (up && node.admin_up, up && node.admin_up);
                    self.news.settle(plan.request.link, (end.place.cookie, node.index), node);
                    (node.index, end.point.mac)
                }
                // A tap has carrier as long as a machine has it open.
                None => (host.index, host.mac.unwrap_or(end.point.mac)),
            };
            self.news.settle(plan.request.link, (switch.cookie, host.index), &host);
            let (point, namespace) = (end.point.clone(), end.place.cookie);
            identities.push(EndIdentity { point, namespace, ifindex, mac, plugged: Some(plugged) });
        }
        let b = identities.pop();
        let a = identities.pop().ok_or_else(vanished)?;
        let LinkRequest { link, incarnation, .. } = *plan.request;
        Ok(LinkIdentity { backend: crate::plugin_name(), link, incarnation, boot: self.boot, a, b, detail })
    }
}

impl Plan<'_> {
    /// The interface at an end whose one on the switch's side is `host`; none where that is the end.
    fn node(&self, index: usize, host: &Link) -> Outcome<Option<Link>> {
        let end = &self.ends[index];
        if end.is_tap() || self.stood_as_wanted(index) {
            return Ok(end.node.clone());
        }
        let node = end.place.link(Which::Name(&end.point.ifname))?.ok_or_else(vanished)?;
        if !are_peers(&end.place, &node, &self.switch, host)? {
            return Err(Failure::new(ErrorKind::Conflict, "an end was replaced while the link was being built"));
        }
        Ok(Some(node))
    }
}

fn vanished() -> Failure {
    Failure::new(ErrorKind::Conflict, "an end vanished while the link was being built")
}
