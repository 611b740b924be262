//! Pins: files that hold namespaces so that they outlive the keeper. Only root has them.
//!
//! They lie in a directory of the host's mount namespace which is a private mount of its own, and the keeper lives in a
//! mount namespace without it. So neither other processes' copies of the mount table nor those of the nodes, which are
//! copies of the keeper's, grow with the number of nodes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::namespaces::{KINDS, Namespaces};
use crate::failure::{Doing, Failure};
use crate::layout::{Mark, absent_is_fine};
use crate::mounts::Mount;

const NOTHING: Option<&str> = None;

/// The directory of pins and the way to it.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    host: OwnedFd,
    own: OwnedFd,
    watch: Inotify,
}

impl Pins {
    /// Prepares the directory, and moves the calling process into a mount namespace that does not show it.
    pub(super) fn prepare(directory: PathBuf) -> Result<Self, Failure> {
        fs::create_dir_all(&directory).doing("make the directory of pins")?;
        let host = mount_namespace()?;
        // A second mount over the first would hide what it holds.
        if !is_mount_point(&directory).doing("read the mount table")? {
            mount(Some(&directory), &directory, NOTHING, MsFlags::MS_BIND, NOTHING).doing("mount the pins")?;
        }
        mount(NOTHING, &directory, NOTHING, MsFlags::MS_PRIVATE, NOTHING).doing("make the pins a private mount")?;
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).doing("watch the pins")?;
        watch.add_watch(&directory, AddWatchFlags::IN_DELETE).doing("watch the pins")?;
        unshare(CloneFlags::CLONE_NEWNS).doing("make the keeper's mount namespace")?;
        // As a slave it still sees what the host mounts later, for the nodes' binds.
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING).doing("detach from the host")?;
        forget_pins(&directory).doing("leave the pins to the host")?;
        Ok(Self { directory, host, own: mount_namespace()?, watch })
    }

    /// The descriptor on which deletions show.
    pub(super) const fn watch(&self) -> &Inotify {
        &self.watch
    }

    /// Whose pins were deleted; nothing when that cannot be told.
    pub(super) fn deleted(&self) -> Option<Vec<Mark>> {
        let mut marks = Vec::new();
        for event in self.watch.read_events().ok()? {
            let name = event.name?.into_string().ok()?;
            marks.extend(name.rsplit_once('.').and_then(|(stem, _)| stem.parse::<Mark>().ok()));
        }
        marks.sort_unstable();
        marks.dedup();
        Some(marks)
    }

    /// Paths of an instance's pins, in the order of [`KINDS`].
    pub(super) fn paths(&self, mark: &Mark) -> [PathBuf; 3] {
        KINDS.map(|(name, _)| self.directory.join(format!("{mark}.{name}")))
    }

    /// Runs `f` where the pins can be seen.
    ///
    /// # Panics
    /// When the kernel refuses the way back.
    pub(super) fn at_host<T>(&self, f: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let result = setns(&self.host, CloneFlags::CLONE_NEWNS).doing("enter the host's mount namespace");
        let result = result.and_then(|()| f());
        if let Err(error) = setns(&self.own, CloneFlags::CLONE_NEWNS) {
            panic!("cannot return to the own mount namespace: {error}");
        }
        result
    }

    /// Makes the pins that are not there.
    pub(super) fn pin(&self, mark: &Mark, namespaces: &Namespaces) -> Result<(), Failure> {
        self.at_host(|| {
            for (path, fd) in self.paths(mark).iter().zip(&namespaces.fds) {
                if is_pin(path) {
                    continue;
                }
                let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
                File::create(path).doing(format_args!("make {}", path.display()))?;
                mount(Some(source.as_str()), path, NOTHING, MsFlags::MS_BIND, NOTHING)
                    .doing(format_args!("pin a namespace at {}", path.display()))?;
            }
            Ok(())
        })
    }

    /// Those of `marks` of which a pin is missing.
    pub(super) fn missing(&self, mut marks: Vec<Mark>) -> Vec<Mark> {
        let look = || {
            marks.retain(|mark| !self.paths(mark).iter().all(|path| is_pin(path)));
            Ok(marks)
        };
        self.at_host(look).unwrap_or_default()
    }

    /// Removes the pins that are there.
    pub(super) fn unpin(&self, mark: &Mark) -> Result<(), Failure> {
        self.at_host(|| {
            for path in self.paths(mark) {
                if is_pin(&path) {
                    umount2(&path, MntFlags::MNT_DETACH).doing(format_args!("unpin {}", path.display()))?;
                }
                absent_is_fine(fs::remove_file(&path)).doing(format_args!("remove {}", path.display()))?;
            }
            Ok(())
        })
    }

    /// Removes the directory; called when no instance is left.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        self.at_host(|| {
            umount2(&self.directory, MntFlags::MNT_DETACH).doing("unmount the directory of pins")?;
            fs::remove_dir(&self.directory).doing("remove the directory of pins")
        })
    }
}

/// Takes all pins out of the mount namespace that this process is alone in: ours, other controllers' and other
/// programs'. Every node's mount namespace is a copy of it, and would be made and searched with all of them.
fn forget_pins(own: &Path) -> io::Result<()> {
    umount2(own, MntFlags::MNT_DETACH)?;
    let table = crate::mounts::table()?;
    let is_pin = |mount: &Mount| mount.kind == "nsfs";
    let directories: BTreeSet<&Path> =
        table.iter().filter(|mount| is_pin(mount)).filter_map(|mount| mount.point.parent()).collect();
    for directory in directories {
        let mut below = table.iter().filter(|mount| mount.point != directory && mount.point.starts_with(directory));
        let whole = table.iter().any(|mount| mount.point == directory) && below.clone().all(is_pin);
        // Where nothing but pins is mounted, they go at once with the directory that they are in.
        let points: Vec<&Path> = if whole {
            vec![directory]
        } else {
            below.by_ref().filter(|m| is_pin(m)).map(|m| m.point.as_path()).collect()
        };
        for point in points {
            match umount2(point, MntFlags::MNT_DETACH) {
                // Covered by another mount, and so in nobody's way; or gone with one above.
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn mount_namespace() -> Result<OwnedFd, Failure> {
    Ok(File::open("/proc/self/ns/mnt").doing("open the keeper's mount namespace")?.into())
}

fn is_pin(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(path)?;
    Ok(crate::mounts::table()?.iter().any(|mount| mount.point == path))
}
