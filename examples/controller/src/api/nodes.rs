//! Nodes: listed, started, stopped, restarted.

use std::collections::BTreeMap;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use lifecycle_core::machine::NodeIntent;
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::policy::bulk::BulkAction;
use lifecycle_engine::{Command, NodeAction, Reply};

use super::extract::{Json, Path};
use super::labs::{accepted, no_node, snapshot, take, unexpected};
use super::problem::Problem;
use super::wire::{Accepted, BulkOutcome, DesiredState, List, Node, WantedState};
use super::{Api, Peer};

pub(super) async fn list(State(api): State<Api>, Path(lab): Path<LabName>) -> Result<Json<List<Node>>, Problem> {
    Ok(Json(List { items: snapshot(&api, &lab).await?.nodes }))
}

pub(super) async fn get(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
) -> Result<Json<Node>, Problem> {
    let found = snapshot(&api, &lab).await?.nodes.into_iter().find(|it| it.node_name == node);
    match found {
        Some(node) => Ok(Json(node)),
        None => Err(no_node(&api, &lab, &node).await),
    }
}

pub(super) async fn set_desired(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((lab, node)): Path<(LabName, NodeName)>,
    Json(desired): Json<DesiredState>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let action = match desired.state {
        NodeIntent::Running => NodeAction::Start,
        NodeIntent::Stopped => NodeAction::Stop { abort: desired.abort },
    };
    take(api.controller.node(&peer.user, lab, node, action).await?)
}

pub(super) async fn restart(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((lab, node)): Path<(LabName, NodeName)>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    take(api.controller.node(&peer.user, lab, node, NodeAction::Restart).await?)
}

pub(super) async fn set_desired_of_all(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
    Json(wanted): Json<WantedState>,
) -> Result<(StatusCode, Json<BulkOutcome>), Problem> {
    let action = match wanted.state {
        NodeIntent::Running => BulkAction::Start,
        NodeIntent::Stopped => BulkAction::Stop,
    };
    let reply = api.controller.command(&peer.user, Command::Bulk { lab, action }).await?;
    let Reply::Bulk { job, affected, skipped_transitional, already_in_state } = reply else {
        return Err(unexpected());
    };
    let outcome = BulkOutcome {
        job_id: job,
        affected: affected.len(),
        skipped_transitional: skipped_transitional.len(),
        already_in_state: already_in_state.len(),
        nodes: BTreeMap::from([
            ("affected".to_owned(), affected),
            ("skipped_transitional".to_owned(), skipped_transitional),
            ("already_in_state".to_owned(), already_in_state),
        ]),
    };
    Ok((accepted(job.is_some()), Json(outcome)))
}
