//! Removing directory trees that nodes have written to.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::layout::absent_is_fine;

/// Removes `path` with all that is below it, on its own file system only by construction: nothing of ours is mounted
/// below a node's directory in the mount namespace that this runs in. What is not there is fine.
///
/// A directory that its owner may not enter (an overlay's `work`, or what a node left) is opened first.
pub(crate) fn tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            absent_is_fine(fs::remove_dir_all(path))
        }
        other => absent_is_fine(other),
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    fs::read_dir(path)?.try_for_each(|entry| open_up(&entry?.path()))
}
