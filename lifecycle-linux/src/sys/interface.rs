//! Interface ioctls and packet sockets.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd};

use lifecycle_core::name::IfName;
use nix::libc;

const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// The argument of the ethtool commands that get or set one number (`struct ethtool_value`).
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Runs an ethtool command that gets or sets one number of an interface of the socket's namespace.
pub(crate) fn ethtool_value(socket: impl AsFd, name: &IfName, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    // SAFETY: all bits zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // An `IfName` has at most 15 bytes, so the closing zero stays.
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the descriptor is open, `request` names an interface and points at a value that outlives the call and is
    // as large as the commands passed here expect.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

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
