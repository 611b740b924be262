//! What nodes printed, read from the files that their inits write. So it can be read whatever runs or does not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::stream;
use lifecycle_core::Result;
use lifecycle_core::plugin::provider::{InstanceRef, LogChunk, LogRequest, Logs};

use super::NetnsProvider;
use crate::failure::Doing;
use crate::init::{LOG, OLDER_LOG};

/// How often a file that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A log that is being read.
struct Reader {
    directory: PathBuf,
    /// The newest file and its inode; none before the node first printed.
    file: Option<(File, u64)>,
    partial: Vec<u8>,
    ready: VecDeque<LogChunk>,
    follow: bool,
}

impl Reader {
    /// Opens the files and takes in all that is there.
    fn open(directory: PathBuf, request: &LogRequest) -> io::Result<Self> {
        let mut reader =
            Self { directory, file: None, partial: Vec::new(), ready: VecDeque::new(), follow: request.follow };
        // The newest first: if it is exchanged in between, the older one is read twice rather than not at all.
        let newest = open(&reader.directory.join(LOG))?;
        if let Some((older, inode)) = open(&reader.directory.join(OLDER_LOG))?
            && newest.as_ref().is_none_or(|(_, other)| *other != inode)
        {
            reader.take(older)?;
        }
        if let Some((file, inode)) = newest {
            reader.take(file.try_clone()?)?;
            reader.file = Some((file, inode));
        }
        if let Some(tail) = request.tail {
            let surplus = reader.ready.len().saturating_sub(tail);
            reader.ready.drain(..surplus);
        }
        Ok(reader)
    }

    /// Takes in what a file holds from where it was read to.
    fn take(&mut self, mut file: File) -> io::Result<()> {
        file.read_to_end(&mut self.partial)?;
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.ready.extend(parse(&line[..end]));
        }
        Ok(())
    }

    /// Takes in what was printed since, through an exchange of the files as well.
    fn look(&mut self) -> io::Result<()> {
        if let Some((file, _)) = &self.file {
            let copy = file.try_clone()?;
            self.take(copy)?;
        }
        let newest = open(&self.directory.join(LOG))?;
        let Some((file, inode)) = newest else { return Ok(()) };
        if self.file.as_ref().is_none_or(|(_, known)| *known != inode) {
            // What was written to the old one between the read above and the exchange.
            if let Some((old, _)) = self.file.take() {
                self.take(old)?;
            }
            self.take(file.try_clone()?)?;
            self.file = Some((file, inode));
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some((file, inode)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a line as the init writes it. One that a full disk cut short is left out.
fn parse(line: &[u8]) -> Option<LogChunk> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let at = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stderr = match fields.next()? {
        b"oF" | b"oP" => false,
        b"eF" | b"eP" => true,
        _ => return None,
    };
    let text = fields.next()?;
    // A terminal ends its lines with both.
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Some(LogChunk { at: Some(at), stderr, line: text.to_vec() })
}

#[async_trait]
impl Logs for NetnsProvider {
    async fn logs(&self, instance: &InstanceRef, request: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let error = |failure: crate::failure::Failure| failure.during("logs", instance);
        let status = self.existing(instance).await.map_err(error)?;
        let reader = Reader::open(self.layout.node(&status.mark), request).doing("read the log").map_err(error)?;
        let subject = instance.clone();
        Ok(Box::pin(stream::unfold((reader, subject), |(mut reader, subject)| async {
            loop {
                if let Some(chunk) = reader.ready.pop_front() {
                    return Some((Ok(chunk), (reader, subject)));
                }
                if !reader.follow {
                    return None;
                }
                tokio::time::sleep(LOOK).await;
                if let Err(failure) = reader.look().doing("read the log") {
                    reader.follow = false;
                    return Some((Err(failure.during("logs", &subject)), (reader, subject)));
                }
            }
        })))
    }
}
