//! Packet sockets.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

fn packet_address(ethertype: u16, index: u32) -> libc::sockaddr_ll {
    // SAFETY: all bits zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index.cast_signed();
    address
}

/// Lets a packet socket receive frames of one type from all interfaces of its namespace.
pub(crate) fn bind_packet(socket: impl AsFd, ethertype: u16) -> io::Result<()> {
    let address = packet_address(ethertype, 0);
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open and `address` is `len` readable bytes.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a whole Ethernet frame out of an interface of the socket's namespace.
pub(crate) fn send_frame(socket: impl AsFd, index: u32, frame: &[u8]) -> io::Result<()> {
    let address = packet_address(0, index);
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open; frame and address are readable for the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            len,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
