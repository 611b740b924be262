//! Plans how a link is built: by which backend, and where its ends attach.

use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::{HostName, IfName, PluginName};
use lifecycle_core::plugin::network::LinkLab;
use lifecycle_core::plugin::provider::PortRequest;
use lifecycle_core::policy::backend::{BackendFacts, NoBackend, select_backend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{self, OurName};
use lifecycle_core::topology::{Admin, Endpoint, OvsMode};

use super::super::effect::{Action, ConnectPlan, EndPlan};
use super::super::host::HostState;
use super::super::{Cx, Why, World};
use super::{LinkPhase, begin, is_lost, refresh_oper, remove, to_pending};

/// Asks for a link to be built.
pub(super) fn connect(cx: &mut Cx<'_>, id: LinkId) {
    let other = |link: &LinkRecord| link.applied.is_some_and(|applied| applied != link.spec.attrs);
    if cx.world.links.get(&id).is_some_and(other) {
        // It may have been built with other attributes, and a link that is there is taken as it is.
        cx.change_link(id, |link| link.incarnation += 1);
    }
    let Some(link) = cx.world.links.get(&id) else { return };
    let planned = plan(cx.world, link);
    let (host, backend, plan) = match planned {
        Ok(planned) => planned,
        // Where it might have been there is no place for it any more.
        Err(_) if link.deleting => return remove::forget(cx, id),
        Err(reason) => return cannot_be(cx, id, &reason),
    };
    if is_lost(cx.world, &host, &backend) {
        // Its backend is recorded, so that the link is looked at when it can be reached.
        cx.change_link(id, |link| (link.host, link.backend) = (Some(host), backend));
        return refresh_oper(cx, id, None);
    }
    to_pending(cx, id, "its ends can be attached to");
    cx.change_link(id, |link| {
        link.backend = backend.clone();
        link.host = Some(host.clone());
        // From now on it may be there, with these attributes.
        link.applied = Some(plan.attrs);
        link.carrier = [Some(plan.attrs.admin == Admin::Up); 2];
    });
    cx.link_becomes(id, LinkState::Creating, Why::enforcement());
    begin(cx, id, LinkPhase::Connect, host, backend, Action::Connect(Box::new(plan)));
}

/// A link that cannot be built between its ends as they are. Whenever one of them changes it is planned anew, which costs
/// nothing.
fn cannot_be(cx: &mut Cx<'_>, id: LinkId, reason: &str) {
    let known =
        |link: &LinkRecord| link.actual == LinkState::Error && link.budget.last_error.as_deref() == Some(reason);
    if !cx.world.links.get(&id).is_some_and(known) {
        cx.change_link(id, |link| {
            link.budget.first_error.get_or_insert_with(|| reason.to_owned());
            link.budget.last_error = Some(reason.to_owned());
        });
        to_pending(cx, id, "its ends can be attached to");
        cx.link_becomes(id, LinkState::Error, Why::enforcement().error(reason));
        for node in cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default().into_iter().flatten() {
            cx.world.touch_node(node);
        }
    }
    refresh_oper(cx, id, None);
}

pub(super) fn plan(world: &World, link: &LinkRecord) -> Result<(HostName, PluginName, ConnectPlan), String> {
    let host = host(world, link)?;
    let state = world.hosts.get(&host).ok_or_else(|| format!("host {host} is not known"))?;
    let (plan_a, place_a) = end(world, link, Side::A)?;
    let (plan_b, place_b) = end(world, link, Side::B)?;
    let backends: Vec<BackendFacts<'_>> = state
        .backends
        .iter()
        .map(|(name, backend)| BackendFacts {
            name,
            pairs: &backend.capabilities.pairs,
            switched: backend.capabilities.switched,
        })
        .collect();
    let settings = world.labs.get(&link.lab).map(|lab| &lab.topology.settings);
    let wanted = link.spec.backend.as_ref();
    // A lab's choice is a preference: ends that it cannot serve are left to a backend that can. What serves nothing at all
    // here was chosen in vain, and its user has to know.
    let preferred = settings.and_then(|settings| settings.backend.as_ref()).unwrap_or(&world.settings.backend);
    let in_vain = backends.iter().any(|backend| backend.name == preferred && backend.pairs.is_empty());
    let chosen = match wanted {
        Some(wanted) => select_backend(place_a, place_b, &backends, Some(wanted)),
        None => select_backend(place_a, place_b, &backends, Some(preferred))
            .or_else(|error| if in_vain { Err(error) } else { select_backend(place_a, place_b, &backends, None) }),
    };
    let backend = chosen.map_err(|error| why_none(&error, state, [place_a, place_b]))?.clone();
    let own_switch = settings.is_some_and(|settings| settings.ovs_mode == Some(OvsMode::Dedicated));
    let plan = ConnectPlan {
        lab: LinkLab { id: link.lab, own_switch },
        link: link.id,
        incarnation: link.incarnation,
        ends: [plan_a, plan_b],
        attrs: link.spec.attrs,
    };
    Ok((host, backend, plan))
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

/// The host on which a link is built: that of its nodes.
fn host(world: &World, link: &LinkRecord) -> Result<HostName, String> {
    let mut hosts = link.nodes.iter().flatten().filter_map(|node| world.nodes.get(node)?.host.clone());
    let first = hosts.next().ok_or("neither end of the link is at a node that is placed")?;
    match hosts.next() {
        Some(second) if second != first => {
            Err(format!("the nodes are on {first} and {second}, and no overlay joins these hosts"))
        }
        _ => Ok(first),
    }
}

fn end(world: &World, link: &LinkRecord, side: Side) -> Result<(EndPlan, PlaceKind), String> {
    let (endpoint, other) = match side {
        Side::A => (&link.spec.a, &link.spec.b),
        Side::B => (&link.spec.b, &link.spec.a),
    };
    let mac = naming::mac(link.id, link.incarnation, side);
    let mtu = link.spec.attrs.mtu;
    let place = |ifname: &IfName, place: AttachKind| {
        let kind = place.name();
        let point = AttachPoint { node: None, incarnation: 0, ifname: ifname.clone(), mac, mtu, place };
        Ok((EndPlan::Place(point), kind))
    };
    match endpoint {
        Endpoint::Node(end) => {
            let node = link.nodes[side.index()].and_then(|id| world.nodes.get(&id)).ok_or("its node is gone")?;
            let instance = node.instance.as_ref().ok_or("its node is not deployed")?;
            let host = node.host.as_ref().and_then(|host| world.hosts.get(host)).ok_or("its node has no host")?;
            let provider = host.providers.get(&node.provider).ok_or("its node's provider is not known")?;
            let port = PortRequest { ifname: end.ifname.clone(), mac: end.mac.unwrap_or(mac), mtu };
            let (provider_name, instance) = (node.provider.clone(), instance.reference.clone());
            let plan = EndPlan::Port { provider: provider_name, instance, port };
            Ok((plan, provider.capabilities.place))
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
            None => Err("a dummy needs a node at its other end".to_owned()),
        },
        Endpoint::Vxlan { .. } => Err("links to VXLAN tunnels are not supported by any network backend".to_owned()),
    }
}
