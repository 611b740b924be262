//! Links between two hosts: a half on each, from its node to a tunnel that carries this link and no other.
//!
//! Both halves are built, read back and removed together: what is asked of one is asked of the other once it has answered,
//! and only the answer of both is an answer about the link.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lifecycle_core::attach::{AttachKind, AttachPoint, Tunnel};
use lifecycle_core::id::LinkId;
use lifecycle_core::model::{LinkRecord, Span};
use lifecycle_core::name::{HostName, IfName, PluginName};
use lifecycle_core::plugin::network::{EndReport, LinkIdentity, LinkReport, ProbeResult};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming;
use lifecycle_core::policy::segment::{SegmentKind, SegmentPool, allocate_shared};
use lifecycle_core::policy::tunnel;

use super::super::effect::EndPlan;
use super::super::planted::Bug;
use super::super::{Cx, Ledger, World};
use super::connect::Obstacle;

/// Finds an identifier for the tunnel of a link between two hosts, and the MTU that fits through it. An identifier that the
/// link has between these hosts already is kept.
pub(super) fn prepare(
    cx: &mut Cx<'_>,
    id: LinkId,
    hosts: [&HostName; 2],
    backend: &PluginName,
) -> Result<(Span, u32), Obstacle> {
    let (near, far) = (address(cx.world, hosts[0], backend, id)?, address(cx.world, hosts[1], backend, id)?);
    let Some(link) = cx.world.links.get(&id) else { return Err(Obstacle::gone()) };
    let mtu = fits(link, path_mtu(near.1.min(far.1), far.0))?;
    let held = link.span.as_ref().filter(|span| link.host.as_ref() == Some(hosts[0]) && span.host == *hosts[1]);
    if let Some(span) = held {
        return Ok((span.clone(), mtu));
    }
    release(&mut cx.ledger, id);
    let vni = allocate(cx.world, hosts)?;
    Ok((Span { host: hosts[1].clone(), vni, identity: None }, mtu))
}

/// The MTU that fits through a tunnel that is not ours at its far end.
pub(super) fn foreign_mtu(
    world: &mut World,
    id: LinkId,
    host: &HostName,
    backend: &PluginName,
    to: &Tunnel,
) -> Result<u32, Obstacle> {
    let packet = underlay(world, host, backend, id)?.mtu;
    let Some(link) = world.links.get(&id) else { return Err(Obstacle::gone()) };
    fits(link, path_mtu(packet, to.remote))
}

/// The MTU that fits through a tunnel to `remote`, where the underlay takes packets of `packet` bytes. A host that does not
/// know its own address, nor what it carries, may reach the far end all the same.
fn path_mtu(packet: u32, remote: IpAddr) -> u32 {
    if packet == 0 { u32::MAX } else { packet.saturating_sub(tunnel::overhead(remote)) }
}

/// The MTU of a path, unless the link's user wants a larger one.
fn fits(link: &LinkRecord, path: u32) -> Result<u32, Obstacle> {
    let wanted = link.spec.explicit_mtu.then_some(link.spec.attrs.mtu);
    tunnel::mtu(wanted, path).map_err(|error| Obstacle::For(error.to_string()))?;
    Ok(path)
}

/// The MTU that fits through the tunnel of a link that stands, by what is known of its hosts now.
fn path_now(world: &World, link: &LinkRecord) -> Option<u32> {
    let remote = link.identity.as_ref()?.tunnel()?.remote;
    let packet = |host: &HostName| Some(world.backend(host, &link.backend)?.underlay.as_ref()?.as_ref().ok()?.mtu);
    let packets: Option<Vec<u32>> = link.hosts().map(packet).collect();
    Some(path_mtu(packets?.into_iter().min()?, remote))
}

/// Takes in what the path of a link that stands carries by now. False when its user wants a larger MTU: then the link is in
/// error and says so, until either changes; as long, its ends are kept as the path allows.
pub(super) fn follow_path(cx: &mut Cx<'_>, id: LinkId) -> bool {
    let Some(link) = cx.world.links.get(&id).filter(|link| link.path_mtu.is_some()) else { return true };
    let followed = !cx.world.has_bug(Bug::KeepsAnOldMtu);
    if let Some(path) = path_now(cx.world, link).filter(|path| followed && link.path_mtu != Some(*path)) {
        cx.change_link(id, |link| link.path_mtu = Some(path));
    }
    let refused = cx.world.links.get(&id).and_then(|link| fits(link, link.path_mtu?).err());
    let Some(Obstacle::For(reason)) = refused else { return true };
    super::doubt_proof(cx.world, id);
    super::connect::cannot_be(cx, id, &reason);
    false
}

