//! The ioctls of taps.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use lifecycle_core::name::IfName;
use nix::libc;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;

/// Makes the tap that a fresh descriptor of `/dev/net/tun` stands for, or takes one that is there.
pub(crate) fn set_interface(device: &File, name: &IfName, flags: u16) -> io::Result<()> {
    // SAFETY: all bits zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // An `IfName` has at most 15 bytes, so the closing zero stays.
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags.cast_signed();
    // SAFETY: the descriptor is open and the kernel reads and writes one `ifreq`.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets a user open the tap.
pub(crate) fn set_owner(device: &File, uid: u32) -> io::Result<()> {
    set_number(device, TUNSETOWNER, uid.into())
}

/// Lets the tap outlive its descriptor.
pub(crate) fn set_persistent(device: &File) -> io::Result<()> {
    set_number(device, TUNSETPERSIST, 1)
}

fn set_number(device: &File, command: libc::c_ulong, number: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open and these commands take a number, no pointer.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), command as _, number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
