//! What an ordinary user's nodes need of the host's file system in their own name.
//!
//! In a user namespace the host's files belong to nobody, and an overlay hands their owner and mode on: nothing below
//! `/etc` or `/var` could be written to, however private the view. So the nodes' views have one more layer, which is
//! made once: a copy of what can be read of `/etc`, and the directories of `/var` without their files. Both belong to
//! the caller, who is root inside.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::failure::{Doing, Failure};

/// Directories deeper than this are left out.
const DEPTH: usize = 8;
/// Larger files are left out.
const LARGEST: u64 = 1 << 20;
/// Entries after which the copy stops: a view with less is better than none.
const ENTRIES: usize = 20_000;

/// Makes the skeleton at `path` if it is not there.
pub(super) fn ensure(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let doing = || format!("copy what nodes need of the host's /etc and /var to {}", path.display());
    let temporary = path.with_extension("new");
    crate::remove::tree(&temporary).doing(doing())?;
    fs::create_dir_all(&temporary).doing(doing())?;
    let mut budget = ENTRIES;
    copy(Path::new("/etc"), &temporary.join("etc"), true, DEPTH, &mut budget).doing(doing())?;
    copy(Path::new("/var"), &temporary.join("var"), false, DEPTH, &mut budget).doing(doing())?;
    fs::rename(&temporary, path).doing(doing())
}

fn copy(from: &Path, to: &Path, files: bool, depth: usize, budget: &mut usize) -> io::Result<()> {
    fs::create_dir(to)?;
    // A directory that cannot be read is there and empty; so is one that vanishes meanwhile.
    let (Ok(entries), true) = (fs::read_dir(from), depth > 0) else { return Ok(()) };
    for entry in entries.flatten() {
        let Some(left) = budget.checked_sub(1) else { return Ok(()) };
        *budget = left;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            copy(&source, &target, files, depth - 1, budget)?;
        } else if files && kind.is_symlink() {
            let Ok(pointee) = fs::read_link(&source) else { continue };
            symlink(pointee, &target)?;
        } else if files && kind.is_file() {
            copy_file(&source, &target)?;
        }
    }
    // The mode comes last: the directory must be writable while it is filled. Sticky and open ones stay so.
    let mode = fs::metadata(from).map_or(0o755, |found| found.permissions().mode());
    fs::set_permissions(to, Permissions::from_mode(mode & 0o7777 | 0o700))
}

fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let Ok(mut file) = File::open(source) else { return Ok(()) };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Ok(());
    }
    let mut text = Vec::new();
    file.by_ref().take(LARGEST).read_to_end(&mut text)?;
    fs::write(target, text)?;
    fs::set_permissions(target, Permissions::from_mode(meta.permissions().mode() & 0o777 | 0o600))
}