/// What the tunnels of a host go through. The link is noted as one that is to be told when that changes.
fn underlay<'a>(
    world: &'a mut World,
    host: &HostName,
    backend: &PluginName,
    link: LinkId,
) -> Result<&'a Underlay, Obstacle> {
    let state = world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(backend)).ok_or_else(Obstacle::gone)?;
    state.tunnelled.insert(link);
    match &state.underlay {
        None => {
            // It is asked for at once, and the link is looked at again when it is known.
            if !state.unreachable {
                state.next_observation = None;
            }
            Err(Obstacle::NotYet)
        }
        Some(Err(reason)) => Err(Obstacle::For(format!("{backend} cannot make tunnels on {host}: {reason}"))),
        Some(Ok(underlay)) => Ok(underlay),
    }
}

/// The address at which tunnels reach a host, and the size of packets there.
fn address(world: &mut World, host: &HostName, backend: &PluginName, link: LinkId) -> Result<(IpAddr, u32), Obstacle> {
    let underlay = underlay(world, host, backend, link)?;
    let address = underlay.address.ok_or_else(|| {
        Obstacle::For(format!(
            "{backend} does not know at which address other hosts reach {host}; set `underlay` in its settings there"
        ))
    })?;
    Ok((address, underlay.mtu))
}

/// Takes an identifier that is free on both hosts.
fn allocate(world: &mut World, [a, b]: [&HostName; 2]) -> Result<u32, Obstacle> {
    let new = || SegmentPool::new(SegmentKind::Vni);
    let shares = world.has_bug(Bug::SharesATunnel);
    let mut first = world.vnis.remove(a).unwrap_or_else(new);
    let second = world.vnis.entry(b.clone()).or_insert_with(new);
    let number = if shares { Ok(1) } else { allocate_shared(&mut first, second) };
    world.vnis.insert(a.clone(), first);
    number.map_err(|error| Obstacle::For(error.to_string()))
}

/// Gives the identifier of a link's tunnel back, and forgets that the link is one between two hosts.
pub(super) fn release(ledger: &mut Ledger<'_>, id: LinkId) {
    let Some(link) = ledger.world.links.get(&id).filter(|link| link.span.is_some()) else { return };
    let (hosts, vni) = (link.hosts().cloned().collect::<Vec<_>>(), link.span.as_ref().map_or(0, |span| span.vni));
    for host in hosts {
        if let Some(pool) = ledger.world.vnis.get_mut(&host) {
            pool.free(vni);
        }
    }
    ledger.change_link(id, |link| link.span = None);
}

/// The end at the tunnel, of the half whose other end is this side of the link.
pub(super) fn end(world: &World, link: &LinkRecord, half: Side) -> Option<EndPlan> {
    Some(tunnel_end(link, half.other(), tunnel(world, link, half)?))
}

/// An end at a tunnel that stands in for a side of the link.
pub(super) fn tunnel_end(link: &LinkRecord, side: Side, tunnel: Tunnel) -> EndPlan {
    let mac = naming::mac(link.id, link.incarnation, side);
    let ifname = IfName::new(format!("vni{}", tunnel.vni)).unwrap_or_else(|_| unreachable!("at most 11 characters"));
    let place = AttachKind::Tunnel(tunnel);
    EndPlan::Place(AttachPoint { node: None, incarnation: 0, ifname, mac, mtu: link.attrs().mtu, place })
}

/// The tunnel of one half of a link, by what is known of its hosts now.
fn tunnel(world: &World, link: &LinkRecord, side: Side) -> Option<Tunnel> {
    let span = link.span.as_ref()?;
    let address = |host: &HostName| {
        let backend = world.backend(host, &link.backend)?;
        backend.underlay.as_ref()?.as_ref().ok()?.address
    };
    let (near, far) = (address(link.host.as_ref()?)?, address(&span.host)?);
    let (local, remote) = match side {
        Side::A => (near, far),
        Side::B => (far, near),
    };
    Some(Tunnel { vni: span.vni, remote, local: Some(local), port: Tunnel::PORT, source_port: None, parent: None })
}

