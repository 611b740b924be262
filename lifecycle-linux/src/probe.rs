//! Proof that frames pass: one is sent at one end of a link and waited for at the other.
//!
//! A [`Prober`] holds one packet socket of a namespace and keeps it open, since closing one waits for some 10 ms. Frames
//! have an ethertype of their own and the interface's own address as their source, so that switches learn nothing
//! wrong, and go to the other end's address, so that no third party hears them once the switch knows it. Whoever runs a
//! `tcpdump` in a node sees them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use lifecycle_core::attach::Mac;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, recvfrom};

use crate::sys::interface::{bind_packet, send_frame};

/// Ethertype of test frames: the first of the two that are set aside for local use.
pub const ETHERTYPE: u16 = 0x88b5;
const MAGIC: &[u8; 16] = b"lifecycle probe\n";
const HEADER: usize = 14;
/// Shortest Ethernet frame without its checksum.
const FRAME: usize = 60;
/// A frame that was dropped while the switch was still learning is sent again after this time.
const AGAIN: Duration = Duration::from_millis(20);

/// One interface that test frames leave from or arrive at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeEnd {
    /// Its index.
    pub index: u32,
    /// Its address.
    pub mac: Mac,
}

/// Sends and receives test frames in one namespace.
#[derive(Debug)]
pub struct Prober {
    socket: OwnedFd,
}

impl Prober {
    /// Starts to listen on a packet socket that [`crate::namespace::NamespaceAccess::open`] gave.
    ///
    /// # Errors
    /// When the descriptor is no packet socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        bind_packet(&socket, ETHERTYPE)?;
        Ok(Self { socket })
    }

    /// Sends a frame from `from` here to `to` in the namespace of `there` and waits for it, at most until `patience` is
    /// over. `nonce` must be new each time. Blocks.
    ///
    /// # Errors
    /// When a frame cannot be sent or received, for example because the interface is not up.
    pub fn probe(
        &self,
        from: ProbeEnd,
        there: &Self,
        to: ProbeEnd,
        nonce: u64,
        patience: Duration,
    ) -> io::Result<bool> {
        let frame = frame(from.mac, to.mac, nonce);
        let deadline = Instant::now() + patience;
        loop {
            send_frame(&self.socket, from.index, &frame)?;
            let until = deadline.min(Instant::now() + AGAIN);
            if there.wait(to.index, &frame[HEADER..], until)? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Waits until the content arrives at an interface; frames of other probes are dropped.
    fn wait(&self, index: u32, content: &[u8], until: Instant) -> io::Result<bool> {
        let mut buffer = [0; 2 * FRAME];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((len, Some(address)))
                    if address.ifindex() == index as usize && buffer.get(HEADER..len) == Some(content) =>
                {
                    return Ok(true);
                }
                // Another frame, or news that an interface went down, which the next poll does not repeat.
                Ok(_) | Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up, so that the last millisecond is waited and not spun.
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn frame(from: Mac, to: Mac, nonce: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(MAGIC);
    frame.extend(nonce.to_be_bytes());
    frame.resize(FRAME, 0);
    frame
}
