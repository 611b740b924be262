//! Small things about files, and the errors they end in.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use lifecycle_core::time::BootId;
use lifecycle_core::{Error, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads what [`write`] wrote; nothing when there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that readers see whole or not at all.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(value)?)?;
    fs::rename(new, path)
}

/// Removes a directory with everything in it, or a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The present boot of this machine.
pub(crate) fn boot() -> io::Result<BootId> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")?.parse().map_err(io::Error::other)
}

/// A number that was not drawn before.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Turns what the file system said into what plugins say. The kind tells the engine whether trying again can help.
pub(crate) fn failed(operation: &'static str, subject: impl std::fmt::Display, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, operation, "the file system refuses").about(subject).because(cause)
}
