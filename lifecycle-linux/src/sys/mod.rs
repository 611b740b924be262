//! System calls that no safe wrapper covers: the only place of the workspace with `unsafe` code.
//!
//! Each file holds a few functions, and each function is safe to call: it checks what the kernel returns and hands out
//! owned values only.

pub(crate) mod ethtool;
pub(crate) mod interface;
pub(crate) mod passing;
pub(crate) mod sockopt;
pub(crate) mod tap;
pub(crate) mod user_namespace;

use nix::errno::Errno;

/// Makes a system call again when a signal broke it off before it did anything. Calls on sockets with a time limit are
/// broken off by every signal whose handler the thread happens to run, however the handler was installed.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
