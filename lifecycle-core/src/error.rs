//! The error that every plugin returns: what went wrong, doing what, to what, and whether trying again can help.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Result of a plugin's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[non_exhaustive]
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ErrorKind {
    /// The subject does not exist.
    NotFound,
    /// The subject is in a state that does not allow the operation, or somebody else changed it meanwhile.
    Conflict,
    /// An object that is not ours stands where ours should.
    Foreign,
    /// The request itself is wrong.
    InvalidInput,
    /// The plugin, kernel or daemon cannot do this at all.
    Unsupported,
    /// The plugin may not do this.
    PermissionDenied,
    /// The request never reached the other side: nothing happened.
    Unreachable,
    /// No answer in time: it may have happened.
    Timeout,
    /// The connection broke while waiting: it may have happened.
    Interrupted,
    /// Memory, disk, addresses, tags, processes or descriptors ran out.
    Exhausted,
    /// The image is missing and cannot or may not be fetched.
    ImageUnavailable,
    /// A newer controller has taken over: this one must stop acting.
    Fenced,
    /// Stored data is damaged or was written by a newer version.
    Corrupt,
    /// The operation ran and failed.
    Failed,
}

impl ErrorKind {
    /// Whether the operation may have taken effect, so that the truth has to be read before anything else is tried.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Timeout | Self::Interrupted)
    }

    /// Whether the other side could not be reached: such a failure is nobody's attempt.
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Self::Unreachable)
    }

    /// Whether the same request can succeed later without anybody changing anything.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Interrupted | Self::Exhausted | Self::Failed | Self::Conflict => {
                true
            }
            Self::NotFound
            | Self::Foreign
            | Self::InvalidInput
            | Self::Unsupported
            | Self::PermissionDenied
            | Self::ImageUnavailable
            | Self::Fenced
            | Self::Corrupt => false,
        }
    }
}

/// A failed operation of a plugin.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation`, saying what happened and, where it helps, what to do.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, subject: String::new(), message: message.into(), source: None }
    }

    /// Names what the operation was about.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of thing went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was about; empty when the operation has no subject.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The whole story on one line: this error and its causes.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let part = error.to_string();
            if !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.chain(), self.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_whole_story() {
        let error = Error::new(ErrorKind::Failed, "create node", "cannot make the namespace")
            .about("r1")
            .because(std::io::Error::other("no space left"));
        assert_eq!(error.to_string(), "create node r1: cannot make the namespace");
        assert_eq!(error.chain(), "create node r1: cannot make the namespace: no space left");
        assert!(error.source().is_some());
    }

    #[test]
    fn unknown_and_unreachable_are_different() {
        for kind in <ErrorKind as strum::VariantArray>::VARIANTS {
            assert!(!(kind.is_unknown() && kind.is_unreachable()), "{kind}");
            assert!(!kind.is_unknown() || kind.may_pass(), "{kind}");
        }
    }
}
