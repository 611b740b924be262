//! Where a controller keeps its state, its runtime files and its socket.
//!
//! The state directory names the controller: two of them are two independent controllers. The runtime directory holds
//! sockets, whose paths end at 108 bytes, so it is short whatever the state directory is called. It depends on the
//! environment of whoever starts the controller first; so its path is written down in the state directory, for those who
//! come later with another environment.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure, Result};

/// File in the state directory that holds the path of the runtime directory.
const RUNTIME_NOTE: &str = "runtime-dir";
/// The socket that commands talk to, in the runtime directory.
const SOCKET: &str = "api.sock";

/// What decides about places when nobody says anything.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The user that the process acts as.
    pub uid: u32,
    /// `HOME`.
    pub home: Option<OsString>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<OsString>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            uid: rustix::process::geteuid().as_raw(),
            home: variable("HOME"),
            state_home: variable("XDG_STATE_HOME"),
            runtime_dir: variable("XDG_RUNTIME_DIR"),
        }
    }

    /// The state directory: the user's, or the system's for root.
    ///
    /// # Errors
    /// When nothing says where the user's files are.
    pub fn state_dir(&self) -> Result<PathBuf> {
        if self.uid == 0 {
            return Ok("/var/lib/lifecycle".into());
        }
        let absolute = |path: &OsString| Path::new(path).is_absolute();
        let base = match (&self.state_home, &self.home) {
            (Some(state), _) if absolute(state) => PathBuf::from(state),
            (_, Some(home)) if absolute(home) => Path::new(home).join(".local/state"),
            _ => {
                let message = "there is no place for the state: neither XDG_STATE_HOME nor HOME is set; give one with \
                               --state-dir or LIFECYCLE_STATE_DIR";
                return Err(Failure::new(Exit::Usage, message));
            }
        };
        Ok(base.join("lifecycle"))
    }

    /// The directory that holds the runtime directories of all controllers of this user.
    fn runtime_base(&self) -> PathBuf {
        if self.uid == 0 && Path::new("/run").is_dir() {
            return "/run/lifecycle".into();
        }
        let given = self.runtime_dir.as_ref().map(Path::new).filter(|path| path.is_absolute());
        match given.filter(|path| private(path, self.uid).is_ok()) {
            Some(path) => path.join("lifecycle"),
            None => format!("/tmp/lifecycle-{}", self.uid).into(),
        }
    }
}

/// Where one controller keeps its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What outlives a reboot.
    pub state: PathBuf,
    /// Sockets and pins.
    pub runtime: PathBuf,
}

impl Places {
    /// The places of the controller of a state directory; of the default one when none is given. Nothing is made.
    ///
    /// # Errors
    /// When no state directory is given and there is no default.
    pub fn find(state: Option<&Path>, surroundings: &Surroundings) -> Result<Self> {
        let state = match state {
            Some(path) => std::path::absolute(path).map_err(|error| Failure::io("find the state directory", &error))?,
            None => surroundings.state_dir()?,
        };
        // Two spellings of one directory are one controller.
        let state = fs::canonicalize(&state).unwrap_or(state);
        let noted = fs::read_to_string(state.join(RUNTIME_NOTE)).ok().map(|text| PathBuf::from(text.trim_end()));
        let runtime = match noted.filter(|path| private(path, surroundings.uid).is_ok()) {
            Some(path) => path,
            None => surroundings.runtime_base().join(short_hash(&state)),
        };
        Ok(Self { state, runtime })
    }

    /// The socket that commands talk to.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join(SOCKET)
    }

    /// Makes both directories for the user alone, and writes down where the runtime directory is.
    ///
    /// # Errors
    /// When one cannot be made, or is there and somebody else could meddle with it.
    pub fn prepare(state: Option<&Path>, surroundings: &Surroundings) -> Result<Self> {
        let first = Self::find(state, surroundings)?;
        make(&first.state, surroundings.uid)?;
        // Now that it exists, its real path can be told.
        let places = Self::find(Some(&first.state), surroundings)?;
        if let Some(base) = places.runtime.parent() {
            make(base, surroundings.uid)?;
        }
        make(&places.runtime, surroundings.uid)?;
        let note = places.state.join(RUNTIME_NOTE);
        let failed = |error| Failure::io(format_args!("write {}", note.display()), &error);
        fs::write(&note, format!("{}\n", places.runtime.display())).map_err(failed)?;
        Ok(places)
    }
}

/// A name for a state directory that is the same in every version.
fn short_hash(state: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    digest.iter().take(5).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no directory; remove it")]
    NoDirectory,
    #[error("it belongs to user {0}; choose another one")]
    Foreign(u32),
    #[error("others may use it; take their rights away with `chmod 700`, or choose another one")]
    Open,
}

