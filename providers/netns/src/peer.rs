//! A connection of a process with one thread: frames in, frames out, never waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use crate::wire::{Frames, frame, message};

/// Bytes read at a time.
pub(crate) const CHUNK: usize = 64 << 10;

/// The other side of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    frames: Frames,
    out: Vec<u8>,
    closed: bool,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, frames: Frames::default(), out: Vec::new(), closed: false })
    }

    /// Takes in what has arrived; an end or an error shows in [`is_closed`](Self::is_closed).
    pub(crate) fn fill(&mut self) {
        let mut chunk = [0; CHUNK];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break self.closed = true,
                Ok(n) => self.frames.push(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.closed = true,
            }
        }
    }

    /// The next frame that is here; nonsense closes the connection.
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        self.frames.next().unwrap_or_else(|_| {
            self.closed = true;
            None
        })
    }

    pub(crate) fn tell(&mut self, value: &impl Serialize) {
        match message(value) {
            Ok(bytes) => self.queue(&bytes),
            Err(_) => self.closed = true,
        }
    }

    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        self.queue(&frame(kind, payload));
    }

    fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.flush();
    }

    /// Writes what the other side takes.
    pub(crate) fn flush(&mut self) {
        let mut written = 0;
        while written < self.out.len() && !self.closed {
            match self.stream.write(&self.out[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
        self.out.drain(..written);
    }

    /// Bytes that wait for the other side to read.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
