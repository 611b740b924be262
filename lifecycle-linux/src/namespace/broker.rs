//! The protocol by which a process without rights gets descriptors of namespaces from one that has them.
//!
//! A broker listens on a unix socket of type `SOCK_SEQPACKET`. Each request is one message with one JSON object
//! ([`Request`]), each reply one message with one JSON object ([`Reply`]) and the descriptors, in the order wanted.
//! Replies come in the order of the requests, and a client may send several requests before it reads. Who may connect
//! is decided by the permissions of the socket's directory.
//!
//! Both objects carry [`VERSION`]. Fields may be added within a version, and readers ignore what they do not know; a
//! broker refuses a version above its own by name and answers older ones in their own form.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::{NamespaceError, Want, open};
use crate::sys::passing::{self, MAX_DESCRIPTORS};

/// Version of the protocol that this crate speaks.
pub const VERSION: u16 = 1;
/// Longest message of either side, in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// How long a client waits for a broker before it counts as unreachable.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The name under which every broker knows the network namespace that it lives in itself.
pub const HOME: &str = "";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Version of the protocol.
    pub version: u16,
    /// The name under which the broker knows the namespace.
    pub namespace: String,
    /// The cookie that the namespace must have; absent when the client does not know it yet.
    pub cookie: Option<u64>,
    /// The descriptors wanted, at most 16.
    pub want: Vec<Want>,
}

/// What a broker answers; on success the descriptors come with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Version of the protocol.
    pub version: u16,
    /// Why nothing came, if so.
    pub refusal: Option<Refusal>,
}

/// Why a broker gives no descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What it means for the namespace.
    pub kind: RefusalKind,
    /// The kernel's error number, or the nearest one.
    pub errno: i32,
    /// The reason in words.
    pub message: String,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// There is no such namespace, or not any more.
    Gone,
    /// Anything else; asking again may help.
    #[serde(other)]
    Failed,
}

/// A client's connection to a broker. Requests of several threads take turns.
#[derive(Debug)]
pub struct Broker {
    path: PathBuf,
    /// None after a failure, until the next request connects again.
    connection: Mutex<Option<OwnedFd>>,
}

impl Broker {
    /// Connects to the broker that listens at `path`.
    ///
    /// # Errors
    /// [`NamespaceError::Unreachable`] when nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, NamespaceError> {
        let connection = dial(path).map_err(|source| NamespaceError::Unreachable { socket: path.into(), source })?;
        Ok(Self { path: path.into(), connection: Mutex::new(Some(connection)) })
    }

    /// Asks for descriptors of the namespace that the broker knows as `namespace`.
    ///
    /// A connection that broke since the last request, because the broker was started anew, is made again once. Opening
    /// changes nothing outside, so that repeating it is safe.
    ///
    /// # Errors
    /// As [`super::NamespaceAccess::open_all`].
    pub fn open(&self, namespace: &str, cookie: Option<u64>, want: &[Want]) -> Result<Vec<OwnedFd>, NamespaceError> {
        let request = Request { version: VERSION, namespace: namespace.into(), cookie, want: want.to_vec() };
        let text = serde_json::to_vec(&request).map_err(garbled)?;
        if text.len() > MAX_MESSAGE || want.len() > MAX_DESCRIPTORS {
            return Err(NamespaceError::Answer { problem: "the request is too long for the protocol".into() });
        }
        let (reply, descriptors) =
            self.exchange(&text).map_err(|source| NamespaceError::Unreachable { socket: self.path.clone(), source })?;
        let reply: Reply = serde_json::from_slice(&reply).map_err(garbled)?;
        match reply.refusal {
            Some(Refusal { kind: RefusalKind::Gone, message, .. }) => Err(NamespaceError::Gone { reason: message }),
            Some(Refusal { kind: RefusalKind::Failed, message, errno }) => {
                Err(NamespaceError::Refused { message, source: io::Error::from_raw_os_error(errno) })
            }
            None if descriptors.len() == want.len() => Ok(descriptors),
            None => Err(NamespaceError::Answer {
                problem: format!("{} descriptors came for {} wanted", descriptors.len(), want.len()),
            }),
        }
    }

    fn exchange(&self, text: &[u8]) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection whose exchange failed is dropped: a late reply on it would answer the wrong request.
        if let Some(connection) = slot.take() {
            match exchange_on(&connection, text) {
                Ok(reply) => {
                    *slot = Some(connection);
                    return Ok(reply);
                }
                Err(error) if is_broken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let connection = dial(&self.path)?;
        let reply = exchange_on(&connection, text)?;
        *slot = Some(connection);
        Ok(reply)
    }
}

