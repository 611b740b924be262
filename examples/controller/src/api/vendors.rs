//! The kinds of nodes that lab files can name.

use axum::extract::State;
use lifecycle_core::plugin::vendor::KindData;

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::wire::List;

/// All kinds, each with everything that its vendor says about it, in the form of vendor files.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<KindData>>, Problem> {
    let items = api.controller.read(|world| world.kinds.all().cloned().collect()).await?;
    Ok(Json(List { items }))
}
