//! What nodes print, line by line.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use lifecycle_core::error::Error;
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::{LogChunk, LogRequest};
use serde::Deserialize;

use super::Api;
use super::exec::{cannot, handle};
use super::extract::{Path, Query};
use super::problem::Problem;
use super::wire::{Bytes, LogLine};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogQuery {
    tail: Option<usize>,
    follow: bool,
}

/// One JSON object per line; a failure on the way is the last line, a problem.
pub(super) async fn logs(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Problem> {
    let handle = handle(&api, &lab, &node).await?;
    let logs = handle.provider.logs().ok_or_else(|| cannot("read what nodes print"))?;
    let request = LogRequest { tail: query.tail, follow: query.follow };
    let lines = logs.logs(&handle.instance, &request).await?;
    let body = Body::from_stream(lines.map(line));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

fn line(chunk: Result<LogChunk, Error>) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = match chunk {
        Ok(LogChunk { at, stderr, line }) => serde_json::to_vec(&LogLine { at, stderr, line: Bytes(line) })?,
        Err(error) => serde_json::to_vec(&Problem::from(error))?,
    };
    text.push(b'\n');
    Ok(text)
}
