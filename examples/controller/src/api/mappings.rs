//! Where the interfaces of nodes are plugged in.

use axum::extract::{ConnectInfo, State};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_engine::decide::World;
use serde::Deserialize;

use super::extract::{Json, Path, Query};
use super::labs::{no_lab, no_node};
use super::problem::Problem;
use super::wire::{InterfaceMapping, List, Synced};
use super::{Api, Peer, links};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only what is plugged into ports of this name.
    port: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Path(lab): Path<LabName>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<InterfaceMapping>>, Problem> {
    let mut items = read(&api, &lab).await?;
    items.retain(|item| query.port.is_none() || item.port == query.port);
    Ok(Json(List { items }))
}

pub(super) async fn of_node(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
) -> Result<Json<List<InterfaceMapping>>, Problem> {
    let (of, name) = (lab.clone(), node.clone());
    let read = move |world: &World| {
        let lab = world.lab_by_name(&of)?.id;
        let node = world.node_by_name(lab, &name)?.id;
        Some(world.mappings(lab).into_iter().filter(|item| item.node_id == node).map(Into::into).collect())
    };
    match api.controller.read(read).await? {
        Some(items) => Ok(Json(List { items })),
        None => Err(no_node(&api, &lab, &node).await),
    }
}

/// Checks every link of a lab, waits as long as that takes, and tells where everything is plugged in then.
pub(super) async fn sync(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
) -> Result<Json<Synced>, Problem> {
    let links = links::check(&api, &peer.user, &lab).await?;
    let items = read(&api, &lab).await?;
    Ok(Json(Synced { count: items.len(), links, items }))
}

async fn read(api: &Api, lab: &LabName) -> Result<Vec<InterfaceMapping>, Problem> {
    let name = lab.clone();
    let read = move |world: &World| {
        let lab = world.lab_by_name(&name)?.id;
        Some(world.mappings(lab).into_iter().map(Into::into).collect())
    };
    match api.controller.read(read).await? {
        Some(items) => Ok(items),
        None => Err(no_lab(api, lab).await),
    }
}
