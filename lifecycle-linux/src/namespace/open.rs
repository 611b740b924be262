//! Entering a namespace to open a socket there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;

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

/// Opens `want` on the calling thread and comes back. Only for a process with a single thread, where nobody can see the
/// detour and where starting a thread would get in the way of `fork` and `unshare`.
pub(crate) fn on_this_thread(
    ns: BorrowedFd<'_>,
    cookie: Option<u64>,
    want: &[Want],
) -> Result<Vec<OwnedFd>, NamespaceError> {
    let home = home().map_err(|source| NamespaceError::Enter { source })?;
    there_and_back(&home, ns, cookie, want)
}

/// The network namespace of the calling thread.
pub(super) fn home() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

pub(super) fn there_and_back(
    home: &File,
    ns: BorrowedFd<'_>,
    cookie: Option<u64>,
    want: &[Want],
) -> Result<Vec<OwnedFd>, NamespaceError> {
    // Who may not enter has not left, and need not return, which would be refused as well.
    setns(ns, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Enter { source: errno.into() })?;
    let opened = open_here(ns, cookie, want);
    if let Err(error) = setns(home, CloneFlags::CLONE_NEWNET) {
        // Going on would open every later socket in the wrong namespace; that must not look like success.
        panic!("cannot return to the own network namespace: {error}");
    }
    opened
}

/// A thread that does nothing but enter namespaces and come back. It ends with this handle.
#[derive(Debug)]
pub(super) struct Opener {
    errands: mpsc::Sender<Errand>,
}

struct Errand {
    ns: OwnedFd,
    cookie: Option<u64>,
    want: Vec<Want>,
    reply: mpsc::Sender<Result<Vec<OwnedFd>, NamespaceError>>,
}

impl Opener {
    pub(super) fn start() -> io::Result<Self> {
        let (errands, inbox) = mpsc::channel::<Errand>();
        let run = move || {
            let Ok(home) = home() else { return };
            for Errand { ns, cookie, want, reply } in inbox {
                // Whoever asked may have gone; what was opened is closed then.
                let _ = reply.send(there_and_back(&home, ns.as_fd(), cookie, &want));
            }
        };
        std::thread::Builder::new().name("namespaces".into()).spawn(run)?;
        Ok(Self { errands })
    }

    pub(super) fn open(&self, ns: OwnedFd, cookie: Option<u64>, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
        let (reply, answer) = mpsc::channel();
        // A thread that has ended drops the errand, and with it the only sender of an answer.
        let _ = self.errands.send(Errand { ns, cookie, want: want.to_vec(), reply });
        let ended = |_| NamespaceError::Enter { source: io::Error::other("the thread that enters namespaces ended") };
        answer.recv().map_err(ended)?
    }
}

/// Opens `want` in the namespace that the thread is in now.
fn open_here(ns: BorrowedFd<'_>, cookie: Option<u64>, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
    let enter = |source| NamespaceError::Enter { source };
    let open = |want: &Want| match want {
        Want::Namespace => ns.as_fd().try_clone_to_owned(),
        Want::Socket(kind) => open_socket(*kind),
        Want::Tun => Ok(File::options().read(true).write(true).open("/dev/net/tun")?.into()),
    };
    let opened: Vec<OwnedFd> = want.iter().map(open).collect::<io::Result<_>>().map_err(enter)?;
    if let Some(expected) = cookie {
        // Any socket opened here tells the cookie; only without one another has to be opened for it.
        let socket = want.iter().position(|want| matches!(want, Want::Socket(_)));
        let found = socket.map_or_else(own_cookie, |index| netns_cookie(&opened[index])).map_err(enter)?;
        if found != expected {
            return Err(NamespaceError::Replaced { expected, found });
        }
    }
    Ok(opened)
}

/// Opens a socket in the namespace of the calling thread.
pub(super) fn open_socket(kind: SocketKind) -> io::Result<OwnedFd> {
    let (family, of, protocol) = match kind {
        SocketKind::Route => (AddressFamily::Netlink, SockType::Raw, Some(SockProtocol::NetlinkRoute)),
        SocketKind::Packet => (AddressFamily::Packet, SockType::Raw, None),
        SocketKind::Udp => (AddressFamily::Inet, SockType::Datagram, None),
    };
    Ok(socket(family, of, SockFlag::SOCK_CLOEXEC, protocol)?)
}
