//! A Docker or Podman of a test's own: its directories, its socket, its network and mount namespaces, its processes.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::FreshNamespace;

/// Time for a daemon to come up or to go down.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits until nobody holds its standard input, then removes all that a daemon left: processes that have the mark in the
/// name of their control group or the directory in their command line, control groups, the directory.
const UNDERTAKER: &str = r#"
cat >/dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for process in /proc/[0-9]*; do
        if grep -qsF "$MARK" "$process/cgroup" || tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qsF "$DIRECTORY"; then
            kill -9 "${process#/proc/}" 2>/dev/null && left=1
        fi
    done
    [ -n "$left" ] || break
    sleep 0.1
done
find /sys/fs/cgroup -depth -type d -path "*$MARK*" -exec rmdir {} + 2>/dev/null
grep -F " $DIRECTORY" /proc/self/mounts | cut -d ' ' -f 2 | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf "$DIRECTORY"
"#;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker's.
    Docker,
    /// Podman's, which answers as if it were Docker's.
    Podman,
}

/// A private daemon. It and all its containers are gone when this is dropped, and when the test program ends in whatever
/// way.
///
/// Methods panic when it does not do what it is asked for: then a test cannot go on.
#[derive(Debug)]
pub struct ContainerDaemon {
    kind: Kind,
    directory: PathBuf,
    mark: String,
    namespace: PathBuf,
    _own: Option<FreshNamespace>,
    daemon: Option<Child>,
    undertaker: Option<Child>,
}

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Why no such daemon can be run here, if none can.
pub fn missing(kind: Kind) -> Option<String> {
    let (name, programs, package): (_, &[&str], _) = match kind {
        Kind::Docker => ("Docker", &["dockerd", "containerd", "runc", "docker", "iptables"], "docker.io"),
        Kind::Podman => ("Podman", &["podman", "conmon"], "podman"),
    };
    if !nix::unistd::geteuid().is_root() {
        return Some(format!("only root can run {name}"));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&paths).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    let lacks = |program: &&&str| !folders.iter().any(|folder| folder.join(program).is_file());
    if let Some(program) = programs.iter().find(lacks) {
        return Some(format!("{name} is not installed: no {program} (Debian's package is {package})"));
    }
    busybox().is_none().then(|| "no busybox to make an image of (Debian's package is busybox-static)".to_owned())
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

impl ContainerDaemon {
    /// Starts one in a network namespace of its own.
    pub fn start(kind: Kind) -> Self {
        let own = must(FreshNamespace::new());
        let path = format!("/proc/{}/fd/{}", std::process::id(), own.ns.as_raw_fd());
        Self::start_with(kind, path.into(), Some(own))
    }

    /// Starts one in the network namespace with this file.
    pub fn start_in(kind: Kind, namespace: PathBuf) -> Self {
        Self::start_with(kind, namespace, None)
    }

    fn start_with(kind: Kind, namespace: PathBuf, own: Option<FreshNamespace>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("lctest{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // The undertaker removes it; the path is short, since the daemon's sockets lie deep in it.
        let directory = must(tempfile::Builder::new().prefix("lcd").tempdir_in("/tmp")).keep();
        // Its mount namespace is the daemon's: mounts of containers outlive the daemon and go with the last process.
        let undertaker = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", UNDERTAKER])
            .env("MARK", &mark)
            .env("DIRECTORY", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let undertaker = must(undertaker);
        let mounts = |process: &str| must(std::fs::read_link(format!("/proc/{process}/ns/mnt")));
        while mounts(&undertaker.id().to_string()) == mounts("self") {
            std::thread::sleep(Duration::from_millis(2));
        }
        let undertaker = Some(undertaker);
        // Docker publishes ports on it.
        let inside = Command::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            .args(["ip", "link", "set", "lo", "up"])
            .status();
        assert!(must(inside).success(), "no loopback");
        let mut daemon = Self { kind, directory, mark, namespace, _own: own, daemon: None, undertaker };
        daemon.up();
        daemon
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("d.sock")
    }

    /// Where it listens, as clients are told.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        let undertaker = self.undertaker.as_ref().unwrap_or_else(|| panic!("it was ended"));
        command.arg(format!("--mount=/proc/{}/ns/mnt", undertaker.id()));
        let path = |name: &str| self.directory.join(name);
        match self.kind {
            Kind::Docker => {
                // Without its rules: they drop what crosses any other bridge in the same network namespace.
                command.arg("dockerd").args(["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false"]);
                command.args(["--cgroup-parent", &self.mark, "--host", &self.endpoint()]);
                for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
                    command.arg(option).arg(path(name));
                }
            }
            Kind::Podman => {
                command.arg("podman").args(["--log-level", "warn", "--events-backend", "file"]);
                command.args(["--cgroup-manager", "cgroupfs"]);
                for (option, name) in [("--root", "data"), ("--runroot", "exec"), ("--tmpdir", "tmp")] {
                    command.arg(option).arg(path(name));
                }
                command.args(["system", "service", "--time", "0", &self.endpoint()]);
            }
        }
        let log = must(std::fs::OpenOptions::new().create(true).append(true).open(path("log")));
        command.stdin(Stdio::null()).stdout(must(log.try_clone())).stderr(log);
        let _ = std::fs::remove_file(self.socket());
        // The kernel has killed the daemon's own containerd with it; nobody may have seen that yet.
        for pid in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(path(pid));
        }
        self.daemon = Some(must(command.spawn()));
        let began = Instant::now();
        while UnixStream::connect(self.socket()).is_err()
            || self.client(&["version"]).output().is_ok_and(|it| !it.status.success())
        {
            assert!(began.elapsed() < PATIENCE, "it does not come up: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the daemon said last.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Sends the daemon a signal: `SIGSTOP` hangs it, `SIGCONT` goes on.
    pub fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().unwrap_or_else(|| panic!("it does not run"));
        must(kill(Pid::from_raw(must(i32::try_from(daemon.id()))), signal));
    }

    /// Kills the daemon; its containers go on as far as nobody tends them.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Asks the daemon to end, and waits.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if let Some(mut daemon) = self.daemon.take() {
            must(daemon.wait());
        }
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(match self.kind {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        });
        match self.kind {
            Kind::Docker => drop(command.env("DOCKER_HOST", self.endpoint())),
            Kind::Podman => drop(command.args(["--remote", "--url", &self.endpoint()])),
        }
        command.args(words);
        command
    }

    /// Runs the daemon's command with words; what it printed, or its error.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_run(&self, words: &[&str]) -> Result<String, String> {
        let output = must(self.client(words).output());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs the daemon's command with words.
    pub fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Makes an image of busybox with links for all its applets.
    pub fn import_busybox(&self, name: &str) {
        let root = must(tempfile::tempdir());
        lay_out_busybox(root.path());
        self.import(name, root.path(), r#"["sh"]"#);
    }

    /// Makes an image of a directory, with a command as a list in JSON.
    pub fn import(&self, name: &str, root: &Path, command: &str) {
        let archive = archive(root);
        let mut import = self.client(&["import", "--change", &format!("CMD {command}"), "-", name]);
        let mut import = must(import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn());
        let mut input = import.stdin.take().unwrap_or_else(|| panic!("no input"));
        must(input.write_all(&archive));
        drop(input);
        assert!(must(import.wait()).success(), "the image was not imported: {}", self.last_words());
    }
}

/// Puts busybox with links for all its applets into a directory, and what it needs to be a root directory.
///
/// # Panics
/// When that cannot be done.
pub fn lay_out_busybox(root: &Path) {
    let busybox = busybox().unwrap_or_else(|| panic!("no busybox"));
    let bin = root.join("bin");
    must(std::fs::create_dir(&bin));
    must(std::fs::copy(&busybox, bin.join("busybox")));
    let applets = must(Command::new(&busybox).arg("--list").output()).stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        must(std::os::unix::fs::symlink("busybox", bin.join(applet)));
    }
    for folder in ["tmp", "etc", "root"] {
        must(std::fs::create_dir(root.join(folder)));
    }
    must(std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"));
}

fn archive(folder: &Path) -> Vec<u8> {
    let output = must(Command::new("tar").arg("-C").arg(folder).args(["-c", "."]).output());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Drop for ContainerDaemon {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut undertaker) = self.undertaker.take() {
            drop(undertaker.stdin.take());
            let _ = undertaker.wait();
        }
    }
}