/// Whether a path is a directory, not a link to one, that only `uid` can use.
fn private(path: &Path, uid: u32) -> std::result::Result<(), Unfit> {
    let metadata = fs::symlink_metadata(path)?;
    match () {
        () if !metadata.is_dir() => Err(Unfit::NoDirectory),
        () if metadata.uid() != uid => Err(Unfit::Foreign(metadata.uid())),
        () if metadata.mode() & 0o077 != 0 => Err(Unfit::Open),
        () => Ok(()),
    }
}

/// Makes a directory for one user alone, or checks that it is one.
fn make(path: &Path, uid: u32) -> Result<()> {
    let create = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            ended => ended,
        }
    };
    let usable = create().map_err(Unfit::Io).and_then(|()| private(path, uid));
    usable.map_err(|why| Failure::plain(format!("the directory {} cannot be used: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn surroundings(runtime: Option<&Path>) -> Surroundings {
        Surroundings {
            uid: rustix::process::geteuid().as_raw().max(1),
            home: Some("/home/ann".into()),
            state_home: None,
            runtime_dir: runtime.map(|path| path.as_os_str().to_owned()),
        }
    }

    fn private_dir(uid: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(directory.path(), Some(uid), None).unwrap();
        directory
    }

    #[test]
    fn the_default_state_directory() {
        let user = surroundings(None);
        assert_eq!(user.state_dir().unwrap(), Path::new("/home/ann/.local/state/lifecycle"));
        let xdg = Surroundings { state_home: Some("/state".into()), ..user.clone() };
        assert_eq!(xdg.state_dir().unwrap(), Path::new("/state/lifecycle"));
        let relative = Surroundings { state_home: Some("state".into()), ..user.clone() };
        assert_eq!(relative.state_dir().unwrap(), Path::new("/home/ann/.local/state/lifecycle"));
        let nobody = Surroundings { home: None, ..user.clone() };
        assert_eq!(nobody.state_dir().unwrap_err().exit, Exit::Usage);
        let root = Surroundings { uid: 0, ..user };
        assert_eq!(root.state_dir().unwrap(), Path::new("/var/lib/lifecycle"));
    }

    #[test]
    fn sockets_have_short_paths_and_two_states_two_of_them() {
        let user = surroundings(None);
        let long = PathBuf::from(format!("/{}", "x".repeat(300)));
        let a = Places::find(Some(&long), &user).unwrap();
        let b = Places::find(Some(Path::new("/other")), &user).unwrap();
        assert!(a.socket().as_os_str().len() < 60, "{a:?}");
        assert_ne!(a.socket(), b.socket());
        assert_eq!(a, Places::find(Some(&long), &user).unwrap());
    }

    #[test]
    fn only_a_private_runtime_directory_is_taken() {
        let user = surroundings(None);
        let directory = private_dir(user.uid);
        let with = surroundings(Some(directory.path()));
        assert!(with.runtime_base().starts_with(directory.path()));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(with.runtime_base(), PathBuf::from(format!("/tmp/lifecycle-{}", user.uid)));
        let stranger = Surroundings { uid: user.uid + 1, ..with };
        assert_eq!(stranger.runtime_base(), PathBuf::from(format!("/tmp/lifecycle-{}", user.uid + 1)));
    }

    #[test]
    fn who_comes_later_finds_the_runtime_directory() {
        let uid = rustix::process::geteuid().as_raw();
        let (state, runtime) = (private_dir(uid), private_dir(uid));
        // Root has a place of its own, so the note is what this is about.
        let noted = runtime.path().join("first");
        DirBuilder::new().mode(0o700).create(&noted).unwrap();
        fs::write(state.path().join(RUNTIME_NOTE), format!("{}\n", noted.display())).unwrap();
        let later = Surroundings { uid, ..Surroundings::default() };
        assert_eq!(Places::find(Some(state.path()), &later).unwrap().runtime, noted);
        fs::remove_dir(&noted).unwrap();
        assert_ne!(Places::find(Some(state.path()), &later).unwrap().runtime, noted);
    }

    #[test]
    fn directories_that_others_could_meddle_with_are_refused() {
        let uid = rustix::process::geteuid().as_raw();
        let directory = private_dir(uid);
        let path = directory.path().join("a/b");
        make(&path, uid).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(make(&path, uid).unwrap_err().message.contains("chmod 700"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(make(&link, uid).unwrap_err().message.contains("no directory"));
        assert!(make(&directory.path().join("c"), uid + 1).unwrap_err().message.contains("belongs to user"));
    }
}
