//! Entering a namespace to open a socket there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{NamespaceError, SocketKind, Want};
use crate::identity::netns_cookie;

/// The cookie of the network namespace that the calling thread is in.
///
/// # Errors
/// When no socket can be opened, or the kernel is older than 5.14.
pub fn own_cookie() -> io::Result<u64> {
    netns_cookie(open_socket(SocketKind::Route)?)
}

/// Opens `want` on a thread that enters the namespace and ends; the caller's thread stays where it is.
pub(crate) fn on_own_thread(
    ns: BorrowedFd<'_>,
    cookie: Option<u64>,
    want: &[Want],
) -> Result<Vec<OwnedFd>, NamespaceError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".into())
            .spawn_scoped(scope, || inside(ns, cookie, want))
            .map_err(|source| NamespaceError::Enter { source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Opens `want` on the calling thread and comes back. Only for a process with a single thread, where nobody can see the
/// detour and where starting a thread would get in the way of `fork` and `unshare`.
pub(crate) fn on_this_thread(
    ns: BorrowedFd<'_>,
    cookie: Option<u64>,
    want: &[Want],
) -> Result<Vec<OwnedFd>, NamespaceError> {
    let home = File::open("/proc/thread-self/ns/net").map_err(|source| NamespaceError::Enter { source })?;
    let opened = inside(ns, cookie, want);
    if let Err(error) = setns(&home, CloneFlags::CLONE_NEWNET) {
        // Going on would open every later socket in the wrong namespace; that must not look like success.
        panic!("cannot return to the own network namespace: {error}");
    }
    opened
}

/// Enters the namespace and opens `want`, leaving the thread there.
fn inside(ns: BorrowedFd<'_>, cookie: Option<u64>, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
    let enter = |source| NamespaceError::Enter { source };
    setns(ns, CloneFlags::CLONE_NEWNET).map_err(|errno| enter(errno.into()))?;
    if let Some(expected) = cookie {
        let found = own_cookie().map_err(enter)?;
        if found != expected {
            return Err(NamespaceError::Replaced { expected, found });
        }
    }
    let open = |want: &Want| match want {
        Want::Namespace => ns.as_fd().try_clone_to_owned(),
        Want::Socket(kind) => open_socket(*kind),
    };
    want.iter().map(open).collect::<io::Result<_>>().map_err(enter)
}

/// Opens a socket in the namespace of the calling thread.
pub(super) fn open_socket(kind: SocketKind) -> io::Result<OwnedFd> {
    let (family, protocol) = match kind {
        SocketKind::Route => (AddressFamily::Netlink, Some(SockProtocol::NetlinkRoute)),
        SocketKind::Packet => (AddressFamily::Packet, None),
    };
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}
