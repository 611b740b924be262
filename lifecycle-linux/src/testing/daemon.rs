//! What daemons of a test's own have in common: a directory, a network and a mount namespace, one process, and somebody who
//! removes all that they leave, in whatever way the test program ends.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::FreshNamespace;

/// Time for a daemon to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon. It panics when it does not do what it is asked for: then a test cannot go on.
#[derive(Debug)]
pub(super) struct Daemon {
    directory: PathBuf,
    namespace: PathBuf,
    _own: Option<FreshNamespace>,
    process: Option<Child>,
    undertaker: Child,
}

#[track_caller]
pub(super) fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// The first of some programs that is not installed.
pub(super) fn lacking<'a>(programs: &[&'a str]) -> Option<&'a str> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&paths).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    programs.iter().copied().find(|program| !folders.iter().any(|folder| folder.join(program).is_file()))
}

pub(super) fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

/// Runs a command; what it printed.
///
/// # Errors
/// What it said when it failed.
pub(super) fn answer(command: &mut Command) -> Result<String, String> {
    let output = must(command.output());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Daemon {
    /// Arranges a daemon that is yet to be started, in the network namespace with a file, or in one of its own.
    ///
    /// Its directory is called after `prefix`, and short, since sockets lie deep in it. `undertaker` is a script that prints
    /// a line when the view of files in its mount namespace, which is the daemon's, is arranged; then waits until nobody
    /// holds its standard input, and removes everything. It finds the directory in `DIRECTORY`, and what else is to be
    /// known in `environment`.
    pub(super) fn arrange(
        prefix: &str,
        namespace: Option<PathBuf>,
        undertaker: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let own = namespace.is_none().then(|| must(FreshNamespace::new()));
        let file = |own: &FreshNamespace| format!("/proc/{}/fd/{}", std::process::id(), own.ns.as_raw_fd()).into();
        let namespace = namespace.or_else(|| own.as_ref().map(file)).unwrap_or_default();
        let directory = must(tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp")).keep();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", undertaker]);
        command.env("DIRECTORY", &directory).envs(environment.iter().copied());
        let mut undertaker = must(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn());
        let mut said = String::new();
        let output = undertaker.stdout.take().unwrap_or_else(|| panic!("no output"));
        must(BufReader::new(output).read_line(&mut said));
        assert_eq!(said.trim(), "ready", "the daemon's files cannot be arranged");
        Self { directory, namespace, _own: own, process: None, undertaker }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file of its network namespace.
    pub(super) fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// A command in its network namespace.
    pub(super) fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command
    }

    /// Starts it by a command with its arguments and waits until it answers.
    pub(super) fn start(&mut self, daemon: &Command, mut answers: impl FnMut() -> bool) {
        let log = must(std::fs::OpenOptions::new().create(true).append(true).open(self.path("daemon.log")));
        let mut command = self.inside();
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.undertaker.id()));
        command.arg(daemon.get_program()).args(daemon.get_args());
        command.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(must(log.try_clone())).stderr(log);
        self.process = Some(must(command.spawn()));
        let began = Instant::now();
        while !answers() {
            assert!(began.elapsed() < PATIENCE, "it does not come up: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it said last.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(super) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap_or_else(|| panic!("it does not run"));
        must(kill(Pid::from_raw(must(i32::try_from(process.id()))), signal));
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Asks it to end, and waits.
    pub(super) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if let Some(mut process) = self.process.take() {
            must(process.wait());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
    }
}
