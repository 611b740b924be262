//! Socket options that `nix` does not know.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// `SO_NETNS_COOKIE`, missing from `libc` on some targets; the number is the same on all that we build for.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Reads a plain value of type `T` from a socket option.
///
/// Only for types of which every bit pattern is a value, hence private.
fn get<T: Copy>(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call, `value` has room for `len` bytes, and the kernel writes at
    // most that many.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<T>() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "socket option has another size than expected"));
    }
    // SAFETY: all bytes are initialised (zeroed, then written by the kernel); the callers below only use integers.
    Ok(unsafe { value.assume_init() })
}

/// Sets an integer socket option.
pub(crate) fn set_int(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call and `value` is `len` readable bytes.
    let result = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of the network namespace that a socket belongs to.
pub(crate) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    get(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)
}
