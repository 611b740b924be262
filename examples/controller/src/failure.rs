//! How a command ends: its exit code, and what went wrong in words that say what to do.

use std::fmt;
use std::process::ExitCode;

use lifecycle_core::error::{Error, ErrorKind};

/// The exit codes of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It failed.
    Failure,
    /// It was called the wrong way.
    Usage,
    /// Some of what was asked was done, some was not.
    Partly,
    /// The state of something does not allow it.
    Conflict,
    /// What it was about does not exist.
    NotFound,
    /// No controller could be reached.
    Unreachable,
    /// It did not come about in time.
    Timeout,
    /// The exit code of a command that ran inside a node.
    Command(u8),
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::Conflict => 4,
            Self::NotFound => 5,
            Self::Unreachable => 6,
            Self::Timeout => 124,
            Self::Command(code) => code,
        }
    }

    /// The exit code that stands for several: their own when they agree, otherwise "partly".
    pub fn all(exits: impl IntoIterator<Item = Self>) -> Self {
        let mut exits = exits.into_iter();
        let first = exits.next().unwrap_or(Self::Ok);
        if exits.all(|exit| exit == first) { first } else { Self::Partly }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do, over several lines if need be.
    pub message: String,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure of the ordinary kind.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// A failure of the input or output of this process, with what was being done.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::plain(format!("cannot {doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Conflict | ErrorKind::Foreign | ErrorKind::Fenced => Exit::Conflict,
            ErrorKind::Unreachable => Exit::Unreachable,
            ErrorKind::Timeout => Exit::Timeout,
            _ => Exit::Failure,
        };
        Self::new(exit, error.chain())
    }
}

/// Result of a command.
pub type Result<T = Exit, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_manual() {
        let codes: Vec<u8> = [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::Partly,
            Exit::Conflict,
            Exit::NotFound,
            Exit::Unreachable,
            Exit::Timeout,
            Exit::Command(42),
        ]
        .map(Exit::code)
        .into();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 124, 42]);
    }

    #[test]
    fn several_ends_are_one() {
        assert_eq!(Exit::all([]), Exit::Ok);
        assert_eq!(Exit::all([Exit::Conflict, Exit::Conflict]), Exit::Conflict);
        assert_eq!(Exit::all([Exit::Ok, Exit::Conflict]), Exit::Partly);
    }
}
