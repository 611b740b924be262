//! Identities that the kernel never gives twice: the boot, a namespace, a process.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use lifecycle_core::time::{BootId, BootInstant};
use nix::time::{ClockId, clock_gettime};

use crate::sys;

/// The identity of the running boot.
///
/// # Errors
/// When `/proc/sys/kernel/random/boot_id` cannot be read, as in a container without `/proc`.
pub fn boot_id() -> io::Result<BootId> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The present on the boot clock (`CLOCK_BOOTTIME`), which counts sleep and never jumps.
///
/// # Errors
/// As [`boot_id`].
pub fn boot_time() -> io::Result<BootInstant> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let millis = time.tv_sec().unsigned_abs() * 1_000 + time.tv_nsec().unsigned_abs() / 1_000_000;
    Ok(BootInstant { boot: boot_id()?, millis })
}

/// The cookie of the network namespace that `socket` was opened in (`SO_NETNS_COOKIE`). Unlike inode numbers, cookies
/// are not reused within a boot.
///
/// # Errors
/// When the descriptor is no socket, or the kernel is older than 5.14.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    sys::sockopt::netns_cookie(socket)
}
