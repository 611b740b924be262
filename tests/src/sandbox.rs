//! A folder in which the `lifecycle` command runs with a state of its own, as root or as an ordinary user.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::census::{self, Census, eventually_or};

/// The ordinary user as whom root runs tests.
const ORDINARY: u32 = 1000;
/// Time for anything that should take a second or two.
pub const LONG: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// As whom the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root.
    Root,
    /// An ordinary user; whoever runs the tests, unless that is root.
    Ordinary,
}

/// A folder in which the `lifecycle` command runs.
#[derive(Debug)]
pub struct Sandbox {
    folder: PathBuf,
    mark: String,
    user: User,
    before: BTreeSet<String>,
    _remove: tempfile::TempDir,
}

impl Sandbox {
    /// A fresh one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    pub fn new(user: User) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("lce2e{}x{number}z", std::process::id());
        let remove = tempfile::Builder::new().prefix("lc").tempdir_in("/tmp").unwrap();
        let folder = remove.path().to_owned();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        for part in ["run", "home", "lab"] {
            let path = folder.join(part);
            fs::create_dir(&path).unwrap();
            let mode = if part == "run" { 0o700 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            if user == User::Ordinary && nix::unistd::geteuid().is_root() {
                chown(&path, Some(ORDINARY), Some(ORDINARY)).unwrap();
            }
        }
        if user == User::Root {
            // A network of its own: what a test of root's does to "the host" is done there, and tests do not meet.
            ip(&["netns", "add", &mark]);
            ip(&["-n", &mark, "link", "set", "lo", "up"]);
        }
        let before = census::interfaces(user == User::Root, &mark);
        Self { folder, mark, user, before, _remove: remove }
    }

    /// Runs `ip` in what is the host's network to this sandbox.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) {
        assert_eq!(self.user, User::Root, "an ordinary user has no hold on the host's network");
        ip(&[&["-n", self.mark.as_str()], arguments].concat());
    }

    /// The file of what is the host's network to a sandbox of root's.
    pub fn network(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.mark)
    }

    /// The folder of lab files.
    pub fn labs(&self) -> PathBuf {
        self.folder.join("lab")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("home/state")
    }

    /// The runtime directory, where the controller wrote it down.
    pub fn runtime(&self) -> Option<PathBuf> {
        let note = fs::read_to_string(self.state().join("runtime-dir")).ok()?;
        Some(PathBuf::from(note.trim_end()))
    }

    /// Mounts below the sandbox or its runtime directory, as lines of `/proc/self/mounts`.
    pub fn mounts(&self) -> Vec<String> {
        let folders: Vec<String> = [Some(self.folder.clone()), self.runtime()]
            .into_iter()
            .flatten()
            .map(|it| it.display().to_string())
            .collect();
        census::mounts(&folders)
    }

    /// Writes a lab file and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.labs().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The command with its environment, ready for arguments.
    pub fn command(&self) -> Command {
        let program = program();
        let mut command = if self.user == User::Ordinary && nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}"), "--clear-groups".to_owned()]);
            command.arg(program);
            command
        } else if self.user == User::Root {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{}", self.mark)).arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env("HOME", self.folder.join("home"))
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env("LIFECYCLE_STATE_DIR", self.state())
            .env("LIFECYCLE_E2E", &self.mark)
            .env_remove("RUST_BACKTRACE")
            .current_dir(self.labs())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs the command and returns what it printed.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "lifecycle {arguments:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Runs the command and returns the JSON that it printed.
    ///
    /// # Panics
    /// When it does not succeed, or prints something else.
    #[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}")).unwrap()
    }

    /// Runs the command, which must end with `code`, and returns what it said.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "lifecycle {arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Starts the command and lets it run.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Running<'_> {
        self.spawn_with(&[], arguments)
    }

    /// Starts the command with more in its environment and lets it run.
    ///
    /// # Panics
    /// When it cannot be started.
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    pub fn spawn_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Running<'_> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command();
        command.envs(environment.iter().copied()).args(arguments);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Running { child, sandbox: self }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    /// What spawned commands printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts a controller and waits until it serves.
    pub fn serve(&self) -> Running<'_> {
        self.serve_with(&[])
    }

    /// Starts a controller with more in its environment and waits until it serves.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> Running<'_> {
        let served = || self.log().matches("serving the state directory").count();
        let before = served();
        let running = self.spawn_with(environment, &["serve"]);
        let explain = || format!("the controller serves:\n{}", self.log());
        eventually_or(LONG, explain, || (served() > before).then_some(()));
        running
    }

    /// All labs, each with its `name`, `nodes` and `links`.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn all_labs(&self) -> Vec<Value> {
        match self.json(&["inspect", "-a"]) {
            Value::Array(labs) => labs,
            Value::Null => Vec::new(),
            lab => vec![lab],
        }
    }

    /// The one lab that there is; null when there is none.
    pub fn lab(&self) -> Value {
        self.all_labs().into_iter().next().unwrap_or_default()
    }

    /// The processes of the sandbox, nodes' own commands excepted.
    pub fn processes(&self) -> Vec<(i32, String)> {
        census::processes(&self.mark)
    }

    /// Everything that is left.
    pub fn census(&self) -> Census {
        census::take(self.mounts(), &self.mark, self.user == User::Root, &self.before)
    }

    /// Waits until nothing is left.
    ///
    /// # Panics
    /// When something stays, or something in a controller panicked, which it survives but says in its log.
    pub fn assert_clean(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "{log}");
        let began = std::time::Instant::now();
        loop {
            let census = self.census();
            if census.is_empty() {
                return;
            }
            assert!(began.elapsed() < LONG, "something was left: {census:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A test that failed leaves a lab behind; its processes are ended one by one, by their mark.
        for _ in 0..3 {
            for (pid, _) in census::processes(&self.mark) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for line in self.mounts().iter().rev() {
            let _ = Command::new("umount").arg("-l").args(line.split(' ').nth(1)).status();
        }
        if let Some(runtime) = self.runtime() {
            let _ = fs::remove_dir_all(runtime);
        }
        if self.user == User::Root {
            let _ = Command::new("ip").args(["netns", "delete", &self.mark]).status();
        }
    }
}

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}: {status}");
}

/// The `lifecycle` binary beside the test's own.
///
/// # Panics
/// When it was not built.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("lifecycle");
    assert!(program.is_file(), "{} is missing: run `cargo build --workspace --bins` first", program.display());
    program
}

/// A command that runs.
#[derive(Debug)]
pub struct Running<'a> {
    child: Child,
    sandbox: &'a Sandbox,
}

impl Running<'_> {
    /// Sends a signal and waits for the end; the exit code, if it had one.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
        self.wait()
    }

    /// Waits for the end; the exit code, if it had one.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> Option<i32> {
        let (pid, sandbox) = (self.child.id(), self.sandbox);
        let explain = || format!("process {pid} ends:\n{}", sandbox.log());
        let status = eventually_or(LONG, explain, || self.child.try_wait().ok().flatten());
        status.code()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it has printed something.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn until_printed(&self, text: &str) {
        eventually_or(
            LONG,
            || format!("`{text}` is printed:\n{}", self.sandbox.log()),
            || self.sandbox.log().contains(text).then_some(()),
        );
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
