//! Messages with descriptors over unix sockets.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::uninterrupted;

/// Most descriptors in one message; the kernel's own limit is 253.
pub(crate) const MAX_DESCRIPTORS: usize = 16;

/// Sends one message with descriptors.
pub(crate) fn send(socket: impl AsFd, text: &[u8], descriptors: &[OwnedFd], flags: MsgFlags) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(text)];
    let (fd, flags) = (socket.as_fd().as_raw_fd(), flags | MsgFlags::MSG_NOSIGNAL);
    let sent = uninterrupted(|| sendmsg::<()>(fd, &parts, control, flags, None))?;
    if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message of at most `limit` bytes with its descriptors; an empty one means that the other side closed.
pub(crate) fn receive(socket: BorrowedFd<'_>, limit: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    loop {
        match receive_once(socket, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn receive_once(socket: BorrowedFd<'_>, limit: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut text = vec![0; limit];
    let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just installed these descriptors for us and nobody else knows them; each is
            // wrapped exactly once.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let len = message.bytes;
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message is longer than the protocol allows"));
    }
    text.truncate(len);
    Ok((text, descriptors))
}
