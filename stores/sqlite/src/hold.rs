//! The exclusive hold of a state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifecycle_core::{Error, ErrorKind, Result};

use crate::failure;

/// Name of the lock file in the state directory. The file stays; the lock on it goes with its holder.
const FILE: &str = "lock";

/// How long a lock is waited for whose holder does not live any more: a child that it was just starting when it was killed
/// keeps the lock until it executes its program.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(refused(error)),
                Err(TryLockError::WouldBlock) => match holder(&mut file) {
                    None if began.elapsed() < PATIENCE => sleep(Duration::from_millis(20)),
                    holder => return Err(held(directory, holder)),
                },
            }
        }
        // Who holds it is written for people only: the lock itself is what counts.
        file.set_len(0).and_then(|()| file.rewind()).map_err(refused)?;
        write!(file, "{} {owner}", std::process::id()).map_err(refused)?;
        Ok(Self { file })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Closing the file ends the lock anyhow; the note must not outlive it.
        drop(self.file.set_len(0));
        // Explicitly, since a child that is just being started shares the open file until it executes its program.
        drop(self.file.unlock());
    }
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Who the note in the lock file says holds it, if that process lives.
fn holder(file: &mut File) -> Option<String> {
    let mut note = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut note)).ok()?;
    let (pid, owner) = note.split_once(' ')?;
    // A process that has ended and was not yet waited for runs no program any more.
    let program = Path::new("/proc").join(pid).join("exe").read_link();
    let is_gone = program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    (!is_gone).then(|| format!("process {pid} ({owner})"))
}

fn held(directory: &Path, holder: Option<String>) -> Error {
    let holder = holder.unwrap_or_else(|| "another process".to_owned());
    let message = format!("{holder} holds it; use that one, or stop it first");
    Error::new(ErrorKind::Conflict, "take over", message).about(directory.display())
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
    fn a_lock_whose_holder_is_gone_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut hold = Hold::take(directory.path(), "the first").unwrap();
        // As it is while a child of a killed controller has not executed its program yet.
        hold.file.set_len(0).unwrap();
        hold.file.rewind().unwrap();
        write!(hold.file, "{} the killed", i32::MAX).unwrap();
        let released = std::thread::spawn(move || {
            sleep(Duration::from_millis(200));
            drop(hold);
        });
        let _second = Hold::take(directory.path(), "the second").unwrap();
        let note = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(note, format!("{} the second", std::process::id()));
        released.join().unwrap();
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