/// Whether the error says that the other side closed, rather than that it is slow.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

fn garbled(error: serde_json::Error) -> NamespaceError {
    NamespaceError::Answer { problem: error.to_string() }
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::new(TIMEOUT.as_secs().try_into().unwrap_or(i64::MAX), 0);
    setsockopt(&connection, ReceiveTimeout, &limit)?;
    setsockopt(&connection, SendTimeout, &limit)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(connection)
}

fn exchange_on(connection: &OwnedFd, text: &[u8]) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    passing::send(connection, text, &[], MsgFlags::empty())?;
    let (reply, descriptors) = passing::receive(connection.as_fd(), MAX_MESSAGE)?;
    if reply.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((reply, descriptors)) }
}

/// What [`answer`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The descriptors were sent.
    Served,
    /// A refusal was sent; the text is for the broker's log.
    Refused(String),
    /// The client has closed its connection.
    Closed,
}

/// The broker's side: reads one request from `connection` and answers it.
///
/// `resolve` finds the namespace of a name other than [`HOME`]; it returns an error of kind [`io::ErrorKind::NotFound`] when there is none,
/// which the client takes for proof that the namespace is gone. For a process with a **single thread**: the thread
/// enters the namespace and comes back. Never waits for a client that does not read.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when the connection does not block and no request is there; any other error means that
/// the connection is of no use any more and should be closed.
///
/// # Panics
/// When the kernel refuses the way back into the process's own namespace.
pub fn answer<N: AsFd>(connection: impl AsFd, resolve: impl FnOnce(&str) -> io::Result<N>) -> io::Result<Answered> {
    let (text, _) = passing::receive(connection.as_fd(), MAX_MESSAGE)?;
    if text.is_empty() {
        return Ok(Answered::Closed);
    }
    let result = serve(&text, resolve);
    let (refusal, descriptors) = match result {
        Ok(descriptors) => (None, descriptors),
        // Quoting leaves room for the rest of the reply even if every character is escaped.
        Err(refusal) => (Some(Refusal { message: refusal.message.chars().take(500).collect(), ..refusal }), Vec::new()),
    };
    let message = refusal.as_ref().map(|refusal| refusal.message.clone());
    let reply = serde_json::to_vec(&Reply { version: VERSION, refusal })?;
    passing::send(connection, &reply, &descriptors, MsgFlags::MSG_DONTWAIT)?;
    Ok(message.map_or(Answered::Served, Answered::Refused))
}

fn find<N: AsFd>(name: &str, resolve: impl FnOnce(&str) -> io::Result<N>) -> io::Result<OwnedFd> {
    if name == HOME {
        return Ok(File::open("/proc/thread-self/ns/net")?.into());
    }
    resolve(name)?.as_fd().try_clone_to_owned()
}

fn serve<N: AsFd>(text: &[u8], resolve: impl FnOnce(&str) -> io::Result<N>) -> Result<Vec<OwnedFd>, Refusal> {
    let invalid = |message| Refusal { kind: RefusalKind::Failed, errno: nix::libc::EPROTO, message };
    let request: Request = serde_json::from_slice(text).map_err(|error| invalid(format!("bad request: {error}")))?;
    if request.version > VERSION {
        return Err(invalid(format!("version {} is not known here, the latest is {VERSION}", request.version)));
    }
    if request.want.len() > MAX_DESCRIPTORS {
        return Err(invalid(format!("more than {MAX_DESCRIPTORS} descriptors in one request")));
    }
    let ns = find(&request.namespace, resolve).map_err(|error| {
        let gone = error.kind() == io::ErrorKind::NotFound;
        Refusal {
            kind: if gone { RefusalKind::Gone } else { RefusalKind::Failed },
            errno: error.raw_os_error().unwrap_or(if gone { nix::libc::ENOENT } else { nix::libc::EIO }),
            message: error.to_string(),
        }
    })?;
    open::on_this_thread(ns.as_fd(), request.cookie, &request.want).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        let errno = match &error {
            NamespaceError::Enter { source } => source.raw_os_error(),
            _ => None,
        };
        Refusal {
            kind: if error.is_gone() { RefusalKind::Gone } else { RefusalKind::Failed },
            errno: errno.unwrap_or(nix::libc::EIO),
            message: format!("{error}{cause}"),
        }
    })
}
