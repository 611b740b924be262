//! Consoles of nodes.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::stream;
use lifecycle_core::plugin::provider::{
    Console, ConsoleInput, ConsoleRequest, ConsoleSession, ExitRecord, InstanceRef,
};
use lifecycle_core::{Error, ErrorKind, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::NetnsProvider;
use super::client::read_frame;
use super::exec::interrupted;
use crate::failure::{Doing, Failure};
use crate::wire::{AskWhat, Frames, JSON, STDIN, STDOUT, Tell, Typed, frame, message, parse};

type Exit = Result<ExitRecord, Failure>;

/// The screen's side of an open terminal.
struct Screen {
    reader: OwnedReadHalf,
    frames: Frames,
    /// Takes the end, once.
    exit: Option<oneshot::Sender<Exit>>,
    subject: String,
}

impl Screen {
    /// What the terminal shows next; nothing when it is over, after the keyboard's side was told how.
    async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        let exit = loop {
            match read_frame(&mut self.reader, &mut self.frames).await {
                Ok((STDOUT, payload)) => return Some(Ok(payload)),
                Ok((JSON, payload)) => match parse(&payload) {
                    Ok(Tell::Ended(record)) => break Ok(record),
                    Ok(Tell::TakenOver) => {
                        break Err(Failure::new(ErrorKind::Conflict, "somebody else took the console over"));
                    }
                    _ => {}
                },
                Ok(_) => {}
                Err(error) => break Err(interrupted(&error)),
            }
        };
        let lost = exit.as_ref().err().filter(|failure| failure.kind == ErrorKind::Interrupted).cloned();
        // Nobody may be waiting for it.
        let told = self.exit.take().map(|sender| sender.send(exit));
        // Told once: the stream is over after an error.
        told.and(lost).map(|failure| Err(failure.during("console", &self.subject)))
    }
}

/// The keyboard's side.
struct Keyboard {
    writer: OwnedWriteHalf,
    exit: Option<oneshot::Receiver<Exit>>,
    subject: String,
}

impl Keyboard {
    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.writer.write_all(bytes).await;
        sent.map_err(|error| interrupted(&error).during("console", &self.subject))
    }
}

#[async_trait]
impl ConsoleInput for Keyboard {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(&frame(STDIN, bytes)).await
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let text = message(&Typed::Resize { columns, rows }).doing("write a request");
        self.send(&text.map_err(|failure| failure.during("console", &self.subject))?).await
    }

    async fn exit(&mut self) -> Result<ExitRecord> {
        let unread = || Failure::new(ErrorKind::Conflict, "the console's output was not read to its end");
        let exit = match self.exit.take() {
            Some(receiver) => receiver.await.unwrap_or_else(|_| Err(unread())),
            None => Err(unread()),
        };
        exit.map_err(|failure| failure.during("console", &self.subject))
    }
}

#[async_trait]
impl Console for NetnsProvider {
    async fn open(&self, instance: &InstanceRef, request: &ConsoleRequest) -> Result<ConsoleSession> {
        let ConsoleRequest { argv, columns, rows } = request.clone();
        let error = |failure: Failure| -> Error { failure.during("console", instance) };
        let granted = self.ask(instance, AskWhat::Console { argv, columns, rows }).await.map_err(error)?;
        let (sender, receiver) = oneshot::channel();
        let subject = instance.to_string();
        let screen =
            Screen { reader: granted.reader, frames: granted.frames, exit: Some(sender), subject: subject.clone() };
        let output: BoxStream<'static, Result<Vec<u8>>> = Box::pin(stream::unfold(Some(screen), |screen| async {
            let mut screen = screen?;
            let piece = screen.next().await?;
            let rest = if piece.is_ok() { Some(screen) } else { None };
            Some((piece, rest))
        }));
        let input = Box::new(Keyboard { writer: granted.writer, exit: Some(receiver), subject });
        Ok(ConsoleSession { output, input })
    }
}
