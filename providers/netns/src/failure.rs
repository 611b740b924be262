//! The error inside this crate: a kind and a sentence. It crosses process borders, so its causes are words already.

use std::fmt::Display;
use std::io;

use lifecycle_core::error::{Error, ErrorKind};
use nix::libc;
use serde::{Deserialize, Serialize};

/// What went wrong, in a form that the keeper and the inits can send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The error that callers of the provider see.
    pub(crate) fn during(self, operation: &'static str, subject: impl Display) -> Error {
        Error::new(self.kind, operation, self.message).about(subject)
    }
}

/// What the plumbing says, in one sentence.
impl From<lifecycle_linux::wiring::Failure> for Failure {
    fn from(failure: lifecycle_linux::wiring::Failure) -> Self {
        Self::new(failure.kind(), failure.to_string())
    }
}

/// Adds to a kernel's error what was being done.
pub(crate) trait Doing<T> {
    /// Turns the error into "cannot `what`: cause".
    fn doing(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            Failure::new(kind_of(&error), format!("cannot {what}: {error}"))
        })
    }
}

/// What a kernel's error number means to the engine. A missing file is not a missing node, hence no `NotFound`.
fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
        Some(libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::EDQUOT) => {
            ErrorKind::Exhausted
        }
        Some(libc::EROFS) => ErrorKind::Unsupported,
        _ => ErrorKind::Failed,
    }
}
