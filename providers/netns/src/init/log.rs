//! What a node prints, in two bounded files.
//!
//! A line of `log` is `<time> <o|e><F|P> <text>`: the stream, and whether the text is the end of a line (F) or a part of
//! one that was too long (P). When the file reaches its bound it becomes `log.1`, in the place of the one before.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use lifecycle_core::time::Timestamp;
use rustix::fs::{Mode, OFlags, openat, renameat};

/// Name of the newest file.
pub(crate) const LOG: &str = "log";
/// Name of the older one.
pub(crate) const OLDER_LOG: &str = "log.1";
/// Longest text in a line of the file.
const LONGEST: usize = 16 << 10;

/// The log of a node.
#[derive(Debug)]
pub(super) struct Log {
    directory: OwnedFd,
    /// None until the node prints something: most nodes of a large lab never do.
    file: Option<File>,
    written: u64,
    bound: u64,
    /// Unfinished lines of the standard output and the standard error.
    partial: [Vec<u8>; 2],
}

/// Which stream a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Output,
    Error,
}

fn open(directory: &impl AsFd, create: bool) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let flags = if create { flags | OFlags::CREATE } else { flags };
    Ok(openat(directory, LOG, flags, Mode::from(0o600))?.into())
}

impl Log {
    /// Opens the log in `directory`, to go on where an earlier run ended.
    pub(super) fn open(directory: OwnedFd, bound: u64) -> io::Result<Self> {
        let file = match open(&directory, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let written = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|found| found.len()))?;
        Ok(Self { directory, file, written, bound, partial: [Vec::new(), Vec::new()] })
    }

    /// Takes in what the node printed.
    pub(super) fn write(&mut self, from: From, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut self.partial[from as usize];
            partial.extend_from_slice(part);
            if partial.ends_with(b"\n") {
                partial.pop();
                let line = std::mem::take(partial);
                self.line(from, b'F', &line);
            } else if partial.len() >= LONGEST {
                let line = std::mem::take(partial);
                self.line(from, b'P', &line);
            }
        }
    }

    /// Writes out what was not ended by a new line.
    pub(super) fn finish(&mut self) {
        for from in [From::Output, From::Error] {
            let line = std::mem::take(&mut self.partial[from as usize]);
            if !line.is_empty() {
                self.line(from, b'F', &line);
            }
        }
    }

    fn line(&mut self, from: From, tag: u8, text: &[u8]) {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut line = format!("{now:.9} ").into_bytes();
        line.extend([if from == From::Output { b'o' } else { b'e' }, tag, b' ']);
        line.extend_from_slice(text);
        line.push(b'\n');
        if self.written > 0 && self.written + line.len() as u64 > self.bound {
            self.exchange();
        }
        // A full disk must not end the node; what could not be written is lost, as it would be without a log.
        if self.file.is_none() {
            self.file = open(&self.directory, true).ok();
        }
        if self.file.as_mut().is_some_and(|file| file.write_all(&line).is_ok()) {
            self.written += line.len() as u64;
        }
    }

    fn exchange(&mut self) {
        if renameat(&self.directory, LOG, &self.directory, OLDER_LOG).is_ok()
            && let Ok(file) = open(&self.directory, true)
        {
            self.file = Some(file);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_whole_lines_survive() {
        let directory = tempfile::tempdir().unwrap();
        let fd = || File::open(directory.path()).unwrap().into();
        let mut log = Log::open(fd(), 4096).unwrap();
        for number in 0..1_000 {
            log.write(From::Output, format!("line {number}\n").as_bytes());
        }
        log.write(From::Error, b"half");
        log.finish();
        let read = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(read(LOG).len() <= 4096 && read(OLDER_LOG).len() <= 4096);
        assert!(read(LOG).ends_with("eF half\n"));
        assert!(read(LOG).lines().all(|line| line.split(' ').count() >= 3));
        // Another run goes on in the same file.
        drop(log);
        Log::open(fd(), 4096).unwrap().write(From::Output, b"again\n");
        assert!(read(LOG).ends_with("oF again\n"));
    }

    #[test]
    fn a_long_line_is_written_in_parts() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(File::open(directory.path()).unwrap().into(), 1 << 20).unwrap();
        log.write(From::Output, &vec![b'x'; LONGEST + 5]);
        log.write(From::Output, b"y\n");
        let text = std::fs::read_to_string(directory.path().join(LOG)).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().next().unwrap().contains(" oP "));
        assert!(text.ends_with("y\n"));
    }
}
