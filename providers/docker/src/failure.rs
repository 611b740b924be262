//! The error inside this crate, and what a daemon's errors mean to the engine.

use std::fmt;
use std::io;

use bollard::errors::Error as Cause;
use lifecycle_core::{Error, ErrorKind};

/// What went wrong: a kind, a sentence, and the cause where there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub message: String,
    cause: Option<Cause>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// The error that callers of the provider see.
    pub(crate) fn during(self, operation: &'static str, subject: impl fmt::Display) -> Error {
        let error = Error::new(self.kind, operation, self.message).about(subject);
        match self.cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }

    /// The same failure as that of a call which asks and changes nothing: without an answer, nothing happened.
    pub(crate) fn of_reading(mut self) -> Self {
        if self.kind.is_unknown() {
            self.kind = ErrorKind::Unreachable;
        }
        self
    }

    /// Whether the connection may be at fault, so that the next call had better make a new one.
    pub(crate) const fn is_of_connection(&self) -> bool {
        self.kind.is_unknown() || self.kind.is_unreachable()
    }

    /// The status that the daemon answered with.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.cause {
            Some(Cause::DockerResponseServerError { status_code, message }) => Some(meant(*status_code, message)),
            _ => None,
        }
    }

    /// Whether the answer cannot be read because it tells of a container whose process has ended, and of which Podman has not
    /// taken that down yet: it has a word of its own for this moment.
    pub(crate) fn is_of_just_ended(&self) -> bool {
        matches!(&self.cause, Some(Cause::JsonDataError { message, .. }) if message.contains("`stopped`"))
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        let (kind, message) = match &cause {
            Cause::DockerResponseServerError { status_code, message } => (of_status(*status_code, message), message),
            Cause::RequestTimeoutError => return late(),
            Cause::SocketNotFoundError(path) => {
                return Self::new(ErrorKind::Unreachable, format!("there is no socket {path}; is the daemon running?"));
            }
            Cause::HyperLegacyError { err } if err.is_connect() => {
                let text = format!("the daemon cannot be reached: {}", root(&cause));
                return Self { kind: ErrorKind::Unreachable, message: text, cause: Some(cause) };
            }
            Cause::HyperLegacyError { .. } | Cause::HyperResponseError { .. } => {
                let text = format!("the connection broke before the answer came: {}", root(&cause));
                return Self { kind: ErrorKind::Interrupted, message: text, cause: Some(cause) };
            }
            Cause::IOError { err } => {
                let text = format!("the connection broke: {err}");
                let refused = matches!(err.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
                let kind = if refused { ErrorKind::Unreachable } else { ErrorKind::Interrupted };
                return Self { kind, message: text, cause: Some(cause) };
            }
            _ => return Self { kind: ErrorKind::Failed, message: cause.to_string(), cause: Some(cause) },
        };
        let message = message.trim().to_owned();
        Self { kind, message, cause: Some(cause) }
    }
}

/// No answer in time.
pub(crate) fn late() -> Failure {
    Failure::new(ErrorKind::Timeout, "the daemon did not answer in time")
}

/// What is at the bottom of an error.
fn root(error: &Cause) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The status of an answer as Docker gives it. Podman 4 says 500 where Docker tells names that are taken and containers that are
/// gone.
fn meant(status: u16, message: &str) -> u16 {
    match status {
        500 if message.contains("that name is already in use") => 409,
        500 if message.contains("no such container") || message.contains("no container with") => 404,
        _ => status,
    }
}

/// What the status of an answer means to the engine.
fn of_status(status: u16, message: &str) -> ErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match meant(status, message) {
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        _ if says(&["no space left on device", "cannot allocate memory", "too many open files"]) => {
            ErrorKind::Exhausted
        }
        401 => ErrorKind::PermissionDenied,
        403 if says(&["overlap"]) => ErrorKind::Conflict,
        403 => ErrorKind::PermissionDenied,
        400..=499 => ErrorKind::InvalidInput,
        // The daemon itself, or what stands between us and it, is going down or coming up.
        502..=504 => ErrorKind::Interrupted,
        _ => ErrorKind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_kind() {
        let failure = |status_code, message: &str| {
            Failure::from(Cause::DockerResponseServerError { status_code, message: message.to_owned() })
        };
        for (status, message, kind) in [
            (400, "bad parameter", ErrorKind::InvalidInput),
            (404, "No such container", ErrorKind::NotFound),
            (409, "already in use", ErrorKind::Conflict),
            (403, "Pool overlaps with other one on this address space", ErrorKind::Conflict),
            (500, "write /x: no space left on device", ErrorKind::Exhausted),
            (500, "something", ErrorKind::Failed),
            (500, "the name \"n\" is in use by 1: that name is already in use", ErrorKind::Conflict),
            (500, "container 1 does not exist in database: no such container", ErrorKind::NotFound),
            (503, "shutting down", ErrorKind::Interrupted),
        ] {
            assert_eq!(failure(status, message).kind, kind, "{status} {message}");
        }
        let error = failure(500, " no such runtime\n").during("start node", "r1");
        assert_eq!(error.to_string(), "start node r1: no such runtime");
        assert!(std::error::Error::source(&error).is_some(), "the cause is kept");
    }

    #[test]
    fn a_call_that_only_asks_is_never_of_unknown_effect() {
        assert!(late().kind.is_unknown());
        assert_eq!(late().of_reading().kind, ErrorKind::Unreachable);
        assert_eq!(Failure::new(ErrorKind::NotFound, "").of_reading().kind, ErrorKind::NotFound);
    }
}
