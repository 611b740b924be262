//! Tunnels between hosts.

use axum::extract::State;
use lifecycle_core::id::LinkId;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::policy::tunnel::{HostPair, UsedTunnel};
use lifecycle_engine::decide::World;

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::wire::{List, Tunnel, TunnelledLink};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<Tunnel>>, Problem> {
    let tunnels = api.controller.read(|world| {
        let used = world.tunnels();
        used.into_iter().map(|(pair, tunnel)| shown(world, &pair, &tunnel)).collect()
    });
    Ok(Json(List { items: tunnels.await? }))
}

fn shown(world: &World, pair: &HostPair, tunnel: &UsedTunnel) -> Tunnel {
    let links = tunnel.links.iter().filter_map(|id: &LinkId| world.links.get(id)).filter_map(link);
    Tunnel { hosts: pair.hosts().map(Clone::clone), state: tunnel.state, links: links.collect() }
}

fn link(link: &LinkRecord) -> Option<TunnelledLink> {
    let span = link.span.as_ref()?;
    Some(TunnelledLink {
        id: link.id,
        lab_id: link.lab,
        name: link.spec.to_string(),
        state: link.actual,
        vni: span.vni,
        mtu: link.attrs().mtu,
    })
}
