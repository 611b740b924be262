//! Descriptors inside network namespaces, without moving a thread of the runtime into one.
//!
//! All link code works on descriptors and never asks whether it is root: [`NamespaceAccess`] opens them, either on a
//! thread of its own that enters the namespace (a privileged process), or through a [`broker`] that lives in the
//! right user namespace and passes them over a unix socket (an ordinary user's process).

pub mod broker;
mod error;
mod fresh;
mod open;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lifecycle_core::attach::{NsAccess, NsRef};
use lifecycle_core::time::BootId;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

pub use error::NamespaceError;
pub use fresh::FreshNamespace;
pub use open::own_cookie;

use crate::identity::boot_id;
use broker::Broker;
use open::Opener;

/// A kind of socket that can be opened inside a namespace. All are close-on-exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// Route netlink (`AF_NETLINK`, `NETLINK_ROUTE`); serves interface ioctls, ethtool's included, as well.
    Route,
    /// Raw packets (`AF_PACKET`), bound to no protocol yet, so that it receives nothing until it is bound.
    Packet,
    /// UDP over IPv4, not bound to anything yet.
    Udp,
}

/// A descriptor that is wanted of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// The namespace itself, as the kernel takes it in `IFLA_NET_NS_FD` and `setns`.
    Namespace,
    /// A socket opened inside it.
    Socket(SocketKind),
    /// `/dev/net/tun` opened inside it: what becomes a tap is in the namespace of whoever opened it.
    Tun,
}

/// Opens descriptors in namespaces. Made once and shared: it keeps a connection to each broker, and a thread that enters
/// namespaces once one has to be entered.
#[derive(Debug, Default)]
pub struct NamespaceAccess {
    brokers: Mutex<HashMap<PathBuf, Arc<Broker>>>,
    enter: Enter,
    boot: OnceLock<BootId>,
}

/// Which thread enters a namespace.
#[derive(Debug)]
enum Enter {
    /// One that does nothing else, started when it is needed first.
    Opener(Mutex<Option<Opener>>),
    /// The caller's, which belongs to the namespace in the file.
    Caller(OnceLock<File>),
}

impl Default for Enter {
    fn default() -> Self {
        Self::Opener(Mutex::default())
    }
}

impl NamespaceAccess {
    /// An access without connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An access that enters namespaces on the calling thread and comes back, which saves the hand-over to another one.
    /// Only for a caller with a thread of its own, always the same and always in the same namespace: never one of a
    /// runtime.
    pub fn on_calling_thread() -> Self {
        Self { enter: Enter::Caller(OnceLock::new()), ..Self::default() }
    }

    /// Opens a socket inside `ns`. Blocks for some tens of microseconds; see [`NamespaceAccess::open_all`].
    ///
    /// # Errors
    /// As [`NamespaceAccess::open_all`].
    pub fn open(&self, ns: &NsRef, kind: SocketKind) -> Result<OwnedFd, NamespaceError> {
        self.one(ns, Want::Socket(kind))
    }

    /// Opens the namespace itself.
    ///
    /// # Errors
    /// As [`NamespaceAccess::open_all`].
    pub fn open_ns(&self, ns: &NsRef) -> Result<OwnedFd, NamespaceError> {
        self.one(ns, Want::Namespace)
    }

    fn one(&self, ns: &NsRef, want: Want) -> Result<OwnedFd, NamespaceError> {
        let mut all = self.open_all(ns, &[want])?;
        all.pop().ok_or(NamespaceError::Answer { problem: "no descriptor came back".into() })
    }

    /// Opens several descriptors of one namespace at once, in the order asked for.
    ///
    /// Blocks until a broker has answered, at most [`broker::TIMEOUT`]; not for a runtime's thread.
    ///
    /// # Errors
    /// [`NamespaceError::Gone`] when the namespace no longer exists or its reference is of another boot;
    /// [`NamespaceError::Replaced`] when another one stands in its place; the other kinds when it cannot be reached.
    pub fn open_all(&self, ns: &NsRef, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
        if ns.boot != self.boot()? {
            return Err(NamespaceError::Gone { reason: format!("it belongs to boot {}", ns.boot) });
        }
        match &ns.access {
            NsAccess::Path { path } => {
                let file = File::open(path).map_err(|source| error::of_path(path, source))?;
                if fstatfs(&file).is_ok_and(|found| found.filesystem_type() != NSFS_MAGIC) {
                    let reason = format!("{} is not a namespace any more", path.display());
                    return Err(NamespaceError::Gone { reason });
                }
                self.open_inside(file.into(), Some(ns.cookie), want)
            }
            NsAccess::Broker { socket, name } => self.broker(socket)?.open(name, Some(ns.cookie), want),
        }
    }

    /// Opens several descriptors of a namespace that is itself given as a descriptor, in the order asked for.
    ///
    /// # Errors
    /// [`NamespaceError::Enter`] when this process may not enter the namespace.
    ///
    /// # Panics
    /// When the kernel refuses the way back to a thread that is the caller's.
    pub fn open_inside(&self, ns: OwnedFd, cookie: Option<u64>, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
        let opener = match &self.enter {
            Enter::Opener(opener) => opener,
            Enter::Caller(home) => {
                let home = match home.get() {
                    Some(home) => home,
                    None => {
                        let found = open::home().map_err(|source| NamespaceError::Enter { source })?;
                        home.get_or_init(|| found)
                    }
                };
                return open::there_and_back(home, ns.as_fd(), cookie, want);
            }
        };
        let mut opener = opener.lock().unwrap_or_else(PoisonError::into_inner);
        let opener = match &mut *opener {
            Some(opener) => opener,
            none => none.insert(Opener::start().map_err(|source| NamespaceError::Enter { source })?),
        };
        opener.open(ns, cookie, want)
    }

    /// The running boot, which a process does not outlive.
    fn boot(&self) -> Result<BootId, NamespaceError> {
        match self.boot.get() {
            Some(boot) => Ok(*boot),
            None => {
                let boot = boot_id().map_err(|source| NamespaceError::Enter { source })?;
                Ok(*self.boot.get_or_init(|| boot))
            }
        }
    }

    /// The connection to the broker at `socket`, made now if there is none yet.
    ///
    /// # Errors
    /// [`NamespaceError::Unreachable`] when nobody answers there.
    pub fn broker(&self, socket: &Path) -> Result<Arc<Broker>, NamespaceError> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = brokers.get(socket) {
            return Ok(Arc::clone(broker));
        }
        let broker = Arc::new(Broker::connect(socket)?);
        brokers.insert(socket.to_owned(), Arc::clone(&broker));
        Ok(broker)
    }
}
