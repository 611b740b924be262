//! Building a node's root directory in a mount namespace of its own.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use lifecycle_core::error::ErrorKind;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use super::target::Tree;
use super::{Start, device, proc, view};
use crate::failure::{Doing, Failure};
use crate::layout::write_whole;
use crate::spec::{HostBind, Root};

pub(super) const NOTHING: Option<&str> = None;

/// Builds the node's root and makes it the process's own.
pub(super) fn build(start: &Start<'_>) -> Result<(), Failure> {
    let run = &start.file.run;
    let (directory, runtime) = (start.layout.node(&start.file.mark), start.layout.run(&start.file.mark));
    unshare(CloneFlags::CLONE_NEWNS).doing("make a mount namespace")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).doing("make all mounts private")?;
    // What a node's root is made of in pieces holds files as well; else it is only a place to mount at.
    let is_made_of_pieces = run.root == Root::Host && !start.direct;
    let root = if is_made_of_pieces { &directory } else { &runtime }.join("root");
    make_directory(&root, 0o755)?;
    match &run.root {
        Root::Host if start.direct => view::whole_host(&directory, &root)?,
        Root::Host => view::host_in_pieces(&directory, &root, &start.layout.skeleton())?,
        Root::Directory(lower) => view::directory(lower, &directory, &root, !start.direct)?,
    }
    let tree = Tree::open(&root)?;
    if run.root == Root::Host {
        // Nobody else's sockets and temporary files; the latter stay over a restart, the former do not.
        let tmp = directory.join("tmp");
        make_directory(&tmp, 0o1777)?;
        tree.bind(&tmp, Path::new("/tmp"))?;
        tree.mount("tmpfs", Path::new("/run"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
        for hidden in &run.hidden {
            if tree.has(hidden) {
                tree.mount("tmpfs", hidden, MsFlags::MS_RDONLY, "mode=000,size=4k")?;
            }
        }
    }
    proc::mount_all(&tree, start.direct && !run.privileged)?;
    device::mount_all(&tree, run.shm)?;
    for (path, options) in &run.tmpfs {
        let (flags, data) = tmpfs_options(options)?;
        tree.mount("tmpfs", path, flags, &data)?;
    }
    tree.replace(&run.hosts, Path::new("/etc/hosts"), true)?;
    let hostname = format!("{}\n", start.file.hostname);
    for (name, text) in [("hostname", &hostname), ("resolv.conf", &start.file.resolver)] {
        let file = runtime.join(name);
        // What the node wrote into it stays over a restart.
        if !file.exists() {
            write_whole(&file, text.as_bytes()).doing(format_args!("write {}", file.display()))?;
        }
        tree.replace(&file, &Path::new("/etc").join(name), false)?;
    }
    run.binds.iter().try_for_each(|bind| bind_of_host(&tree, bind))?;
    enter(&root)
}

/// A directory with `mode`, whatever the umask.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .doing(format_args!("make {}", path.display()))
}

fn bind_of_host(tree: &Tree, bind: &HostBind) -> Result<(), Failure> {
    let source = super::target::open_beneath(&bind.base, &bind.path)?;
    tree.bind_open(&source, &bind.target)?;
    if bind.read_only { tree.make_read_only(&bind.target) } else { Ok(()) }
}

/// Splits mount options as people write them into flags and what the file system itself understands.
fn tmpfs_options(options: &str) -> Result<(MsFlags, String), Failure> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mut data = Vec::new();
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "suid" => flags.remove(MsFlags::MS_NOSUID),
            "dev" => flags.remove(MsFlags::MS_NODEV),
            "rw" | "exec" | "nosuid" | "nodev" => {}
            _ if ["size=", "mode=", "uid=", "gid=", "nr_inodes="].iter().any(|known| option.starts_with(known)) => {
                data.push(option);
            }
            _ => {
                let text = format!("tmpfs option `{option}` is not supported");
                return Err(Failure::new(ErrorKind::Unsupported, text));
            }
        }
    }
    Ok((flags, data.join(",")))
}

fn enter(root: &Path) -> Result<(), Failure> {
    chdir(root).doing("enter the node's root")?;
    // The old root is stacked on the new one and taken off it again.
    pivot_root(".", ".").doing("make it the root")?;
    umount2(".", MntFlags::MNT_DETACH).doing("let go of the host's root")?;
    chdir("/").doing("enter the node's root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_tmpfs() {
        let (flags, data) = tmpfs_options("size=64m, noexec,mode=1777").unwrap();
        assert!(flags.contains(MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID));
        assert_eq!(data, "size=64m,mode=1777");
        assert!(tmpfs_options("huge=always").unwrap_err().message.contains("huge=always"));
    }
}