/// A half whose tunnel leads elsewhere than it should, since the address of a host has changed, and where it should lead.
pub(super) fn astray(world: &World, link: &LinkRecord) -> Option<(Side, Tunnel)> {
    if world.has_bug(Bug::KeepsAnOldAddress) {
        return None;
    }
    [Side::A, Side::B].into_iter().find_map(|side| {
        let wanted = tunnel(world, link, side)?;
        let built = half(link, side)?.1.tunnel()?;
        (*built != wanted).then_some((side, wanted))
    })
}

/// Whether a tunnel would lead over the other version of IP than the one that a link was built with.
pub(super) fn is_of_another_family(link: &LinkRecord, to: &Tunnel) -> bool {
    let built = link.identity.as_ref().and_then(LinkIdentity::tunnel);
    built.is_some_and(|built| built.remote.is_ipv4() != to.remote.is_ipv4())
}

/// What was built that holds the end of a link at a side: the half there, or all of a link within a host.
pub(super) fn half(link: &LinkRecord, side: Side) -> Option<(&HostName, &LinkIdentity)> {
    match (side, &link.span) {
        (Side::B, Some(span)) => Some((&span.host, span.identity.as_ref()?)),
        _ => link.host.as_ref().zip(link.identity.as_ref()),
    }
}

/// Makes what was read of both halves one report about the link: the ends at its nodes, and all that is between them.
pub(super) fn join(near: LinkReport, far: LinkReport) -> LinkReport {
    // The ends at the tunnel count as what is between.
    let near_whole = near.joined && near.b.as_ref().is_some_and(|end| end.intact);
    let far_whole = far.joined && far.a.intact;
    let probe = match (near.probe, far.probe) {
        (failed @ ProbeResult::Failed { .. }, _) | (_, failed @ ProbeResult::Failed { .. }) => failed,
        (skipped @ ProbeResult::Skipped { .. }, _) | (_, skipped @ ProbeResult::Skipped { .. }) => skipped,
        (ProbeResult::Passed, ProbeResult::Passed) => ProbeResult::Passed,
        (ProbeResult::NotNeeded, _) | (_, ProbeResult::NotNeeded) => ProbeResult::NotNeeded,
    };
    let problems = near.problems.into_iter().chain(far.problems).collect();
    // A tunnel without a way to its far end keeps frames from both.
    let way = near.b.is_some_and(|end| end.carrier) && far.a.carrier;
    let over_it = |end: EndReport| EndReport { carrier: end.carrier && way, ..end };
    LinkReport { a: over_it(near.a), b: far.b.map(over_it), joined: near_whole && far_whole, probe, problems }
}

/// Takes in what the tunnels of a host go through now.
pub(in super::super) fn underlay_read(
    world: &mut World,
    host: &HostName,
    backend: &PluginName,
    read: Result<Underlay, String>,
) {
    let Some(state) = world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(backend)) else { return };
    let changed = state.underlay.as_ref().is_none_or(|known| match (known, &read) {
        (Ok(known), Ok(read)) => (known.address, known.mtu) != (read.address, read.mtu),
        (known, read) => known != read,
    });
    state.underlay = Some(read);
    let waiting = state.tunnelled.clone();
    // Backends of one host share its identifiers.
    let known = world.hosts.get(host).into_iter().flat_map(|host| host.backends.values());
    let carried: BTreeSet<u32> =
        known.filter_map(|it| it.underlay.as_ref()?.as_ref().ok()).flat_map(|it| it.vnis.iter().copied()).collect();
    let pool = world.vnis.entry(host.clone()).or_insert_with(|| SegmentPool::new(SegmentKind::Vni));
    pool.observe(carried);
    for id in waiting {
        if world.links.get(&id).is_none() {
            if let Some(state) = world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(backend)) {
                state.tunnelled.remove(&id);
            }
        } else if changed {
            world.touch_link(id);
        }
    }
}
