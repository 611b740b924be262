//! What nodes printed, as the daemon kept it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::Result;
use lifecycle_core::plugin::provider::{InstanceRef, LogChunk, LogRequest, Logs};
use lifecycle_core::time::Timestamp;

use crate::client::Client;
use crate::failure::Failure;
use crate::observe::Container;
use crate::provider::ContainerProvider;

/// How long a follower waits before it looks whether a node that ended prints again.
const PAUSE: Duration = Duration::from_millis(300);

type Lines = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, bollard::errors::Error>> + Send>>;

struct Reader {
    client: Arc<Client>,
    container: String,
    subject: InstanceRef,
    follow: bool,
    lines: Lines,
    /// How far it has read, from where a stream that ended is taken up again.
    read: Position,
    /// How far it had read when the stream before ended: until there, lines come once more.
    again: Position,
}

/// A place in what a node printed: after so many lines of a time, since Podman tells times to the second.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    at: Option<Timestamp>,
    lines: usize,
}

impl Position {
    /// Goes on behind a line.
    fn pass(&mut self, at: Option<Timestamp>) {
        if at.is_some() {
            let before = if at == self.at { self.lines } else { 0 };
            *self = Self { at, lines: before + 1 };
        }
    }

    /// Whether the next line, of this time, is before it.
    fn is_behind(&mut self, at: Option<Timestamp>) -> bool {
        if at == self.at && self.lines > 0 {
            self.lines -= 1;
            return true;
        }
        at.is_some() && at < self.at
    }
}

async fn open(client: &Client, container: &str, options: LogsOptions) -> std::result::Result<Lines, Failure> {
    let docker = client.docker().await?;
    Ok(Box::pin(docker.logs(container, Some(options))))
}

fn options(follow: bool) -> LogsOptions {
    LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        tail: "all".to_owned(),
        ..LogsOptions::default()
    }
}

impl Reader {
    async fn next(&mut self) -> Option<std::result::Result<LogChunk, Failure>> {
        loop {
            match self.lines.next().await {
                Some(Ok(output)) => {
                    let chunk = chunk(output);
                    if !self.again.is_behind(chunk.at) {
                        self.read.pass(chunk.at);
                        return Some(Ok(chunk));
                    }
                }
                Some(Err(error)) => {
                    self.follow = false;
                    return Some(Err(Failure::from(error).of_reading()));
                }
                None if !self.follow => return None,
                None => match self.resume().await {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(failure) => {
                        self.follow = false;
                        return Some(Err(failure));
                    }
                },
            }
        }
    }

    /// Takes the stream up again; not when the node is gone.
    async fn resume(&mut self) -> std::result::Result<bool, Failure> {
        tokio::time::sleep(PAUSE).await;
        if Container::find(&self.client, &self.container).await?.is_none() {
            return Ok(false);
        }
        self.again = self.read;
        let since = self.read.at.and_then(|last| i32::try_from(last.as_second()).ok()).unwrap_or(0);
        self.lines = open(&self.client, &self.container, LogsOptions { since, ..options(true) }).await?;
        Ok(true)
    }
}

/// A line with its time before it.
fn chunk(output: LogOutput) -> LogChunk {
    let stderr = matches!(output, LogOutput::StdErr { .. });
    let bytes = output.into_bytes();
    let (time, text) = match bytes.iter().position(|byte| *byte == b' ') {
        Some(space) => (&bytes[..space], &bytes[space + 1..]),
        None => (&bytes[..0], &bytes[..]),
    };
    let at = std::str::from_utf8(time).ok().and_then(|text| text.parse().ok());
    // Of a line that reached it in pieces, Podman puts the time before each.
    let mut line = if at.is_some() { without(text, &bytes[..=time.len()]) } else { bytes.to_vec() };
    // A terminal ends its lines with both.
    line.pop_if(|byte| *byte == b'\n');
    line.pop_if(|byte| *byte == b'\r');
    LogChunk { at, stderr, line }
}

fn without(mut text: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    while let Some(at) = text.windows(piece.len()).position(|window| window == piece) {
        kept.extend_from_slice(&text[..at]);
        text = &text[at + piece.len()..];
    }
    kept.extend_from_slice(text);
    kept
}

#[async_trait]
impl Logs for ContainerProvider {
    async fn logs(&self, instance: &InstanceRef, request: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let error = |failure: Failure| failure.during("logs", instance);
        let parts = self.existing(instance).await.map_err(error)?;
        let Some(node) = parts.node else { return Ok(Box::pin(stream::empty())) };
        let tail = request.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptions { tail, ..options(request.follow) };
        let reader = Reader {
            client: Arc::clone(&self.client),
            container: node.id().to_owned(),
            subject: instance.clone(),
            follow: request.follow,
            lines: open(&self.client, node.id(), options).await.map_err(error)?,
            read: Position::default(),
            again: Position::default(),
        };
        Ok(Box::pin(stream::unfold(reader, |mut reader| async {
            let chunk = reader.next().await?;
            Some((chunk.map_err(|failure| failure.during("logs", &reader.subject)), reader))
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_from_its_time() {
        let read = |text: &'static str| chunk(LogOutput::Console { message: text.as_bytes().into() });
        let line = read("2026-01-02T03:04:05.678901234Z hello  world\r\n");
        assert_eq!(line.line, b"hello  world");
        assert_eq!(line.at.unwrap().subsec_nanosecond(), 678_901_234);
        assert_eq!(read("no time here\n").line, b"no time here");
        assert_eq!(read("2026-01-02T03:04:05Z \n").line, b"");
        assert_eq!(read("2026-01-02T03:04:05Z in 2026-01-02T03:04:05Z pieces\r\n").line, b"in pieces");
    }
}
