//! Commands inside nodes.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::ExecRequest;
use lifecycle_engine::drive::NodeHandle;

use super::Api;
use super::extract::{Json, Path};
use super::labs::no_node;
use super::problem::Problem;
use super::wire::{Bytes, ExecCommand, ExecResult};

pub(super) async fn exec(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
    Json(command): Json<ExecCommand>,
) -> Result<Json<ExecResult>, Problem> {
    if command.argv.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "`argv` names no program"));
    }
    let handle = handle(&api, &lab, &node).await?;
    let exec = handle.provider.exec().ok_or_else(|| cannot("run commands in nodes"))?;
    let ExecCommand { argv, env, user, timeout_ms } = command;
    let program = argv.first().cloned().unwrap_or_default();
    let request = ExecRequest { argv, env, user, timeout: timeout_ms.map(Duration::from_millis) };
    let output = exec.exec(&handle.instance, &request).await.map_err(|error| failed(&error, &program))?;
    Ok(Json(ExecResult {
        exit: output.exit.into(),
        stdout: Bytes(output.stdout),
        stderr: Bytes(output.stderr),
        truncated: output.truncated,
    }))
}

/// The instance of a node, for those who work with it directly.
pub(super) async fn handle(api: &Api, lab: &LabName, node: &NodeName) -> Result<NodeHandle, Problem> {
    match api.controller.handle(lab, node).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(no_node(api, lab, node).await),
        found => Ok(found?),
    }
}

/// The provider of a node lacks a face.
pub(super) fn cannot(what: &str) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, "unsupported", format!("the provider of this node cannot {what}"))
}

/// A program that is not found is told from a node that is not.
fn failed(error: &Error, program: &str) -> Problem {
    if error.kind() == ErrorKind::NotFound {
        let detail = format!("the node has no program `{program}`");
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_such_program", detail);
    }
    error.clone().into()
}
