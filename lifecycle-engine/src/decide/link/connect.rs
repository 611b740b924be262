//! Plans how a link is built: by which backend, on which hosts, and where its ends attach.

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, PlaceKind, Tunnel};
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::{HostName, IfName, PluginName};
use lifecycle_core::plugin::network::LinkLab;
use lifecycle_core::plugin::provider::PortRequest;
use lifecycle_core::policy::backend::{BackendFacts, NoBackend, prefer_backend, select_backend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{self, OurName};
use lifecycle_core::topology::{Admin, Endpoint, OvsMode};

use super::super::effect::{Action, ConnectPlan, EndPlan};
use super::super::host::HostState;
use super::super::{Cx, Why, World};
use super::{LinkPhase, Wish, begin, is_lost, refresh_oper, remove, span, to_pending};

/// Why a link is not built.
pub(super) enum Obstacle {
    /// Nothing but time: something has to be read first, and the link is looked at again when it is known.
    NotYet,
    /// It cannot be built between its ends as they are, for this reason.
    For(String),
}

impl Obstacle {
    /// Something that it needs is no longer known.
    pub(super) fn gone() -> Self {
        Self::For("what it needs is gone".to_owned())
    }
}

impl<T: Into<String>> From<T> for Obstacle {
    fn from(reason: T) -> Self {
        Self::For(reason.into())
    }
}

/// Asks for a link to be built.
pub(super) fn connect(cx: &mut Cx<'_>, id: LinkId) {
    let halves = match plan(cx, id) {
        Ok(halves) => halves,
        Err(Obstacle::NotYet) => return refresh_oper(cx, id, None),
        // What an attempt may have left belongs to nobody from now on, and is collected.
        Err(Obstacle::For(_)) if cx.world.links.get(&id).is_some_and(|link| link.deleting) => {
            return remove::forget(cx, id);
        }
        Err(Obstacle::For(reason)) => return cannot_be(cx, id, &reason),
    };
    if cx.world.links.get(&id).is_some_and(|link| link.hosts().any(|host| is_lost(cx.world, host, &link.backend))) {
        return refresh_oper(cx, id, None);
    }
    to_pending(cx, id, "its ends can be attached to");
    cx.change_link(id, |link| {
        let attrs = link.attrs();
        // From now on it may be there, with these attributes.
        link.applied = Some(attrs);
        link.carrier = [Some(attrs.admin == Admin::Up); 2];
    });
    cx.link_becomes(id, LinkState::Creating, Why::enforcement());
    begin(cx, id, LinkPhase::Connect, halves);
}

/// Records why a link cannot be built, or go on, between its ends as they are. It is looked at anew whenever one of them
/// changes, and no attempt is counted.
pub(super) fn cannot_be(cx: &mut Cx<'_>, id: LinkId, reason: &str) {
    let known =
        |link: &LinkRecord| link.actual == LinkState::Error && link.budget.last_error.as_deref() == Some(reason);
    if !cx.world.links.get(&id).is_some_and(known) {
        cx.change_link(id, |link| {
            link.budget.first_error.get_or_insert_with(|| reason.to_owned());
            link.budget.last_error = Some(reason.to_owned());
        });
        let state = cx.world.links.get(&id).map(|link| link.actual);
        if !matches!(state, Some(LinkState::Up | LinkState::Down)) {
            to_pending(cx, id, "its ends can be attached to");
        }
        cx.link_becomes(id, LinkState::Error, Why::enforcement().error(reason));
        for node in cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default().into_iter().flatten() {
            cx.world.touch_node(node);
        }
    }
    refresh_oper(cx, id, None);
}

/// Plans how a link is built: as a whole on one host, or as a half on each of two. Records where, so that it is looked at
/// again when its backend there can be reached.
fn plan(cx: &mut Cx<'_>, id: LinkId) -> Result<Vec<(HostName, Action)>, Obstacle> {
    let link = cx.world.links.get(&id).ok_or_else(Obstacle::gone)?;
    let [near, far] = hosts(cx.world, link)?;
    let backend = chosen(cx.world, link, Wish::of(cx.world, link))?;
    let (backend, span, path_mtu) = if near == far {
        let path_mtu = match foreign_tunnel(link)? {
            Some(tunnel) => Some(span::foreign_mtu(cx.world, id, &near, &backend, &tunnel)?),
            None => None,
        };
        span::release(cx, id);
        (backend, None, path_mtu)
    } else {
        let (span, path_mtu) = span::prepare(cx, id, [&near, &far], &backend)?;
        (backend, Some(span), Some(path_mtu))
    };
    cx.change_link(id, |link| {
        let other_backend = std::mem::replace(&mut link.backend, backend.clone()) != backend;
        (link.host, link.span, link.path_mtu) = (Some(near.clone()), span, path_mtu);
        link.next_backend = None;
        let stands_otherwise = link.applied.is_some_and(|applied| applied != link.attrs() || other_backend);
        if stands_otherwise || other_backend && link.has_parked() {
            // It may have been built with other attributes or by another backend, and a link that is there is taken as it
            // is.
            link.incarnation += 1;
        }
    });

    let link = cx.world.links.get(&id).ok_or_else(Obstacle::gone)?;
    halves(cx.world, link, [near, far])
}

/// What is asked for to build a link again as it was planned; nothing where it would be planned otherwise now.
pub(super) fn plan_again(world: &World, link: &LinkRecord) -> Option<Vec<(HostName, Action)>> {
    let backend = chosen(world, link, Wish::of(world, link)).ok()?;
    let hosts = planned_hosts(world, link)?;
    if backend == link.backend { halves(world, link, hosts).ok() } else { None }
}

/// The hosts of a link that stands, as long as its nodes are where it was planned.
fn planned_hosts(world: &World, link: &LinkRecord) -> Option<[HostName; 2]> {
    let [near, far] = hosts(world, link).ok()?;
    let planned = [link.host.as_ref()?, link.span.as_ref().map_or(&near, |span| &span.host)];
    (planned == [&near, &far]).then_some([near, far])
}

/// What is asked for to build a link under its present mark by another backend than the one that built it.
pub(super) fn plan_elsewhere(world: &World, link: &LinkRecord) -> Option<Vec<(HostName, Action)>> {
    halves(world, link, planned_hosts(world, link)?).ok()
}

/// The backend that would build a link now, by a wish.
pub(super) fn chosen(world: &World, link: &LinkRecord, wish: Wish<'_>) -> Result<PluginName, Obstacle> {
    let ([near, far], places) = (hosts(world, link)?, places(world, link)?);
    if near == far {
        return choose(world, &near, places, wish);
    }
    let backend = choose(world, &near, [places[0], PlaceKind::Tunnel], wish)?;
    can_take(world, &far, &backend, [PlaceKind::Tunnel, places[1]])?;
    Ok(backend)
}

/// The kinds of places that both sides of a link attach to.
pub(super) fn places(world: &World, link: &LinkRecord) -> Result<[PlaceKind; 2], Obstacle> {
    Ok([place(world, link, Side::A)?, place(world, link, Side::B)?])
}

/// What is asked for to build a link as it is recorded: how, and on which hosts.
fn halves(world: &World, link: &LinkRecord, [near, far]: [HostName; 2]) -> Result<Vec<(HostName, Action)>, Obstacle> {
    let [a, b] = [end(world, link, Side::A)?, end(world, link, Side::B)?];
    let half = |ends| Action::Connect(Box::new(connect_plan(world, link, ends)));
    if link.span.is_none() {
        return Ok(vec![(near, half([a, b]))]);
    }
    let [to_far, to_near] = [span::end(world, link, Side::A), span::end(world, link, Side::B)];
    let (to_far, to_near) = to_far.zip(to_near).ok_or_else(Obstacle::gone)?;
    Ok(vec![(near, half([a, to_far])), (far, half([to_near, b]))])
}

fn connect_plan(world: &World, link: &LinkRecord, ends: [EndPlan; 2]) -> ConnectPlan {
    let settings = world.labs.get(&link.lab).map(|lab| &lab.topology.settings);
    let own_switch = settings.is_some_and(|settings| settings.ovs_mode == Some(OvsMode::Dedicated));
    let lab = LinkLab { id: link.lab, own_switch };
    ConnectPlan { lab, link: link.id, incarnation: link.incarnation, ends, attrs: link.attrs() }
}

/// The backend that builds a link, or its half on a host, between two kinds of places.
fn choose(world: &World, host: &HostName, places: [PlaceKind; 2], wish: Wish<'_>) -> Result<PluginName, Obstacle> {
    let state = world.hosts.get(host).ok_or_else(|| format!("host {host} is not known"))?;
    let backends = facts(state);
    let [a, b] = places;
    let chosen = match wish {
        Wish::Binding(wanted) => select_backend(a, b, &backends, Some(wanted)),
        Wish::Preferred(preferred) => prefer_backend(a, b, &backends, preferred),
    };
    Ok(chosen.map_err(|error| why_none(&error, state, places))?.clone())
}

/// Whether a backend can build the other half of a link on another host.
fn can_take(world: &World, host: &HostName, backend: &PluginName, places: [PlaceKind; 2]) -> Result<(), Obstacle> {
    let state = world.hosts.get(host).ok_or_else(|| format!("host {host} is not known"))?;
    let [a, b] = places;
    let able = select_backend(a, b, &facts(state), Some(backend));
    able.map(drop).map_err(|error| format!("on host {host}, {}", why_none(&error, state, places)).into())
}

fn facts(state: &HostState) -> Vec<BackendFacts<'_>> {
    let backends = state.backends.iter();
    let facts = backends.map(|(name, backend)| BackendFacts {
        name,
        pairs: &backend.capabilities.pairs,
        switched: backend.capabilities.switched,
    });
    facts.collect()
}

