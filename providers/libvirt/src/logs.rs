//! What machines wrote to their consoles, as it was kept.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::Result;
use lifecycle_core::plugin::provider::{InstanceRef, LogChunk, LogRequest, Logs};

use crate::failure::{Failure, Outcome};
use crate::provider::LibvirtProvider;

/// How long a follower waits before it looks for more.
const PAUSE: Duration = Duration::from_millis(300);
/// Bytes that are read back at most: what a console says is without bound.
const LIMIT: u64 = 4 << 20;
/// Longer lines are cut, so that a console which never ends one is read as well.
const LINE: usize = 64 << 10;

/// Reads a file by lines, as it grows.
struct Tail {
    path: PathBuf,
    at: u64,
    /// The beginning of a line whose end is still to come.
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> io::Result<Self> {
        let mut tail = Self { path, at: 0, rest: Vec::new() };
        let length = tail.length()?;
        if length > LIMIT {
            tail.at = length - LIMIT;
        }
        Ok(tail)
    }

    fn length(&self) -> io::Result<u64> {
        match std::fs::metadata(&self.path) {
            // Nothing was ever said.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            metadata => Ok(metadata?.len()),
        }
    }

    /// The lines that are whole by now.
    fn more(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let length = self.length()?;
        if length < self.at {
            // Whoever keeps the log has begun a new one.
            self.at = 0;
        }
        if length == self.at {
            return Ok(Vec::new());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.take(LIMIT).read_to_end(&mut self.rest)?;
        self.at += read as u64;
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().take(LINE).position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(trimmed(&line).to_vec());
        }
        if self.rest.len() >= LINE {
            lines.push(std::mem::take(&mut self.rest));
        }
        Ok(lines)
    }
}

/// A terminal ends its lines with both.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn chunk(line: Vec<u8>) -> LogChunk {
    LogChunk { at: None, stderr: false, line }
}

/// All lines so far, the one that is not ended included unless there may be more of it.
fn whole(path: PathBuf, request: &LogRequest) -> io::Result<(Vec<Vec<u8>>, Tail)> {
    let mut tail = Tail::new(path)?;
    let mut lines = tail.more()?;
    if !request.follow && !tail.rest.is_empty() {
        lines.push(trimmed(&tail.rest).to_vec());
    }
    if let Some(last) = request.tail {
        lines.drain(..lines.len().saturating_sub(last));
    }
    Ok((lines, tail))
}

#[async_trait]
impl Logs for LibvirtProvider {
    async fn logs(&self, instance: &InstanceRef, request: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let error = |failure: Failure| failure.during("logs", instance);
        let found: Outcome<PathBuf> =
            self.yard().existing(instance).map(|it| self.yard().files.log(&it.mark.instance.identifier));
        let path = found.map_err(error)?;
        let read = whole(path.clone(), request).map_err(|cause| error(Failure::of_file(cause, path.display())));
        let (lines, tail) = read?;
        let before = stream::iter(lines.into_iter().map(|line| Ok(chunk(line))));
        if !request.follow {
            return Ok(Box::pin(before));
        }
        let subject = instance.clone();
        let after = stream::unfold(Some(tail), move |tail| {
            let subject = subject.clone();
            async move {
                let mut tail = tail?;
                loop {
                    tokio::time::sleep(PAUSE).await;
                    // With its directory the instance is gone.
                    if !tail.path.parent().is_some_and(|directory| directory.exists()) {
                        return None;
                    }
                    match tail.more() {
                        Ok(lines) if lines.is_empty() => {}
                        Ok(lines) => {
                            let lines: Vec<_> = lines.into_iter().map(|line| Ok(chunk(line))).collect();
                            return Some((stream::iter(lines), Some(tail)));
                        }
                        Err(cause) => {
                            let failure = Failure::of_file(cause, tail.path.display());
                            return Some((stream::iter(vec![Err(failure.during("logs", &subject))]), None));
                        }
                    }
                }
            }
        });
        Ok(Box::pin(before.chain(after.flatten())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let request = |tail, follow| LogRequest { tail, follow };
        assert!(whole(path.clone(), &request(None, false)).unwrap().0.is_empty());
        let mut file = File::create(&path).unwrap();
        write!(file, "one\r\ntwo\nthr").unwrap();
        let text = |lines: Vec<Vec<u8>>| lines.into_iter().map(|it| String::from_utf8(it).unwrap()).collect::<Vec<_>>();
        assert_eq!(text(whole(path.clone(), &request(None, false)).unwrap().0), ["one", "two", "thr"]);
        let (lines, mut tail) = whole(path.clone(), &request(Some(1), true)).unwrap();
        assert_eq!(text(lines), ["two"]);
        writeln!(file, "ee").unwrap();
        assert_eq!(text(tail.more().unwrap()), ["three"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(text(tail.more().unwrap()), ["new"]);
        std::fs::write(&path, vec![b'x'; LINE + 5]).unwrap();
        assert_eq!(tail.more().unwrap().len(), 1);
    }
}
