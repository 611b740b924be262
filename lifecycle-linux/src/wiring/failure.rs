//! Turning refusals of the kernel, and of whatever else a backend talks to, into the errors that the engine understands.

use std::error::Error as StdError;
use std::fmt;

use lifecycle_core::error::{Error, ErrorKind};
use nix::errno::Errno;

use crate::namespace::NamespaceError;
use crate::netlink::NetlinkError;

/// A failure before it is known which operation it ends.
#[derive(Debug)]
pub struct Failure {
    kind: ErrorKind,
    message: String,
    /// The namespace that it happened in does not exist any more.
    gone: bool,
    source: Option<Cause>,
}

/// What work of a backend comes to.
pub type Outcome<T> = Result<T, Failure>;

/// A cause of any type.
#[derive(Debug)]
struct Cause(Box<dyn StdError + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl Failure {
    /// A failure without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), gone: false, source: None }
    }

    /// What the backend, the kernel or a daemon cannot do at all.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failure with its cause.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { source: Some(Cause(source.into())), ..Self::new(kind, message) }
    }

    /// The same in other words.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// The same for another link that shares it, with the cause as part of the message.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { gone: self.gone, ..Self::new(self.kind, self.to_string()) }
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether somebody else changed what was relied on.
    pub fn is_conflict(&self) -> bool {
        self.kind == ErrorKind::Conflict
    }

    /// Whether the namespace that it happened in does not exist any more.
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Names the operation and what it was about.
    pub fn of(self, operation: &'static str, subject: impl fmt::Display) -> Error {
        let error = Error::new(self.kind, operation, self.message).about(subject);
        match self.source {
            None => error,
            Some(source) => error.because(source),
        }
    }
}

/// The message and its cause.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl From<NamespaceError> for Failure {
    fn from(source: NamespaceError) -> Self {
        let gone = source.is_gone();
        let (kind, message) = match &source {
            // The place went while somebody was about to use it; its node will get another one.
            _ if gone => (ErrorKind::Conflict, "the network namespace does not exist any more"),
            NamespaceError::Unreachable { .. } => (ErrorKind::Unreachable, "the keeper of the namespace is not there"),
            NamespaceError::Enter { source } | NamespaceError::File { source, .. } => {
                (of_errno(source.raw_os_error().map(Errno::from_raw)), "the network namespace cannot be entered")
            }
            NamespaceError::Refused { source, .. } => {
                (of_errno(source.raw_os_error().map(Errno::from_raw)), "the keeper of the namespace refused")
            }
            _ => (ErrorKind::Failed, "the keeper of the namespace is not understood"),
        };
        Self { gone, ..Self::caused(kind, message, source) }
    }
}

impl From<NetlinkError> for Failure {
    fn from(source: NetlinkError) -> Self {
        let kind = match &source {
            NetlinkError::Socket { .. } => ErrorKind::Interrupted,
            error => of_errno(error.errno()),
        };
        let message = match source.errno() {
            Some(Errno::EXFULL) => {
                "the bridge is full: a Linux bridge has 1,023 ports at most; use more bridges, or ovs"
            }
            _ => "the kernel refused",
        };
        Self::caused(kind, message, source)
    }
}

impl From<std::io::Error> for Failure {
    fn from(source: std::io::Error) -> Self {
        let kind = of_errno(source.raw_os_error().map(Errno::from_raw));
        Self::caused(kind, "the system refused", source)
    }
}

fn of_errno(errno: Option<Errno>) -> ErrorKind {
    match errno {
        Some(Errno::EPERM | Errno::EACCES) => ErrorKind::PermissionDenied,
        Some(
            Errno::ENOMEM
            | Errno::ENOBUFS
            | Errno::ENOSPC
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::EUSERS
            | Errno::EXFULL,
        ) => ErrorKind::Exhausted,
        Some(Errno::EOPNOTSUPP) => ErrorKind::Unsupported,
        Some(Errno::EINVAL | Errno::ERANGE) => ErrorKind::InvalidInput,
        // Something appeared or went between looking and acting.
        Some(Errno::EEXIST | Errno::ENODEV | Errno::ENOENT | Errno::EBUSY) => ErrorKind::Conflict,
        _ => ErrorKind::Failed,
    }
}
