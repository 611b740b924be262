//! The exclusive hold of a state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use lifecycle_core::{Error, ErrorKind, Result};

use crate::failure;

/// Name of the lock file in the state directory. The file stays; the lock on it goes with its holder.
const FILE: &str = "lock";

/// The hold, for as long as the value lives.
///
/// The lock belongs to the open file, which is closed in every program that a child executes, so that no child keeps it
/// alive.
#[derive(Debug)]
pub(crate) struct Hold {
    file: File,
}

impl Hold {
    /// Takes the hold for `owner`.
    ///
    /// # Errors
    /// `Conflict` when somebody has it, naming the process.
    pub(crate) fn take(directory: &Path, owner: &str) -> Result<Self> {
        const OPERATION: &str = "take over";
        let path = directory.join(FILE);
        let refused = |error| failure::of_file(OPERATION, &path, error);
        let mut file = open(&path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(directory, &mut file)),
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        // Who holds it is written for people only: the lock itself is what counts.
        file.set_len(0).map_err(refused)?;
        write!(file, "{} {owner}", std::process::id()).map_err(refused)?;
        Ok(Self { file })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Closing the file ends the lock anyhow; the note must not outlive it.
        drop(self.file.set_len(0));
    }
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn held(directory: &Path, file: &mut File) -> Error {
    let mut note = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut note));
    let holder = match note.split_once(' ') {
        Some((pid, owner)) if read.is_ok() && Path::new("/proc").join(pid).exists() => {
            format!("process {pid} ({owner}) holds it; use that one, or stop it first")
        }
        _ => "another process holds it; use that one, or stop it first".to_owned(),
    };
    Error::new(ErrorKind::Conflict, "take over", holder).about(directory.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::take(directory.path(), "the first").unwrap();
        let error = Hold::take(directory.path(), "the second").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(&format!("process {} (the first)", std::process::id())), "{error}");
        drop(hold);
        Hold::take(directory.path(), "the second").unwrap();
    }

    #[test]
    fn a_child_does_not_inherit_the_hold() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::take(directory.path(), "the parent").unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(hold);
        let again = Hold::take(directory.path(), "the parent again");
        child.kill().unwrap();
        child.wait().unwrap();
        again.unwrap();
    }
}
