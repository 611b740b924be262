//! What SQLite's and the system's errors mean here, and what to do about them.

use std::io;
use std::path::Path;

use lifecycle_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// The error of an operation on the database at `path`.
pub(crate) fn of_sqlite(operation: &'static str, path: &Path, error: rusqlite::Error) -> Error {
    let (kind, message) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Conflict, "another program keeps the database locked; nothing was changed. End that program")
        }
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Exhausted, "the disk or the quota is full; nothing was changed. Free some space and try again")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            let advice = "the database cannot be written. Make the state directory and the files in it writable for this \
                          user, or choose another directory";
            (ErrorKind::PermissionDenied, advice)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (ErrorKind::Corrupt, DAMAGED),
        // What a failed write or sync left on the disk is not known until the log is read again. To commit the batch
        // again is right in either case.
        Some(ErrorCode::SystemIoFailure) if operation == "commit" => {
            (ErrorKind::Interrupted, "the disk refused to write; the batch may be on it or not. Check the disk")
        }
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Failed, "the disk refused to read or write. Check the disk"),
        Some(ErrorCode::OutOfMemory) => (ErrorKind::Exhausted, "no memory is left; nothing was changed"),
        Some(ErrorCode::ConstraintViolation) => return of_constraint(operation, path, error),
        _ => (ErrorKind::Failed, "SQLite failed"),
    };
    Error::new(kind, operation, message).about(path.display()).because(error)
}

/// What to do about a database that cannot be read.
pub(crate) const DAMAGED: &str = "the database is damaged. Put a copy of it back, or move the state directory away to \
                                  begin anew; the nodes that run are found again by their marks";

fn of_constraint(operation: &'static str, path: &Path, error: rusqlite::Error) -> Error {
    let extended = error.sqlite_error().map_or(0, |cause| cause.extended_code);
    let text = error.to_string();
    let (kind, message) = match extended {
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
            (ErrorKind::Conflict, taken(&text))
        }
        rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY => (
            ErrorKind::InvalidInput,
            "a row refers to one that is not there: a node or link to its lab, or a link to its nodes",
        ),
        _ => (ErrorKind::InvalidInput, "a row breaks a rule of its table"),
    };
    Error::new(kind, operation, message).about(path.display()).because(error)
}

/// Says in words what is taken, from SQLite's list of columns.
fn taken(text: &str) -> &'static str {
    [
        ("labs.name", "another lab has this name"),
        ("nodes.lab", "another node of the lab has this name"),
        ("links.key", "another link has the same two ends"),
        ("link_ends.node", "another link uses this interface of the node"),
        ("link_ends.host", "another link uses this interface of the host"),
    ]
    .into_iter()
    .find(|(column, _)| text.contains(column))
    .map_or("a row of this key exists", |(_, words)| words)
}

/// The error of an operation on a file or directory.
pub(crate) fn of_file(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "cannot be written. Make the state directory writable for this user, or choose another",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Exhausted, "the disk or the quota is full. Free some space and try again")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            (ErrorKind::InvalidInput, "something else stands where the state directory or its files should")
        }
        _ => (ErrorKind::Failed, "the file system refused"),
    };
    Error::new(kind, operation, message).about(path.display()).because(error)
}
