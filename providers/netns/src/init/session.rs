//! Connections to an init, each with one request, and the commands that run for them.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::provider::ExitRecord;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::peer::{CHUNK, Peer};
use crate::wire::{STDERR, STDOUT, Tell};

/// Bytes that may wait for a client before its command has to.
const BACKLOG: usize = 256 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) role: Role,
}

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    /// It has not said yet.
    New,
    /// Its command runs.
    Exec(Running),
    /// It watches this terminal.
    Viewer(u64),
    /// All is said; it closes when that has been read.
    Over,
}

/// A command that runs for a client.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    /// Its output and its error stream, while they are open.
    pub(super) streams: [Option<File>; 2],
}

impl Session {
    pub(super) const fn new(peer: Peer) -> Self {
        Self { peer, role: Role::New }
    }

    /// Whether the client reads as fast as its command writes.
    pub(super) fn has_room(&self) -> bool {
        self.peer.backlog() < BACKLOG
    }

    /// Passes on what is in one of the command's streams; says whether there was anything.
    pub(super) fn pump(&mut self, stream: usize) -> bool {
        let Role::Exec(running) = &mut self.role else { return false };
        let Some(file) = &mut running.streams[stream] else { return false };
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => running.streams[stream] = None,
            Ok(n) => {
                self.peer.send(if stream == 0 { STDOUT } else { STDERR }, &chunk[..n]);
                return true;
            }
            Err(error) if matches!(error.kind(), IoErrorKind::WouldBlock | IoErrorKind::Interrupted) => {}
            Err(_) => running.streams[stream] = None,
        }
        false
    }

    /// Tells the client that its command has ended, after what it wrote until then. Processes that it left behind may
    /// hold its streams and write for ever, and are not waited for: a pipe holds less than this reads.
    pub(super) fn command_ended(&mut self, record: ExitRecord) {
        for stream in 0..2 {
            let mut chunks = 4;
            while chunks > 0 && self.pump(stream) {
                chunks -= 1;
            }
        }
        self.finish(&Tell::Ended(record));
    }

    /// Says the last word.
    pub(super) fn finish(&mut self, last: &Tell) {
        self.peer.tell(last);
        self.role = Role::Over;
    }

    pub(super) fn refuse(&mut self, kind: ErrorKind, text: &str) {
        self.finish(&Tell::Refused(Failure::new(kind, text)));
    }

    /// Kills the command of a client that has gone, with all of its session that did not leave it.
    pub(super) fn abandon(&self) {
        if let Role::Exec(running) = &self.role {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(-running.pid.as_raw()), Signal::SIGKILL);
            let _ = kill(running.pid, Signal::SIGKILL);
        }
    }
}
