//! Why a namespace could not be reached.

use std::io;
use std::path::{Path, PathBuf};

/// Why no descriptor could be opened in a namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The namespace does not exist any more. Nothing of what was in it does.
    #[error("the network namespace is gone: {reason}")]
    Gone {
        /// How that is known.
        reason: String,
    },
    /// Something else stands where the namespace was; the one that is meant is gone.
    #[error("another network namespace stands in its place (cookie {found}, expected {expected})")]
    Replaced {
        /// Cookie of the namespace that was meant.
        expected: u64,
        /// Cookie of the one that was found.
        found: u64,
    },
    /// The kernel refused to enter the namespace or to open a socket in it.
    #[error("cannot open a socket in the network namespace")]
    Enter {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file of the namespace cannot be opened, though it may exist.
    #[error("cannot open the namespace file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The broker does not answer; the namespace may be well.
    #[error("cannot reach the namespace broker at {}", socket.display())]
    Unreachable {
        /// The broker's socket.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The broker answered, and refused.
    #[error("the namespace broker refused: {message}")]
    Refused {
        /// The broker's words.
        message: String,
        /// The error number behind them.
        #[source]
        source: io::Error,
    },
    /// The broker's answer makes no sense.
    #[error("cannot understand the namespace broker: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: String,
    },
}

impl NamespaceError {
    /// Whether the namespace that was meant surely exists no more, so that nothing in it can be left over.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Replaced { .. })
    }
}

/// The error for a namespace file that cannot be opened. A missing file means that the process or pin is gone.
pub(crate) fn of_path(path: &Path, source: io::Error) -> NamespaceError {
    if source.kind() == io::ErrorKind::NotFound {
        NamespaceError::Gone { reason: format!("{} does not exist", path.display()) }
    } else {
        NamespaceError::File { path: path.to_owned(), source }
    }
}
