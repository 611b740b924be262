//! Consoles of nodes, by WebSocket: binary messages are what is typed and shown, text messages are control.

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::StreamExt;
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::{ConsoleRequest, ConsoleSession};
use lifecycle_core::plugin::vendor::ConsoleMethod;
use serde::Deserialize;

use super::Api;
use super::exec::{cannot, handle};
use super::extract::{Path, Query};
use super::problem::Problem;
use super::wire::{ConsoleClose, ConsoleControl};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsoleQuery {
    #[serde(default = "columns")]
    columns: u16,
    #[serde(default = "rows")]
    rows: u16,
    /// Program and arguments as a JSON array of strings, for a new terminal.
    argv: Option<String>,
}

const fn columns() -> u16 {
    80
}

const fn rows() -> u16 {
    24
}

pub(super) async fn console(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
    Query(query): Query<ConsoleQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade =
        upgrade.map_err(|rejection| Problem::new(rejection.status(), "websocket_required", rejection.body_text()))?;
    let handle = handle(&api, &lab, &node).await?;
    let console = handle.provider.console().ok_or_else(|| cannot("open consoles"))?;
    let argv = query.argv.as_deref().map(serde_json::from_str).transpose();
    let argv = argv.map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "open console", "`argv` is no array of strings").because(error)
    })?;
    let argv = match (argv, handle.kind.as_ref().map(|kind| &kind.console)) {
        (Some(argv), _) => Some(argv),
        (None, Some(ConsoleMethod::Exec { command })) => Some(command.clone()),
        (None, Some(ConsoleMethod::Own) | None) => None,
        (None, Some(ConsoleMethod::Ssh)) => return Err(cannot("open a session over the network; use `ssh`")),
    };
    let request = ConsoleRequest { argv, columns: query.columns, rows: query.rows };
    let session = console.open(&handle.instance, &request).await?;
    Ok(upgrade.on_upgrade(move |socket| pass(socket, session)))
}

/// Passes bytes to and fro until one side ends.
async fn pass(mut socket: WebSocket, mut session: ConsoleSession) {
    loop {
        tokio::select! {
            shown = session.output.next() => {
                let sent = match shown {
                    Some(Ok(bytes)) => socket.send(Message::Binary(bytes.into())).await,
                    Some(Err(error)) => {
                        close(&mut socket, &ConsoleClose::Error { message: error.chain() }).await;
                        return;
                    }
                    None => {
                        let end = match session.input.exit().await {
                            Ok(exit) => ConsoleClose::Exit { exit: exit.into() },
                            Err(error) => ConsoleClose::Error { message: error.chain() },
                        };
                        close(&mut socket, &end).await;
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
            typed = socket.recv() => {
                let taken = match typed {
                    Some(Ok(Message::Binary(bytes))) => session.input.write(&bytes).await,
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(ConsoleControl::Resize { columns, rows }) => session.input.resize(columns, rows).await,
                        Err(error) => {
                            let message = format!("this control message is not understood: {error}");
                            close(&mut socket, &ConsoleClose::Error { message }).await;
                            return;
                        }
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                if let Err(error) = taken {
                    close(&mut socket, &ConsoleClose::Error { message: error.chain() }).await;
                    return;
                }
            }
        }
    }
}

/// Says why a console ended. Whoever was at it may have gone.
async fn close(socket: &mut WebSocket, end: &ConsoleClose) {
    let text = serde_json::to_string(end).unwrap_or_default();
    if socket.send(Message::Text(text.into())).await.is_ok() {
        let _ = socket.send(Message::Close(None)).await;
    }
}
