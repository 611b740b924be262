//! The client's end of a console.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::request::{broken, refused};
use crate::api::problem::Problem;
use crate::api::wire::{ConsoleClose, ConsoleControl};
use crate::failure::{Failure, Result};

/// What a console sends.
#[derive(Debug)]
pub enum Shown {
    /// Bytes for the terminal.
    Bytes(Vec<u8>),
    /// It ended.
    End(ConsoleClose),
}

/// An open console.
#[derive(Debug)]
pub struct ConsoleSocket {
    socket: WebSocketStream<UnixStream>,
}

impl ConsoleSocket {
    pub(super) async fn open(socket: &Path, path: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.map_err(broken)?;
        match client_async(format!("ws://localhost{path}"), stream).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(answer)) => {
                let text = answer.body().as_deref().unwrap_or_default();
                Err(match serde_json::from_slice::<Problem>(text) {
                    Ok(problem) => problem.into(),
                    Err(_) => refused(answer.status(), &String::from_utf8_lossy(text)),
                })
            }
            Err(error) => Err(broken(error)),
        }
    }

    /// Types bytes.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.socket.send(Message::Binary(bytes.into())).await.map_err(broken)
    }

    /// Tells the size of the terminal.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let text = serde_json::to_string(&ConsoleControl::Resize { columns, rows });
        let text = text.map_err(|error| Failure::plain(error.to_string()))?;
        self.socket.send(Message::Text(text.into())).await.map_err(broken)
    }

    /// Waits for what the console sends next; nothing when the connection ended without a word.
    ///
    /// # Errors
    /// When the connection broke.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Shown>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(Shown::Bytes(bytes.into()))),
                Some(Ok(Message::Text(text))) => {
                    let end = serde_json::from_str(&text);
                    let end =
                        end.map_err(|error| Failure::plain(format!("the console's end is not understood: {error}")))?;
                    return Ok(Some(Shown::End(end)));
                }
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
            }
        }
    }

    /// Leaves the console; its program goes on.
    pub async fn leave(mut self) {
        let _ = self.socket.close(None).await;
    }
}
