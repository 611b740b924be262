//! The network, uts and ipc namespaces of one instance, held by descriptors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use lifecycle_linux::namespace::own_cookie;
use lifecycle_linux::netlink::{Change, RouteSocket, Which, change_link};
use nix::sched::{CloneFlags, setns, unshare};

use super::sysctl;
use crate::failure::{Doing, Failure};

/// The kinds that an instance keeps over its restarts, by their names in `/proc/<pid>/ns`.
pub(super) const KINDS: [(&str, CloneFlags); 3] =
    [("net", CloneFlags::CLONE_NEWNET), ("uts", CloneFlags::CLONE_NEWUTS), ("ipc", CloneFlags::CLONE_NEWIPC)];

/// Namespaces by descriptors, in the order of [`KINDS`].
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) fds: [OwnedFd; 3],
    /// Cookie of the network namespace.
    pub(super) cookie: u64,
}

/// The keeper's own, which is the hub.
#[derive(Debug)]
pub(super) struct Home {
    fds: [OwnedFd; 3],
}

/// What new namespaces are given before anything runs in them.
#[derive(Debug)]
pub(super) struct Furnish<'a> {
    pub(super) hostname: &'a str,
    pub(super) sysctls: &'a BTreeMap<String, String>,
}

fn open_all(directory: &Path) -> io::Result<[OwnedFd; 3]> {
    let open = |kind: usize| Ok::<_, io::Error>(File::open(directory.join(KINDS[kind].0))?.into());
    Ok([open(0)?, open(1)?, open(2)?])
}

impl Home {
    /// The namespaces that the calling process is in.
    pub(super) fn here() -> Result<Self, Failure> {
        Ok(Self { fds: open_all(Path::new("/proc/self/ns")).doing("open the keeper's own namespaces")? })
    }

    pub(super) fn net(&self) -> &OwnedFd {
        &self.fds[0]
    }

    /// Runs `inside` after `enter`, and comes back.
    ///
    /// # Panics
    /// When the kernel refuses the way back: everything later would happen in the wrong namespace.
    fn excursion<T>(
        &self,
        enter: impl FnOnce() -> Result<(), Failure>,
        inside: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let result = enter().and_then(|()| inside());
        for (fd, (name, flag)) in self.fds.iter().zip(KINDS) {
            if let Err(error) = setns(fd, flag) {
                panic!("cannot return to the own {name} namespace: {error}");
            }
        }
        result
    }
}

impl Namespaces {
    /// Makes namespaces and furnishes them. With `net`, that network namespace is used and left as it is.
    pub(super) fn create(home: &Home, net: Option<&OwnedFd>, furnish: &Furnish<'_>) -> Result<Self, Failure> {
        let own = net.is_none();
        let enter = || {
            let mut flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
            match net {
                Some(net) => setns(net, CloneFlags::CLONE_NEWNET).doing("enter the shared network namespace")?,
                None => flags |= CloneFlags::CLONE_NEWNET,
            }
            unshare(flags).doing("make namespaces; see `ulimit` and /proc/sys/user/max_*_namespaces")
        };
        home.excursion(enter, || {
            nix::unistd::sethostname(furnish.hostname).doing("set the host name")?;
            for (name, value) in furnish.sysctls {
                sysctl::set(name, value, own)?;
            }
            if own {
                loopback_up().doing("set the loopback interface up")?;
            }
            let fds = open_all(Path::new("/proc/thread-self/ns")).doing("open the new namespaces")?;
            Ok(Self { fds, cookie: own_cookie().doing("read the cookie of the new network namespace")? })
        })
    }

    /// Those that files name: the directory of a process below `/proc`, or pins.
    pub(super) fn open(home: &Home, paths: [&Path; 3]) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = File::open(path).doing(format_args!("open the namespace {}", path.display()))?;
            Ok::<OwnedFd, Failure>(file.into())
        };
        let fds = [open(paths[0])?, open(paths[1])?, open(paths[2])?];
        let cookie = home.excursion(
            || setns(&fds[0], CloneFlags::CLONE_NEWNET).doing("enter a node's network namespace"),
            || own_cookie().doing("read the cookie of a network namespace"),
        )?;
        Ok(Self { fds, cookie })
    }

    pub(super) fn net(&self) -> &OwnedFd {
        &self.fds[0]
    }

    /// Enters all of them, for good.
    pub(super) fn enter(&self) -> Result<(), Failure> {
        for (fd, (name, flag)) in self.fds.iter().zip(KINDS) {
            setns(fd.as_fd(), flag).doing(format_args!("enter the node's {name} namespace"))?;
        }
        Ok(())
    }
}

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Sets `lo` of the calling thread's namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let up = Change { up: Some(true), ..Change::default() };
    RouteSocket::new(fd)?.run(change_link(Which::Index(LOOPBACK), &up)).map_err(io::Error::other)
}
