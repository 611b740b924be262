//! The node init: pid 1 of a node's process namespace.
//!
//! It builds what the node sees ([`root`]), runs its command ([`command`]), writes what that prints into bounded files
//! ([`log`]), reaps, and serves whoever connects to its socket ([`serve`]): commands to run beside ([`session`]),
//! terminals ([`terminal`]), and the wish to stop. It listens itself, rather than behind the keeper, so that all this
//! works on while the keeper is gone; and what a node printed is read from the files, which stay when it has ended.
//!
//! Before it ends it writes down how its command ended. No record means that nobody knows, never that all was well.

mod command;
mod device;
mod log;
mod proc;
mod root;
mod serve;
mod session;
mod target;
mod terminal;
mod user;
mod view;

pub(crate) use log::{LOG, OLDER_LOG};

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{Mode, OFlags, open};

use crate::crash::crash_point;
use crate::failure::{Doing, Failure};
use crate::keeper::{Report, Reporter};
use crate::layout::Layout;
use crate::process::set_name;
use crate::spec::NodeFile;

/// What an init is born with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) file: &'a NodeFile,
    pub(crate) layout: &'a Layout,
    /// Whether the keeper is root of the host.
    pub(crate) direct: bool,
    /// Number of descriptors that the node's processes may have open.
    pub(crate) descriptors: u64,
    pub(crate) listener: &'a UnixListener,
    /// A byte arrives on it once it is written down which process this is.
    pub(crate) go: &'a UnixStream,
    pub(crate) reporter: Reporter<'a>,
}

/// An init's life; returns its exit code, which means nothing.
pub(crate) fn main(start: &Start<'_>) -> i32 {
    let mut byte = [0];
    if !matches!((&mut &*start.go).read(&mut byte), Ok(1)) {
        // Nobody wrote down that we exist, so we must not.
        return 1;
    }
    set_name(&format!("lc:{}", start.file.hostname));
    let result = prepare(start).and_then(|state| serve::run(start, state));
    match result {
        Ok(()) => 0,
        Err(failure) => {
            start.reporter.say(&Report::Failed(failure));
            1
        }
    }
}

/// Builds the node's root and enters it. Returns the directory of its files, which cannot be seen from inside.
fn prepare(start: &Start<'_>) -> Result<OwnedFd, Failure> {
    let directory = start.layout.node(&start.file.mark);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let state = open(&directory, flags, Mode::empty()).doing(format_args!("open {}", directory.display()))?;
    root::build(start)?;
    crash_point("init-mounted");
    Ok(state)
}
