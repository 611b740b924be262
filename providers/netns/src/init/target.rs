//! Places in a tree that is being built, found without ever leaving it.
//!
//! The tree may come from an image that somebody else made: its symbolic links mean places inside of it, and must not
//! be followed as if they were the host's. The kernel resolves them so (`openat2` with `RESOLVE_IN_ROOT`).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use lifecycle_core::error::ErrorKind;
use nix::mount::{MsFlags, mount};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, statat, unlinkat};
use rustix::io::Errno;

use super::root::NOTHING;
use crate::failure::{Doing, Failure};
use crate::mounts;

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A tree that becomes a node's root.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// The path by which the kernel knows an open descriptor.
fn path_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens `path` below `base`, neither leaving it nor following a symbolic link.
pub(super) fn open_beneath(base: &Path, path: &Path) -> Result<OwnedFd, Failure> {
    let whole = base.join(path);
    let doing = || format!("open {}", whole.display());
    let base_fd = open(base, PLACE, Mode::empty()).doing(doing())?;
    if path.as_os_str().is_empty() {
        return Ok(base_fd);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(base_fd, path, PLACE, Mode::empty(), resolve) {
        Err(Errno::LOOP | Errno::XDEV) => Err(Failure::new(
            ErrorKind::PermissionDenied,
            format!("{} leaves {} or goes through a symbolic link", whole.display(), base.display()),
        )),
        other => other.doing(doing()),
    }
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, Failure> {
        let flags = PLACE | OFlags::DIRECTORY;
        Ok(Self { root: open(root, flags, Mode::empty()).doing(format_args!("open {}", root.display()))? })
    }

    /// What is at `path` in the tree, mounts included.
    fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        openat2(&self.root, path, PLACE, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Whether something is at `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    /// The directory at `path`, made with its parents where it is missing.
    fn directory(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let mut so_far = PathBuf::from("/");
        let mut here = self.find(&so_far).doing("open the node's root")?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            so_far.push(name);
            here = match self.find(&so_far) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    mkdirat(&here, name, Mode::from(0o755))
                        .doing(format_args!("make {} in the node", so_far.display()))?;
                    self.find(&so_far).doing(format_args!("open {} in the node", so_far.display()))?
                }
                Err(error) => return Err(error).doing(format_args!("open {} in the node", so_far.display())),
            };
        }
        Ok(here)
    }

    /// The file at `path`, made with its directory where it is missing.
    fn file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let text = format!("{} cannot be a file", path.display());
            return Err(Failure::new(ErrorKind::InvalidInput, text));
        };
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return other.doing(format_args!("open {} in the node", path.display())),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = openat(self.directory(parent)?, name, flags, Mode::from(0o644));
        drop(made.doing(format_args!("make {} in the node", path.display()))?);
        self.find(path).doing(format_args!("open {} in the node", path.display()))
    }

    /// Mounts a new file system at `path`.
    pub(super) fn mount(&self, kind: &str, path: &Path, flags: MsFlags, data: &str) -> Result<(), Failure> {
        let target = self.directory(path)?;
        mount(Some(kind), path_of(&target).as_str(), Some(kind), flags, Some(data))
            .doing(format_args!("mount {kind} at {} in the node", path.display()))
    }

    /// Makes something of the host appear at `path`.
    pub(super) fn bind(&self, source: &Path, path: &Path) -> Result<(), Failure> {
        let source = open(source, PLACE, Mode::empty()).doing(format_args!("open {}", source.display()))?;
        self.bind_open(&source, path)
    }

    /// As [`bind`](Self::bind), for what is open already.
    pub(super) fn bind_open(&self, source: &OwnedFd, path: &Path) -> Result<(), Failure> {
        let is_directory = statat(source, "", AtFlags::EMPTY_PATH).doing("look at what is to be bound")?;
        let is_directory = FileType::from_raw_mode(is_directory.st_mode) == FileType::Directory;
        let target = if is_directory { self.directory(path)? } else { self.file(path)? };
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(path_of(source).as_str()), path_of(&target).as_str(), NOTHING, flags, NOTHING)
            .doing(format_args!("bind {} in the node", path.display()))
    }

    /// Makes a file of ours appear at `path`, in the place of whatever the tree has there.
    pub(super) fn replace(&self, source: &Path, path: &Path, read_only: bool) -> Result<(), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = self.directory(parent)?;
        // A link, into `/run` for example, would have us bind somewhere else.
        if statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
        {
            unlinkat(&parent, name, AtFlags::empty()).doing(format_args!("replace {} in the node", path.display()))?;
        }
        self.bind(source, path)?;
        if read_only { self.make_top_read_only(path) } else { Ok(()) }
    }

    /// Takes the right to write from what is mounted at `path` and below it.
    pub(super) fn make_read_only(&self, path: &Path) -> Result<(), Failure> {
        let doing = || format!("make {} in the node read-only", path.display());
        let found = self.find(path).doing(doing())?;
        let real = fs::read_link(path_of(&found)).doing(doing())?;
        let table = mounts::table().doing(doing())?;
        for mount in table.iter().filter(|mount| mount.point.starts_with(&real)) {
            mounts::make_read_only(&mount.point).doing(doing())?;
        }
        Ok(())
    }

    /// Takes the right to write from what is mounted at `path`, and not from what is below it.
    pub(super) fn make_top_read_only(&self, path: &Path) -> Result<(), Failure> {
        let place = self.path(path)?;
        mounts::make_read_only(Path::new(&place)).doing(format_args!("make {} read-only", path.display()))
    }

    /// The path by which the kernel finds what is at `path` now.
    pub(super) fn path(&self, path: &Path) -> Result<String, Failure> {
        let doing = || format!("open {} in the node", path.display());
        let found = self.find(path).doing(doing())?;
        let real = fs::read_link(path_of(&found)).doing(doing())?;
        real.into_os_string().into_string().map_err(|_| Failure::new(ErrorKind::Failed, doing()))
    }

    /// Makes a symbolic link, if nothing is there.
    pub(super) fn link(&self, pointee: &str, path: &Path) -> Result<(), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        match rustix::fs::symlinkat(pointee, self.directory(parent)?, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(io::Error::from(error)).doing(format_args!("make {} in the node", path.display())),
        }
    }
}
