//! Whether the controller lives and works, and which one it is.

use axum::extract::State;
use axum::http::StatusCode;
use lifecycle_engine::drive::Status;

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::wire::About;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The controller can take commands.
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    let unready = |code: &str, detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    match api.controller.status() {
        Status::Running => Ok("ok\n"),
        Status::StoreFailing(why) => Err(unready("store_failing", &why)),
        Status::Stopped => Err(unready("closing", "the controller has ended")),
        Status::Fenced => Err(unready("fenced", "a newer controller has taken over")),
    }
}

pub(super) async fn about(State(api): State<Api>) -> Result<Json<About>, Problem> {
    let controller = api.controller.read(|world| world.controller()).await?;
    Ok(Json(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        controller,
        epoch: api.controller.epoch(),
        pid: std::process::id(),
    }))
}
