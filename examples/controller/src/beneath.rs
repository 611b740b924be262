//! Files beneath a directory that somebody else may own: no step to them follows a link out of it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

/// What a file is called until it is complete.
const UNFINISHED: &str = ".unfinished";

/// Writes a file beneath `base`, for its owner alone, in directories that are made when missing. Whoever reads the file
/// meanwhile finds the old one or the new one, whole.
///
/// # Errors
/// When a directory on the way is something else, a link to one included, or the file cannot be written.
pub(crate) fn write(base: &Path, directories: &[&str], file: &str, contents: &[u8]) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut at: OwnedFd = openat(CWD, base, flags, Mode::empty())?;
    for name in directories {
        match mkdirat(&at, *name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat(&at, *name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let unfinished = format!("{UNFINISHED}-{file}");
    let written = fill(&at, &unfinished, contents).and_then(|()| Ok(renameat(&at, &unfinished, &at, file)?));
    if written.is_err() {
        let _ = unlinkat(&at, &unfinished, rustix::fs::AtFlags::empty());
    }
    written
}

fn fill(directory: &OwnedFd, name: &str, contents: &[u8]) -> io::Result<()> {
    // One that an earlier try left behind is nobody's.
    let _ = unlinkat(directory, name, rustix::fs::AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(directory, name, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_written_again_and_again() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("clab-ring/r1/startup-config");
        for text in ["one", "two"] {
            write(base.path(), &["clab-ring", "r1"], "startup-config", text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn no_link_leads_out() {
        let (base, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(other.path(), base.path().join("clab-ring")).unwrap();
        assert!(write(base.path(), &["clab-ring", "r1"], "startup-config", b"x").is_err());
        fs::create_dir_all(base.path().join("clab-mesh/r1")).unwrap();
        let target = other.path().join("precious");
        fs::write(&target, "old").unwrap();
        symlink(&target, base.path().join("clab-mesh/r1/startup-config")).unwrap();
        write(base.path(), &["clab-mesh", "r1"], "startup-config", b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old", "the link was replaced, not followed");
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    }
}
