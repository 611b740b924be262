//! The supervisor: the parent of one node's process, which writes down how that ends.
//!
//! It is this program, started again. It outlives the controller, so that nodes do and no exit code is lost; a later
//! controller reads the files it writes.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use lifecycle_core::plugin::provider::ExitRecord;
use lifecycle_core::time::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid};

use crate::files;
use crate::instance::{Mark, Process};

/// First argument of a program that is to be a supervisor; the directory of the instance follows.
const ARGUMENT: &str = "--supervise-node";

/// Becomes a supervisor, if this process was started to be one, and never returns then; returns at once otherwise.
///
/// Programs call it on the first line of `main`, unless they name another helper executable that does.
pub fn helper_main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT)
        && let Some(dir) = arguments.next()
    {
        std::process::exit(i32::from(supervise(Path::new(&dir)).is_err()));
    }
}

/// Starts a supervisor. Its standard input is `lock`, which nothing can be read from: it passes it on to the node, so
/// that the kernel keeps the lock for as long as any of them lives, and not a moment longer.
pub(crate) fn spawn(helper: &Path, dir: &Path, lock: File) -> io::Result<()> {
    let mut command = tokio::process::Command::new(helper);
    command.arg(ARGUMENT).arg(dir).stdin(lock).stdout(Stdio::null()).stderr(Stdio::null());
    // Nothing of the controller's environment is the node's business, and a Ctrl-C at its terminal is not meant for it.
    command.env_clear().process_group(0).spawn().map(drop)
}

fn supervise(dir: &Path) -> io::Result<()> {
    let mark: Mark = files::read(&dir.join("mark"))?.ok_or(io::ErrorKind::NotFound)?;
    let [program, arguments @ ..] = mark.argv.as_slice() else { return Err(io::ErrorKind::InvalidData.into()) };
    let log = File::options().append(true).create(true).open(dir.join("log"))?;
    // Whoever leaves the node's process for good becomes a child of this one.
    set_child_subreaper(Some(getpid()))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(&mark.env).current_dir(dir).process_group(0).stdout(log.try_clone()?).stderr(log);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return files::write(&dir.join("failure"), &format!("cannot run `{program}`: {error}")),
    };
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    files::write(&dir.join("process"), &Process { pid, at: Timestamp::now() })?;
    let status = child.wait()?;
    end_the_rest()?;
    let exit = ExitRecord { code: status.code(), signal: status.signal(), at: Some(Timestamp::now()) };
    files::write(&dir.join("exit"), &exit)
}

/// Ends what the node's process left behind, and what that leaves behind in turn.
fn end_the_rest() -> io::Result<()> {
    loop {
        let children = fs::read_to_string("/proc/thread-self/children")?;
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // Only this process waits for them, so none of the numbers is anybody else's yet.
            kill_process(pid, Signal::KILL)?;
        }
        if waitid(WaitId::All, WaitIdOptions::EXITED).is_err() {
            return Ok(());
        }
    }
}
