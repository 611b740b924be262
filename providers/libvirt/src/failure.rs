//! The error inside this crate, and what libvirt's errors mean to the engine.

use std::fmt;
use std::io;

use lifecycle_core::{Error, ErrorKind};
use virt::error::{Error as Cause, ErrorNumber};

pub(crate) type Outcome<T> = Result<T, Failure>;

/// What went wrong: a kind, a sentence, and the cause where there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The cause as the engine keeps it.
#[derive(Debug)]
struct Kept(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Kept {}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// There is no instance, or none any more.
    pub(crate) fn no_instance() -> Self {
        Self::new(ErrorKind::NotFound, "there is no such instance")
    }

    /// Something about a file, said in a sentence.
    pub(crate) fn of_file(error: io::Error, what: impl fmt::Display) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            _ => ErrorKind::Failed,
        };
        Self { kind, message: format!("{what}: {error}"), cause: Some(Box::new(error)) }
    }

    /// The daemon could not be reached, so nothing happened.
    pub(crate) fn unreachable(cause: Cause) -> Self {
        let message = format!("libvirt's daemon cannot be reached: {}", cause.message().trim());
        Self { kind: ErrorKind::Unreachable, message, cause: Some(Box::new(cause)) }
    }

    /// The connection broke while an answer was waited for.
    pub(crate) fn interrupted(cause: Cause) -> Self {
        let message = format!("the connection to libvirt's daemon broke: {}", cause.message().trim());
        Self { kind: ErrorKind::Interrupted, message, cause: Some(Box::new(cause)) }
    }

    /// The error that callers of the provider see.
    pub(crate) fn during(self, operation: &'static str, subject: impl fmt::Display) -> Error {
        let error = Error::new(self.kind, operation, self.message).about(subject);
        match self.cause {
            Some(cause) => error.because(Kept(cause)),
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

    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

/// What the plumbing says, in one sentence.
impl From<lifecycle_linux::wiring::Failure> for Failure {
    fn from(failure: lifecycle_linux::wiring::Failure) -> Self {
        Self::new(failure.kind(), failure.to_string())
    }
}

/// What a daemon that answers says.
impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        let message = cause.message().trim().to_owned();
        Self { kind: kind(cause.code(), &message), message, cause: Some(Box::new(cause)) }
    }
}

fn kind(code: ErrorNumber, message: &str) -> ErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match code {
        ErrorNumber::NoDomain | ErrorNumber::DeviceMissing => ErrorKind::NotFound,
        ErrorNumber::DomExist | ErrorNumber::OperationInvalid | ErrorNumber::ResourceBusy => ErrorKind::Conflict,
        // A guest's agent that is not there is no matter of the daemon's, which answers.
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentUnsynced => ErrorKind::Conflict,
        ErrorNumber::OperationTimeout | ErrorNumber::AgentCommandTimeout => ErrorKind::Timeout,
        ErrorNumber::NoMemory => ErrorKind::Exhausted,
        _ if says(&["No space left on device", "Cannot allocate memory", "Too many open files"]) => {
            ErrorKind::Exhausted
        }
        ErrorNumber::AuthFailed
        | ErrorNumber::AuthCancelled
        | ErrorNumber::AuthUnavailable
        | ErrorNumber::AccessDenied
        | ErrorNumber::OperationDenied => ErrorKind::PermissionDenied,
        ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::ArgumentUnsupported => {
            ErrorKind::Unsupported
        }
        ErrorNumber::XmlError
        | ErrorNumber::XmlDetail
        | ErrorNumber::XmlInvalidSchema
        | ErrorNumber::InvalidArg
        | ErrorNumber::ConfigUnsupported => ErrorKind::InvalidInput,
        _ => ErrorKind::Failed,
    }
}

/// No answer in time to what was begun.
pub(crate) fn late() -> Failure {
    Failure::new(ErrorKind::Timeout, "libvirt's daemon did not answer in time")
}

/// Nothing, where there is no such thing.
pub(crate) fn optional<T>(answer: Outcome<T>) -> Outcome<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_kinds() {
        for (code, message, expected) in [
            (ErrorNumber::NoDomain, "Domain not found", ErrorKind::NotFound),
            (ErrorNumber::XmlDetail, "expected >", ErrorKind::InvalidInput),
            (ErrorNumber::InternalError, "write: No space left on device", ErrorKind::Exhausted),
            (ErrorNumber::InternalError, "process exited", ErrorKind::Failed),
            (ErrorNumber::OperationInvalid, "domain is not running", ErrorKind::Conflict),
        ] {
            assert_eq!(kind(code, message), expected, "{message}");
        }
    }

    #[test]
    fn a_call_that_only_asks_is_never_of_unknown_effect() {
        assert!(late().kind.is_unknown());
        assert_eq!(late().of_reading().kind, ErrorKind::Unreachable);
        assert!(optional::<()>(Err(Failure::no_instance())).unwrap().is_none());
    }
}
