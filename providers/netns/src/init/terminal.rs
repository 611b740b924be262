//! Terminals: a program on a pseudo-terminal that goes on whether or not anybody watches.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::command::{Program, Rules, Streams};
use crate::failure::{Doing, Failure};
use crate::peer::CHUNK;

/// Bytes of output that a new viewer is shown.
const SCROLLBACK: usize = 64 << 10;
/// Bytes that may wait for a program that does not read what is typed.
const TYPED: usize = 64 << 10;

/// A program on a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) master: PtyMaster,
    pub(super) pid: Pid,
    /// Who watches, by the number of the session.
    pub(super) viewer: Option<u64>,
    /// Whether there can be output.
    pub(super) open: bool,
    scrollback: VecDeque<u8>,
    typed: Vec<u8>,
}

impl Terminal {
    /// Starts a program on a new terminal.
    pub(super) fn start(rules: &Rules<'_>, program: &Program<'_>, columns: u16, rows: u16) -> Result<Self, Failure> {
        let doing = "make a terminal";
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).doing(doing)?;
        grantpt(&master).doing(doing)?;
        unlockpt(&master).doing(doing)?;
        let path = PathBuf::from(ptsname_r(&master).doing(doing)?);
        resize(&master, columns, rows);
        let pid = rules.spawn(program, Streams::Terminal(&path))?;
        Ok(Self { master, pid, viewer: None, open: true, scrollback: VecDeque::new(), typed: Vec::new() })
    }

    /// What the program has shown since the last time; it also goes into the scrollback.
    pub(super) fn read(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; CHUNK];
        match self.master.read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(n) => {
                chunk.truncate(n);
                self.scrollback.extend(&chunk);
                let surplus = self.scrollback.len().saturating_sub(SCROLLBACK);
                self.scrollback.drain(..surplus);
                return chunk;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The kernel says EIO when no program holds the terminal any more.
            Err(_) => self.open = false,
        }
        Vec::new()
    }

    /// What a new viewer is shown first.
    pub(super) fn scrollback(&self) -> Vec<u8> {
        self.scrollback.iter().copied().collect()
    }

    /// Types `bytes`; what the program does not read in time is dropped, as a real terminal's line would.
    pub(super) fn enter(&mut self, bytes: &[u8]) {
        let room = TYPED.saturating_sub(self.typed.len());
        self.typed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.pass_on();
    }

    /// Whether something typed waits for the program.
    pub(super) const fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Hands on what was typed, as far as the program takes it.
    pub(super) fn pass_on(&mut self) {
        while !self.typed.is_empty() {
            match self.master.write(&self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.typed.clear(),
            }
        }
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.master, columns, rows);
    }
}

/// Tells a terminal its size. One of zero is no size; the terminal keeps its own.
fn resize(master: &PtyMaster, columns: u16, rows: u16) {
    if columns > 0 && rows > 0 {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        // Fails only when the terminal is gone, which its end tells.
        let _: io::Result<()> = tcsetwinsize(master, size).map_err(Into::into);
    }
}
