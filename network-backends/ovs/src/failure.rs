//! Turning refusals of the kernel and of the switch into the errors that the engine understands.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_linux::namespace::NamespaceError;
use lifecycle_linux::netlink::NetlinkError;
use nix::errno::Errno;

use crate::ovsdb::ClientError;

/// A failure before it is known which operation it ends.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

#[derive(Debug)]
enum Source {
    Namespace(NamespaceError),
    Netlink(NetlinkError),
    Io(std::io::Error),
    Database(ClientError),
}

pub(crate) type Outcome<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The same in other words.
    pub(crate) fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// The same for another link that shares it, without the cause.
    pub(crate) fn again(&self) -> Self {
        let cause = match &self.source {
            None => String::new(),
            Some(Source::Namespace(source)) => format!(": {source}"),
            Some(Source::Netlink(source)) => format!(": {source}"),
            Some(Source::Io(source)) => format!(": {source}"),
            Some(Source::Database(source)) => format!(": {source}"),
        };
        Self::new(self.kind, format!("{}{cause}", self.message))
    }

    /// Whether somebody else changed what was relied on.
    pub(crate) fn is_conflict(&self) -> bool {
        self.kind == ErrorKind::Conflict
    }

    pub(crate) const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the namespace that it happened in does not exist any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(&self.source, Some(Source::Namespace(error)) if error.is_gone())
    }

    /// Names the operation and what it was about.
    pub(crate) fn of(self, operation: &'static str, subject: impl std::fmt::Display) -> Error {
        let error = Error::new(self.kind, operation, self.message).about(subject);
        match self.source {
            None => error,
            Some(Source::Namespace(source)) => error.because(source),
            Some(Source::Netlink(source)) => error.because(source),
            Some(Source::Io(source)) => error.because(source),
            Some(Source::Database(source)) => error.because(source),
        }
    }
}

impl From<NamespaceError> for Failure {
    fn from(source: NamespaceError) -> Self {
        let (kind, message) = match &source {
            // The place went while somebody was about to use it; its node will get another one.
            error if error.is_gone() => (ErrorKind::Conflict, "the network namespace does not exist any more"),
            NamespaceError::Unreachable { .. } => (ErrorKind::Unreachable, "the keeper of the namespace is not there"),
            NamespaceError::Enter { source } | NamespaceError::File { source, .. } => {
                (of_errno(source.raw_os_error().map(Errno::from_raw)), "the network namespace cannot be entered")
            }
            NamespaceError::Refused { source, .. } => {
                (of_errno(source.raw_os_error().map(Errno::from_raw)), "the keeper of the namespace refused")
            }
            _ => (ErrorKind::Failed, "the keeper of the namespace is not understood"),
        };
        Self { kind, message: message.into(), source: Some(Source::Namespace(source)) }
    }
}

impl From<NetlinkError> for Failure {
    fn from(source: NetlinkError) -> Self {
        let kind = match &source {
            NetlinkError::Socket { .. } => ErrorKind::Interrupted,
            error => of_errno(error.errno()),
        };
        Self { kind, message: "the kernel refused".into(), source: Some(Source::Netlink(source)) }
    }
}

impl From<ClientError> for Failure {
    fn from(source: ClientError) -> Self {
        let (kind, message) = match &source {
            ClientError::Unreachable { .. } => {
                (ErrorKind::Unreachable, "Open vSwitch cannot be reached; is it running?")
            }
            ClientError::Lost => (ErrorKind::Interrupted, "Open vSwitch went away"),
            ClientError::Late(_) => (ErrorKind::Timeout, "Open vSwitch is silent"),
            // Somebody else changed what the transaction relied on.
            ClientError::Refused(refused) if refused.is_outdated() || refused.is_duplicate() => {
                (ErrorKind::Conflict, "somebody else changed the switch meanwhile")
            }
            ClientError::Refused(_) | ClientError::Misunderstood(_) => (ErrorKind::Failed, "Open vSwitch refused"),
        };
        Self { kind, message: message.into(), source: Some(Source::Database(source)) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(source: std::io::Error) -> Self {
        let kind = of_errno(source.raw_os_error().map(Errno::from_raw));
        Self { kind, message: "the system refused".into(), source: Some(Source::Io(source)) }
    }
}

fn of_errno(errno: Option<Errno>) -> ErrorKind {
    match errno {
        Some(Errno::EPERM | Errno::EACCES) => ErrorKind::PermissionDenied,
        Some(Errno::ENOMEM | Errno::ENOBUFS | Errno::ENOSPC | Errno::EMFILE | Errno::ENFILE | Errno::EUSERS) => {
            ErrorKind::Exhausted
        }
        Some(Errno::EOPNOTSUPP) => ErrorKind::Unsupported,
        Some(Errno::EINVAL | Errno::ERANGE) => ErrorKind::InvalidInput,
        // Something appeared or went between looking and acting.
        Some(Errno::EEXIST | Errno::ENODEV | Errno::ENOENT | Errno::EBUSY) => ErrorKind::Conflict,
        _ => ErrorKind::Failed,
    }
}