/// Why no backend can join two places, with what the backends say of what they lack on this machine.
fn why_none(error: &NoBackend, state: &HostState, places: [PlaceKind; 2]) -> String {
    let mut text = error.to_string();
    for (name, backend) in &state.backends {
        for lacking in [places[0].to_string(), places[1].to_string(), "root".to_owned()] {
            if let Some(reason) = backend.capabilities.missing.get(&lacking) {
                text.push_str(&format!("; {name} has no {lacking} here: {reason}"));
            }
        }
    }
    text
}

/// The hosts of the ends of a link. An end that is not at a node is on the host of the other.
fn hosts(world: &World, link: &LinkRecord) -> Result<[HostName; 2], Obstacle> {
    let at = |node: Option<_>| node.and_then(|node| world.nodes.get(&node)?.host.clone());
    let [a, b] = link.nodes.map(at);
    let a = a.or_else(|| b.clone()).ok_or("neither end of the link is at a node that is placed")?;
    Ok([a.clone(), b.unwrap_or(a)])
}

/// The kind of place at which a side of a link attaches.
fn place(world: &World, link: &LinkRecord, side: Side) -> Result<PlaceKind, Obstacle> {
    Ok(match link.spec.ends()[side.index()] {
        Endpoint::Node(_) => {
            let node = link.nodes[side.index()].and_then(|id| world.nodes.get(&id)).ok_or("its node is gone")?;
            let host = node.host.as_ref().ok_or("its node has no host")?;
            let provider = world.provider(host, &node.provider).ok_or("its node's provider is not known")?;
            provider.capabilities.place
        }
        Endpoint::Host { .. } => PlaceKind::HostNet,
        Endpoint::Management { .. } => PlaceKind::Bridge,
        Endpoint::Macvlan { .. } => PlaceKind::Macvlan,
        Endpoint::Dummy => PlaceKind::Dummy,
        Endpoint::Vxlan { .. } => PlaceKind::Tunnel,
    })
}

