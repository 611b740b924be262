//! What a node's root directory is made of. Wherever it comes from, the node may write and the source stays as it is:
//! what it writes lands in `upper` below the node's own directory and stays over a restart.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::root::{NOTHING, make_directory};
use crate::failure::{Doing, Failure};
use crate::mounts::{self, Mount};

/// Directories of the host's root that every node has its own of.
const OWN: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];
/// File systems that hold no files of people's.
const VIRTUAL: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "nsfs",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "autofs",
    "binfmt_misc",
];

/// A view of the host for root: one overlay over its root, and what is mounted below that.
pub(super) fn whole_host(directory: &Path, root: &Path) -> Result<(), Failure> {
    overlay(&[Path::new("/")], directory, "all", root, false)?;
    let table = mounts::table().doing("read the mount table")?;
    for mount in &table {
        let depth = mount.point.components().count() - 1;
        let own = OWN.iter().any(|name| mount.point.starts_with(Path::new("/").join(name)));
        // What is mounted more deeply comes along with what it is mounted below, or is nobody's home.
        if depth == 0 || depth > 2 || own || VIRTUAL.contains(&mount.kind.as_str()) || !mount.point.is_dir() {
            continue;
        }
        let name = mount.point.strip_prefix("/").unwrap_or(&mount.point);
        let target = root.join(name);
        let slug = name.as_os_str().to_string_lossy().replace('/', "-");
        if target.is_dir() && overlay(&[&mount.point], directory, &slug, &target, false).is_err() {
            read_only(&mount.point, &target, &table)?;
        }
    }
    Ok(())
}

/// A view of the host for an ordinary user. The kernel refuses an overlay over a root with mounts below it, and files
/// of others cannot be written to anyway: so `/etc` and `/var` are overlays over the skeleton, `/root` is the node's
/// own, and the rest of the host's directories are there to read.
pub(super) fn host_in_pieces(directory: &Path, root: &Path, skeleton: &Path) -> Result<(), Failure> {
    mount(Some(root), root, NOTHING, MsFlags::MS_BIND, NOTHING).doing("mount the node's root")?;
    let table = mounts::table().doing("read the mount table")?;
    let entries = fs::read_dir("/").doing("read the host's root")?;
    for entry in entries.flatten() {
        let (source, name) = (entry.path(), entry.file_name());
        let target = root.join(&name);
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() {
            let pointee = fs::read_link(&source).doing(format_args!("read the link {}", source.display()))?;
            if fs::symlink_metadata(&target).is_err() {
                symlink(pointee, &target).doing(format_args!("link {}", target.display()))?;
            }
        }
        if !kind.is_dir() {
            continue;
        }
        make_directory(&target, 0o755)?;
        match name.to_str() {
            Some(own) if OWN.contains(&own) => {}
            Some("root") => make_directory(&target, 0o700)?,
            Some("etc") => overlay(&[&skeleton.join("etc")], directory, "etc", &target, true)?,
            Some("var") => {
                let layer = skeleton.join("var");
                // With mounts below the host's `/var`, its files cannot be shown.
                overlay(&[&layer, &source], directory, "var", &target, true)
                    .or_else(|_| overlay(&[&layer], directory, "var", &target, true))?;
            }
            // What may not be read (`/lost+found` for one) is there and empty.
            _ if fs::read_dir(&source).is_err() => {}
            _ => read_only(&source, &target, &table)?,
        }
    }
    Ok(())
}

/// A view of a directory.
pub(super) fn directory(lower: &Path, directory: &Path, root: &Path, user: bool) -> Result<(), Failure> {
    overlay(&[lower], directory, "all", root, user)
}

/// Mounts an overlay over `layers`, the topmost first, whose changes go to `name` below the node's directory. Where its
/// file system cannot hold them, they go to memory and last until the node ends.
fn overlay(layers: &[&Path], directory: &Path, name: &str, target: &Path, user: bool) -> Result<(), Failure> {
    let tried = overlay_in(layers, directory, name, target, user);
    if tried.is_ok() {
        return tried;
    }
    let memory = directory.join("memory");
    make_directory(&memory, 0o755)?;
    if !mounts::table().doing("read the mount table")?.iter().any(|mount| mount.point == memory) {
        mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), NOTHING).doing("mount a tmpfs")?;
    }
    // The first failure says more: the second way is only tried for its sake.
    overlay_in(layers, &memory, name, target, user).or(tried)
}

fn overlay_in(layers: &[&Path], directory: &Path, name: &str, target: &Path, user: bool) -> Result<(), Failure> {
    let (upper, work) = (directory.join("upper").join(name), directory.join("work").join(name));
    make_directory(&upper, 0o755)?;
    make_directory(&work, 0o755)?;
    let mut options = b"lowerdir=".to_vec();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape(layer, true, &mut options);
    }
    options.extend_from_slice(b",upperdir=");
    escape(&upper, false, &mut options);
    options.extend_from_slice(b",workdir=");
    escape(&work, false, &mut options);
    if user {
        options.extend_from_slice(b",userxattr");
    }
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_slice())).doing(format_args!(
        "show {} through an overlay",
        layers.iter().map(|layer| layer.display().to_string()).collect::<Vec<_>>().join(" and ")
    ))
}

/// Writes a path as overlayfs reads it.
fn escape(path: &Path, colons: bool, to: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b',') || (colons && *byte == b':') {
            to.push(b'\\');
        }
        to.push(*byte);
    }
}

/// Shows a directory with all that is mounted below it by `table`, to read only.
fn read_only(source: &Path, target: &Path, table: &[Mount]) -> Result<(), Failure> {
    let doing = || format!("show {}", source.display());
    mount(Some(source), target, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING).doing(doing())?;
    mounts::make_read_only(target).doing(doing())?;
    for below in table.iter().filter_map(|mount| mount.point.strip_prefix(source).ok()) {
        if !below.as_os_str().is_empty() {
            mounts::make_read_only(&target.join(below)).doing(doing())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_overlayfs_reads_them() {
        let mut text = Vec::new();
        escape(Path::new("/a:b,c\\d"), true, &mut text);
        assert_eq!(text, br"/a\:b\,c\\d");
    }
}
