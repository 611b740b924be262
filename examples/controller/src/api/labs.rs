//! Labs: listed, applied, removed.

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use lifecycle_core::name::LabName;
use lifecycle_core::topology::Topology;
use lifecycle_engine::{Command, Reply};
use lifecycle_topology::check_deployment;
use serde::Deserialize;

use super::extract::{Json, Path, Query};
use super::problem::Problem;
use super::wire::{Accepted, Applied, Lab, LabSnapshot, List};
use super::{Api, Peer};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<Lab>>, Problem> {
    let mut labs = api.controller.labs().await?;
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(List { items: labs.into_iter().map(Into::into).collect() }))
}

pub(super) async fn get(State(api): State<Api>, Path(lab): Path<LabName>) -> Result<Json<LabSnapshot>, Problem> {
    snapshot(&api, &lab).await.map(Json)
}

/// A lab with all that is in it.
pub(super) async fn snapshot(api: &Api, lab: &LabName) -> Result<LabSnapshot, Problem> {
    match api.controller.lab(lab).await? {
        Some(snapshot) => Ok(snapshot.into()),
        None => Err(no_lab(api, lab).await),
    }
}

/// The problem of a lab that does not exist, with those that do.
pub(super) async fn no_lab(api: &Api, lab: &LabName) -> Problem {
    let labs = api.controller.labs().await.unwrap_or_default();
    let known = labs.into_iter().take(20).map(|lab| lab.name.to_string()).collect();
    Problem::not_found("lab", lab).knowing(known)
}

/// The problem of a node that does not exist, with those that do, or of its lab.
pub(super) async fn no_node(api: &Api, lab: &LabName, node: &impl std::fmt::Display) -> Problem {
    match snapshot(api, lab).await {
        Ok(snapshot) => {
            let known = snapshot.nodes.into_iter().take(20).map(|node| node.node_name.to_string()).collect();
            Problem::not_found("node", node).knowing(known)
        }
        Err(problem) => problem,
    }
}

pub(super) async fn topology(State(api): State<Api>, Path(lab): Path<LabName>) -> Result<Json<Topology>, Problem> {
    match api.controller.topology(&lab).await? {
        Some(topology) => Ok(Json(topology.redacted())),
        None => Err(no_lab(&api, &lab).await),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApplyQuery {
    dry_run: bool,
}

pub(super) async fn apply(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
    Query(query): Query<ApplyQuery>,
    Json(topology): Json<Topology>,
) -> Result<(StatusCode, Json<Applied>), Problem> {
    if topology.name != lab {
        let detail = format!("the topology is called `{}`, the address says `{lab}`", topology.name);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    check(&api, &topology).await?;
    let command = Command::Apply { topology: Box::new(topology), dry_run: query.dry_run };
    let Reply::Applied { lab, job, plan } = api.controller.command(&peer.user, command).await? else {
        return Err(unexpected());
    };
    Ok((accepted(job.is_some()), Json(Applied { lab_id: lab, job_id: job, plan })))
}

/// Checks what the topology asks of this machine; it may have been made by any program.
async fn check(api: &Api, topology: &Topology) -> Result<(), Problem> {
    let (topology, permissions) = (topology.clone(), api.permissions.clone());
    let look = move || check_deployment(&topology, &permissions, &|path| std::fs::canonicalize(path));
    let refusals = tokio::task::spawn_blocking(look).await;
    let refusals = refusals.map_err(|_| unexpected())?;
    if refusals.is_empty() {
        return Ok(());
    }
    Err(Problem::invalid(refusals.iter().map(ToString::to_string).collect()))
}

pub(super) async fn destroy(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    take(api.controller.command(&peer.user, Command::Destroy { lab }).await?)
}

/// The answer to a command whose intent was recorded.
pub(super) fn take(reply: Reply) -> Result<(StatusCode, Json<Accepted>), Problem> {
    match reply {
        Reply::Accepted { job, changed } => Ok((accepted(changed), Json(Accepted { job_id: job, changed }))),
        _ => Err(unexpected()),
    }
}

/// The status of a command that leaves something to do, or nothing.
pub(super) fn accepted(more: bool) -> StatusCode {
    if more { StatusCode::ACCEPTED } else { StatusCode::OK }
}

/// The engine answered something else than what was asked, or a task of ours broke off.
pub(super) fn unexpected() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the controller's answer makes no sense; see its log")
}
