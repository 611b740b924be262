//! Starting a node init: a helper process prepares everything that must be done outside of the node, writes down which
//! process the init is, and only then lets it go on.
//!
//! ```text
//! keeper ── fork ──> helper: control groups, lock, socket, namespaces ── fork ──> init (pid 1), waits
//!                    helper: writes run.json, says go, ends                      init: builds the node, says ready
//! ```
//!
//! So there is never an init that a later keeper would not find, and the lock, which the init inherits and holds until
//! it ends, makes sure that there is never a second one.

use std::fs::OpenOptions;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lifecycle_core::error::ErrorKind;
use lifecycle_core::time::{BootId, Timestamp};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::namespaces::Namespaces;
use crate::crash::crash_point;
use crate::failure::{Doing, Failure};
use crate::init;
use crate::layout::{Layout, remove_file, write_json};
use crate::process::{fork_child, set_name, start_time};
use crate::spec::{FILE_VERSION, InitFile, NodeFile};

/// What the helper and the init report to the keeper, one JSON object per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The init exists and is written down.
    Launched,
    /// The node's command runs.
    Ready,
    /// There will be no node.
    Failed(Failure),
}

/// The writing end of reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reporter<'a>(&'a UnixStream);

impl Reporter<'_> {
    /// Reports; a keeper that is gone does not matter, since the next one reads what is written down.
    pub(crate) fn say(mut self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

/// What the helper needs of the keeper.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) layout: &'a Layout,
    pub(super) file: &'a NodeFile,
    pub(super) namespaces: &'a Namespaces,
    /// The hub, for an ordinary user's init to hold.
    pub(super) hub: Option<&'a OwnedFd>,
    pub(super) groups: &'a [PathBuf],
    pub(super) direct: bool,
    pub(super) boot: BootId,
    /// Number of descriptors that processes of the node may have open.
    pub(super) descriptors: u64,
}

impl Launch<'_> {
    /// Starts the init. Its reports, and the end of them, arrive on the returned stream.
    pub(super) fn start(&self) -> Result<UnixStream, Failure> {
        let (reports, theirs) = UnixStream::pair().doing("make a socket pair")?;
        reports.set_nonblocking(true).doing("prepare a socket")?;
        let mut keep: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        keep.extend(self.namespaces.fds.iter().map(AsFd::as_fd));
        keep.extend(self.hub.map(AsFd::as_fd));
        fork_child(&keep, || {
            set_name("lc-start");
            let reporter = Reporter(&theirs);
            match self.help(reporter) {
                Ok(()) => 0,
                Err(failure) => {
                    reporter.say(&Report::Failed(failure));
                    1
                }
            }
        })
        .doing("fork")?;
        Ok(reports)
    }

    /// The helper.
    fn help(&self, reporter: Reporter<'_>) -> Result<(), Failure> {
        let mark = &self.file.mark;
        let (state, run) = (self.layout.node(mark), self.layout.run(mark));
        let Some(lock) = take_lock(&run).doing("lock the node")? else {
            return Err(Failure::new(ErrorKind::Conflict, "the node is being started already; look at it again"));
        };
        crash_point("launch-locked");
        // In this order: what is left of an earlier run must not look like an end that nobody saw.
        remove_file(&run.join(RUN_FILE)).doing("forget the earlier run")?;
        remove_file(&state.join(EXIT_FILE)).doing("forget the earlier run")?;
        cgroup::join(self.groups)?;
        let socket = self.layout.init_socket(mark);
        remove_file(&socket).doing("remove an old socket")?;
        let listener = UnixListener::bind(&socket).doing(format_args!("listen at {}", socket.display()))?;
        self.namespaces.enter()?;
        unshare(CloneFlags::CLONE_NEWPID).doing("make a process namespace")?;
        let (go, said_go) = UnixStream::pair().doing("make a socket pair")?;
        let mut keep = vec![reporter.0.as_fd(), lock.as_fd(), listener.as_fd(), go.as_fd()];
        keep.extend(self.hub.map(AsFd::as_fd));
        let start = init::Start {
            file: self.file,
            layout: self.layout,
            direct: self.direct,
            descriptors: self.descriptors,
            listener: &listener,
            go: &go,
            reporter,
        };
        let init = fork_child(&keep, || init::main(&start)).doing("fork the init")?;
        crash_point("launch-forked");
        let record = InitFile {
            version: FILE_VERSION,
            boot: self.boot,
            pid: init.as_raw(),
            start_time: start_time(init.as_raw()).doing("read the init's start time")?,
            started_at: Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH),
            hub: self.hub.map(AsRawFd::as_raw_fd),
        };
        write_json(&run.join(RUN_FILE), &record).doing("write down which process the init is")?;
        crash_point("launch-recorded");
        reporter.say(&Report::Launched);
        (&said_go).write_all(&[1]).doing("let the init go on")
    }
}

/// Which process the init is, below the directory of [`Layout::run`].
pub(super) const RUN_FILE: &str = "run.json";
/// How it ended, below the directory of [`Layout::node`].
pub(crate) const EXIT_FILE: &str = "exit.json";

/// Takes the lock that an init holds while it lives; nothing when one does.
pub(super) fn take_lock(run: &Path) -> std::io::Result<Option<OwnedFd>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(run.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(error) => match std::io::Error::from(error) {
            error if error.kind() == IoErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}
