//! Processes: forking one, telling two apart that bore the same number, and signalling without a race.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::libc;
use nix::sys::prctl;
use nix::unistd::{ForkResult, Pid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Forks. The new process runs `child`, with no descriptors but the standard ones and `keep`, and ends with the code
/// that it returns; it never comes back into the caller.
///
/// The calling process must have a single thread (the keeper and the inits have), and `child` may use no descriptor
/// that is not in `keep`: the others are closed though values that own them still exist in its memory.
#[allow(unsafe_code)]
pub(crate) fn fork_child(keep: &[BorrowedFd<'_>], child: impl FnOnce() -> i32) -> io::Result<Pid> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    // SAFETY: there is only one thread, so no lock can be held by another one in the copy, and everything that is safe
    // to do here is safe to do there.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let mut first = 3;
            for fd in kept.into_iter().filter(|fd| *fd >= 3).chain([u32::MAX]) {
                if first < fd {
                    // SAFETY: closing descriptors cannot touch memory. Values that own a closed descriptor are neither
                    // used, by this function's contract, nor dropped, since `_exit` below runs no destructors.
                    unsafe { libc::close_range(first, fd - 1, 0) };
                }
                first = fd.saturating_add(1);
            }
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: ends the process without running anything that belongs to its parent.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Gives the process the name that `ps` and `top` show, cut to what the kernel takes.
pub(crate) fn set_name(name: &str) {
    if let Ok(name) = CString::new(name.chars().take(15).collect::<String>()) {
        // A name is a courtesy to people; nothing depends on it.
        let _ = prctl::set_name(&name);
    }
}

/// When a process started, in ticks since the boot: with its number it names the process for the whole boot.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may itself hold spaces and parentheses.
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok());
    ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense")))
}

/// A handle on the process `pid` that started at `started`; nothing when it has ended.
pub(crate) fn handle(pid: i32, started: u64) -> io::Result<Option<OwnedFd>> {
    let Some(number) = rustix::process::Pid::from_raw(pid) else { return Ok(None) };
    let handle = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Read after the handle was opened: if the start time fits now, the handle is of the process that is meant.
    match start_time(pid) {
        Ok(found) if found == started => Ok(Some(handle)),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kills the process behind a handle; one that has ended is fine.
pub(crate) fn kill(handle: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
