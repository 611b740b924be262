//! Commands in nodes, and the connection to an init that consoles use as well.

use std::io;

use async_trait::async_trait;
use lifecycle_core::plugin::provider::{EXEC_OUTPUT_LIMIT, Exec, ExecOutput, ExecRequest, InstanceRef, InstanceState};
use lifecycle_core::{ErrorKind, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::NetnsProvider;
use super::client::read_frame;
use crate::failure::{Doing, Failure};
use crate::wire::{Ask, AskWhat, Frames, JSON, STDERR, STDOUT, Tell, VERSION, message, parse};

/// A connection to an init whose request was granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
    pub(super) frames: Frames,
}

impl NetnsProvider {
    /// Asks the init of an instance for something that goes on.
    pub(super) async fn ask(&self, instance: &InstanceRef, what: AskWhat) -> Result<Granted, Failure> {
        let status = self.existing(instance).await?;
        let not_running = || Failure::new(ErrorKind::Conflict, "the node does not run; start it first");
        if status.state != InstanceState::Running {
            return Err(not_running());
        }
        let stream = UnixStream::connect(self.layout.init_socket(&status.mark)).await.map_err(|_| not_running())?;
        let (reader, mut writer) = stream.into_split();
        let text = message(&Ask { version: VERSION, what }).doing("write a request")?;
        let (mut reader, mut frames) = (reader, Frames::default());
        let first = async {
            writer.write_all(&text).await?;
            let (_, payload) = read_frame(&mut reader, &mut frames).await?;
            parse::<Tell>(&payload)
        };
        match first.await.map_err(|error| interrupted(&error))? {
            Tell::Started => Ok(Granted { reader, writer, frames }),
            Tell::Refused(failure) => Err(failure),
            other @ (Tell::Ended(_) | Tell::TakenOver) => {
                Err(Failure::new(ErrorKind::Failed, format!("the node's init gave an odd answer: {other:?}")))
            }
        }
    }
}

pub(super) fn interrupted(error: &io::Error) -> Failure {
    Failure::new(ErrorKind::Interrupted, format!("the node ended meanwhile: {error}"))
}

async fn run(provider: &NetnsProvider, instance: &InstanceRef, request: &ExecRequest) -> Result<ExecOutput, Failure> {
    let ExecRequest { argv, env, user, timeout: _ } = request.clone();
    // Both halves are kept to the end: when they go, the init kills the command.
    let mut granted = provider.ask(instance, AskWhat::Exec { argv, env, user }).await?;
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    loop {
        let frame = read_frame(&mut granted.reader, &mut granted.frames).await;
        let (kind, payload) = frame.map_err(|error| interrupted(&error))?;
        let kept = match kind {
            STDOUT => &mut stdout,
            STDERR => &mut stderr,
            JSON => match parse(&payload) {
                Ok(Tell::Ended(exit)) => return Ok(ExecOutput { exit, stdout, stderr, truncated }),
                _ => continue,
            },
            _ => continue,
        };
        let room = EXEC_OUTPUT_LIMIT - kept.len();
        truncated |= payload.len() > room;
        kept.extend_from_slice(&payload[..payload.len().min(room)]);
    }
}

#[async_trait]
impl Exec for NetnsProvider {
    async fn exec(&self, instance: &InstanceRef, request: &ExecRequest) -> Result<ExecOutput> {
        let work = run(self, instance, request);
        let result = match request.timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                let text = format!("the command was killed: it did not end within {limit:?}");
                Err(Failure::new(ErrorKind::Timeout, text))
            }),
        };
        result.map_err(|failure| failure.during("exec", instance))
    }
}
