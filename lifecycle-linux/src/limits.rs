//! Limits of the process.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the number of files that the process may open to what the system allows it, and returns that number. A lab of
/// a thousand nodes holds several descriptors per node, and the usual limit of 1,024 is there for `select` alone.
///
/// Processes started later inherit the limit; a program that still uses `select` should be started with the old one.
///
/// # Errors
/// When the kernel refuses, which it does not for an unchanged hard limit.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
