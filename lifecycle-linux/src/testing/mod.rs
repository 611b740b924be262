//! Namespaces for tests on the real kernel, as root and as an ordinary user. Needs the feature `testing`.
//!
//! A test program without harness calls [`hook`] on the first line of `main`. Its tests then get namespaces from a
//! [`Ground`], which they need not know the kind of, and run once more as an ordinary user through
//! [`as_ordinary_user`]. Those of network backends find places to connect in [`Nodes`].

pub mod container_daemon;
mod daemon;
pub mod guest;
pub mod halves;
pub mod hosts;
pub mod libvirt;
mod nodes;
pub mod open_tap;
pub mod open_vswitch;
pub mod traffic;

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use lifecycle_core::attach::{NsAccess, NsRef};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use nix::unistd::{getegid, geteuid};
use tempfile::TempDir;

pub use nodes::{Nodes, controller, name, number};

use crate::identity::{boot_id, netns_cookie};
use crate::namespace::broker::{Answered, Broker, HOME, answer};
use crate::namespace::{FreshNamespace, NamespaceError, SocketKind, Want};

/// Tells a started copy of the test program that it is to be a broker.
const BROKER: &str = "LIFECYCLE_TESTING_BROKER";
/// Asks the broker to forget a namespace, so that nothing of the broker keeps it alive.
const FORGET: &str = "forget:";
/// User and group of the ordinary user; they need no entry anywhere.
const ORDINARY: u32 = 65_432;

/// Where a test gets its namespaces from. All are gone with it.
#[derive(Debug)]
pub struct Ground {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Direct { all: Mutex<HashMap<String, FreshNamespace>>, directory: TempDir },
    Brokered { broker: Broker, socket: PathBuf, helper: Child, _directory: TempDir },
}

impl Ground {
    /// Namespaces of this process, reached by path; for root.
    ///
    /// # Errors
    /// When no directory for the paths can be made.
    pub fn direct() -> io::Result<Self> {
        Ok(Self { kind: Kind::Direct { all: Mutex::default(), directory: tempfile::tempdir()? } })
    }

    /// Namespaces of a helper in a user namespace of its own, reached through its broker; for anybody.
    ///
    /// # Errors
    /// When the program lacks the [`hook`] or user namespaces are not allowed.
    pub fn brokered() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("broker");
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(&path)?)?;
        listen(&listener, Backlog::new(64)?)?;
        let helper = Command::new(std::env::current_exe()?)
            .env(BROKER, "1")
            .stdin(listener)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let broker = Broker::connect(&path).map_err(io::Error::other)?;
        Ok(Self { kind: Kind::Brokered { broker, socket: path, helper, _directory: directory } })
    }

    /// The kind that suits the user: [`Ground::direct`] for root.
    ///
    /// # Errors
    /// As [`Ground::brokered`].
    pub fn suitable() -> io::Result<Self> {
        if geteuid().is_root() { Self::direct() } else { Self::brokered() }
    }

    /// Whether the namespaces are reached through a broker.
    pub fn is_brokered(&self) -> bool {
        matches!(self.kind, Kind::Brokered { .. })
    }

    /// The namespace called `name`, made at the first call.
    ///
    /// # Errors
    /// When none can be made.
    pub fn namespace(&self, name: &str) -> io::Result<NsRef> {
        let (access, cookie) = match &self.kind {
            Kind::Direct { all, directory } => {
                let path = directory.path().join(format!("ns-{name}"));
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if !all.contains_key(name) {
                    let namespace = FreshNamespace::new()?;
                    let descriptor = format!("/proc/{}/fd/{}", std::process::id(), namespace.ns.as_raw_fd());
                    symlink(descriptor, &path)?;
                    all.insert(name.to_owned(), namespace);
                }
                (NsAccess::Path { path }, netns_cookie(&all[name].route)?)
            }
            Kind::Brokered { broker, socket, .. } => {
                let route = broker.open(name, None, &[Want::Socket(SocketKind::Route)]).map_err(io::Error::other)?;
                let cookie = route.first().map(netns_cookie).transpose()?.unwrap_or_default();
                (NsAccess::Broker { socket: socket.clone(), name: name.to_owned() }, cookie)
            }
        };
        Ok(NsRef { access, cookie, boot: boot_id()? })
    }

    /// The namespace that the broker lives in; a fresh one of ours when there is no broker.
    ///
    /// # Errors
    /// As [`Ground::namespace`].
    pub fn home(&self) -> io::Result<NsRef> {
        self.namespace(HOME)
    }

    /// Lets go of the namespace called `name`; it dies unless somebody else holds it.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        match &self.kind {
            Kind::Direct { all, directory } => {
                fs::remove_file(directory.path().join(format!("ns-{name}")))?;
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                Ok(())
            }
            Kind::Brokered { broker, .. } => match broker.open(&format!("{FORGET}{name}"), None, &[]) {
                Err(NamespaceError::Gone { .. }) => Ok(()),
                Ok(_) => Err(io::Error::other("the broker did not forget")),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Kind::Brokered { helper, .. } = &mut self.kind {
            // It ends by itself once its output is closed; a failure here would only hide the test's own.
            drop(helper.stdout.take());
            let _ = helper.wait();
        }
    }
}