/// The address of the interface at a side of a link: what stands there keeps the one that it has.
fn mac(link: &LinkRecord, side: Side) -> Mac {
    let built = span::half(link, side).map(|(_, half)| half).filter(|half| half.incarnation == link.incarnation);
    let stands = built.and_then(|half| half.end(side)).or_else(|| Some(&link.parked(side)?.end));
    stands.map_or_else(|| naming::mac(link.id, link.incarnation, side), |end| end.point.mac)
}

/// Where a side of a link attaches, in full.
fn end(world: &World, link: &LinkRecord, side: Side) -> Result<EndPlan, Obstacle> {
    let (endpoint, other) = match side {
        Side::A => (&link.spec.a, &link.spec.b),
        Side::B => (&link.spec.b, &link.spec.a),
    };
    let mac = mac(link, side);
    let mtu = link.attrs().mtu;
    let place = |ifname: &IfName, place: AttachKind| {
        let point = AttachPoint { node: None, incarnation: 0, ifname: ifname.clone(), mac, mtu, place };
        Ok(EndPlan::Place(point))
    };
    match endpoint {
        Endpoint::Node(end) => {
            let node = link.nodes[side.index()].and_then(|id| world.nodes.get(&id)).ok_or("its node is gone")?;
            let instance = node.instance.as_ref().ok_or("its node is not deployed")?.reference.clone();
            let port = PortRequest { ifname: end.ifname.clone(), mac: end.mac.unwrap_or(mac), mtu };
            Ok(EndPlan::Port { provider: node.provider.clone(), instance, port })
        }
        Endpoint::Host { interface } => place(interface, AttachKind::HostNet),
        Endpoint::Management { interface } => {
            let lab = world.labs.get(&link.lab).ok_or("its lab is gone")?;
            let network = lab.topology.management.as_ref().ok_or("its lab has no management network")?;
            let bridge = network.bridge.clone().unwrap_or_else(|| OurName::management_bridge(&network.name).ifname());
            place(interface, AttachKind::Bridge { bridge })
        }
        Endpoint::Macvlan { parent, mode } => {
            place(parent, AttachKind::Macvlan { parent: parent.clone(), mode: *mode })
        }
        Endpoint::Dummy => match other.as_node() {
            Some(end) => place(&end.ifname, AttachKind::Dummy),
            None => Err("a dummy needs a node at its other end".into()),
        },
        Endpoint::Vxlan { .. } => {
            let tunnel = foreign_tunnel(link)?.ok_or_else(Obstacle::gone)?;
            Ok(span::tunnel_end(link, side, tunnel))
        }
    }
}

/// The tunnel of a link that leads to a place that is not ours.
fn foreign_tunnel(link: &LinkRecord) -> Result<Option<Tunnel>, Obstacle> {
    let Some(Endpoint::Vxlan { remote, vni, port, source_port, parent, .. }) =
        link.spec.ends().into_iter().find(|end| matches!(end, Endpoint::Vxlan { .. }))
    else {
        return Ok(None);
    };
    let remote = remote.parse().map_err(|_| format!("the far end of its tunnel, {remote}, is no address"))?;
    let (vni, port, source_port) = (*vni, *port, *source_port);
    Ok(Some(Tunnel { vni, remote, local: None, port, source_port, parent: parent.clone() }))
}
