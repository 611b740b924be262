//! Jobs: listed and called off.

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use lifecycle_core::id::JobId;
use lifecycle_core::model::JobView;
use lifecycle_engine::Command;

use super::extract::{Json, Path};
use super::labs::take;
use super::problem::Problem;
use super::wire::{Accepted, Job, List};
use super::{Api, Peer};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<Job>>, Problem> {
    let jobs: Vec<JobView> = api.controller.read(|world| world.jobs.values().map(JobView::new).collect()).await?;
    Ok(Json(List { items: jobs.into_iter().map(Into::into).collect() }))
}

pub(super) async fn get(State(api): State<Api>, Path(job): Path<JobId>) -> Result<Json<Job>, Problem> {
    let found = api.controller.read(move |world| world.jobs.get(&job).map(JobView::new)).await?;
    found.map(|view| Json(view.into())).ok_or_else(|| Problem::not_found("job", job))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(job): Path<JobId>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    take(api.controller.command(&peer.user, Command::CancelJob { job }).await?)
}