/// Makes this process a broker if [`Ground::brokered`] started it; never returns then.
///
/// # Panics
/// In the broker, when it cannot do its work: the test that needs it fails then.
pub fn hook() {
    if std::env::var_os(BROKER).is_some() {
        if let Err(error) = serve() {
            panic!("the test's broker failed: {error}");
        }
        std::process::exit(0);
    }
}

#[allow(unsafe_code)]
fn serve() -> io::Result<()> {
    // SAFETY: the process was started with this descriptor as its standard input, which nothing else here uses.
    let listener = unsafe { OwnedFd::from_raw_fd(0) };
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let home = fs::File::open("/proc/self/ns/net")?;
    let mut namespaces: HashMap<String, OwnedFd> = HashMap::new();
    let mut clients: Vec<OwnedFd> = Vec::new();
    let output = io::stdout();
    loop {
        let mut fds = vec![
            // A pipe without reader reports an error, which needs no asking for.
            PollFd::new(output.as_fd(), PollFlags::empty()),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(clients.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        poll(&mut fds, PollTimeout::NONE)?;
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() != Some(false)).collect();
        if ready[0] {
            return Ok(());
        }
        let mut keep = ready[2..].iter();
        clients.retain(|client| {
            if keep.next() != Some(&true) {
                return true;
            }
            let answered = answer(client, |name| {
                if let Some(name) = name.strip_prefix(FORGET) {
                    namespaces.remove(name);
                    return Err(io::ErrorKind::NotFound.into());
                }
                if !namespaces.contains_key(name) {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    let made = fs::File::open("/proc/self/ns/net")?;
                    nix::sched::setns(&home, CloneFlags::CLONE_NEWNET)?;
                    namespaces.insert(name.to_owned(), made.into());
                }
                namespaces[name].try_clone()
            });
            !matches!(answered, Ok(Answered::Closed) | Err(_))
        });
        if ready[1] {
            let client = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
            // SAFETY: the kernel has just made this descriptor and nobody else knows it.
            clients.push(unsafe { OwnedFd::from_raw_fd(client) });
        }
    }
}

/// A command that runs this test program once more as an ordinary user, with a copy of it that the user may execute. The
/// directory must live as long as the command runs.
///
/// # Errors
/// When this process may not change its user, or the program cannot be copied.
pub fn as_ordinary_user() -> io::Result<(Command, TempDir)> {
    if !geteuid().is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root can become another user"));
    }
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let copy = directory.path().join("tests");
    fs::copy(std::env::current_exe()?, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    let mut command = Command::new(copy);
    // The standard library gives up the supplementary groups along with the user.
    command.uid(ORDINARY).gid(ORDINARY).current_dir("/").env_remove("TMPDIR");
    Ok((command, directory))
}
