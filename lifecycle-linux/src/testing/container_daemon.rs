//! A Docker or Podman of a test's own: its directories, its socket, its network and mount namespaces, its processes.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, answer, busybox, lacking, must};

/// Waits until nobody holds its standard input, then removes all that a daemon left: processes that have the mark in the
/// name of their control group or the directory in their command line, or see the same mounts; control groups, the directory.
/// Mounts of containers outlive the daemon and go with the last process. What Podman has at one place only is hidden from it.
const UNDERTAKER: &str = r#"
if [ -n "$HIDDEN" ]; then
    mkdir -p "$HIDDEN" && mount -t tmpfs tmpfs "$HIDDEN" || exit 1
fi
echo ready
exec >/dev/null 2>&1
cat
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for process in /proc/[0-9]*; do
        [ "$process" != "/proc/$$" ] || continue
        if [ "$process/ns/mnt" -ef "/proc/$$/ns/mnt" ] || grep -qsF "$MARK" "$process/cgroup" || tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qsF "$DIRECTORY"; then
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
    mark: String,
    options: Vec<String>,
    daemon: Daemon,
}

/// Why no such daemon can be run here, if none can.
pub fn missing(kind: Kind) -> Option<String> {
    let (name, programs, package): (_, &[&str], _) = match kind {
        Kind::Docker => ("Docker", &["dockerd", "containerd", "runc", "docker", "iptables"], "docker.io"),
        Kind::Podman => (
            "Podman",
            &["podman", "conmon", "runc", "iptables", "../lib/podman/netavark"],
            "podman; runc, netavark and aardvark-dns besides",
        ),
    };
    if !nix::unistd::geteuid().is_root() {
        return Some(format!("only root can run {name}"));
    }
    if let Some(program) = lacking(programs) {
        return Some(format!("{name} is not installed: no {program} (Debian's package is {package})"));
    }
    busybox().is_none().then(|| "no busybox to make an image of (Debian's package is busybox-static)".to_owned())
}

/// Settings of Podman by which containers get limits that any root may set: it raises them otherwise.
fn modest_limits() -> String {
    let hard = |resource| must(getrlimit(resource)).1;
    let (files, processes) = (hard(Resource::RLIMIT_NOFILE), hard(Resource::RLIMIT_NPROC).min(1 << 14));
    format!("[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n")
}

impl ContainerDaemon {
    /// Starts one in a network namespace of its own.
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, None, &[])
    }

    /// Starts one in a network namespace of its own, with more options.
    pub fn start_with_options(kind: Kind, options: &[String]) -> Self {
        Self::start_with(kind, None, options)
    }

    /// Starts one in the network namespace with this file.
    pub fn start_in(kind: Kind, namespace: PathBuf) -> Self {
        Self::start_with(kind, Some(namespace), &[])
    }

    fn start_with(kind: Kind, namespace: Option<PathBuf>, options: &[String]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("lctest{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hidden = if kind == Kind::Podman { "/run/containers" } else { "" };
        let daemon = Daemon::arrange("lcd", namespace, UNDERTAKER, &[("MARK", &mark), ("HIDDEN", hidden)]);
        // Docker publishes ports on it.
        let loopback = daemon.inside().args(["ip", "link", "set", "lo", "up"]).status();
        assert!(must(loopback).success(), "no loopback");
        let mut daemon = Self { kind, mark, options: options.to_vec(), daemon };
        daemon.up();
        daemon
    }

    /// The network namespace that it is in, as a file.
    pub fn namespace(&self) -> &Path {
        self.daemon.namespace()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.daemon.path("d.sock")
    }

    /// Where it listens, as clients are told.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        let mut command = Command::new(match self.kind {
            Kind::Docker => "dockerd",
            Kind::Podman => "podman",
        });
        let path = |name: &str| self.daemon.path(name);
        match self.kind {
            Kind::Docker => {
                // Without its rules: they drop what crosses any other bridge in the same network namespace.
                command.args(["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false"]);
                command.args(["--cgroup-parent", &self.mark, "--host", &self.endpoint()]);
                for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
                    command.arg(option).arg(path(name));
                }
            }
            Kind::Podman => {
                must(std::fs::write(path("containers.conf"), modest_limits()));
                command.env("CONTAINERS_CONF", path("containers.conf"));
                command.args(["--log-level", "warn", "--events-backend", "file"]);
                // The other runtime refuses machines with control groups of both versions.
                command.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
                for (option, name) in [("--root", "data"), ("--runroot", "exec"), ("--tmpdir", "tmp")] {
                    command.arg(option).arg(path(name));
                }
                command.args(["system", "service", "--time", "0", &self.endpoint()]);
            }
        }
        command.args(&self.options);
        let socket = self.socket();
        // The kernel has killed the daemon's own containerd with it; nobody may have seen that yet.
        for left in [socket.clone(), path("pid"), path("exec/containerd/containerd.pid")] {
            let _ = std::fs::remove_file(left);
        }
        let mut version = self.client(&["version"]);
        self.daemon.start(&command, || UnixStream::connect(&socket).is_ok() && answer(&mut version).is_ok());
    }

    /// Sends the daemon a signal: `SIGSTOP` hangs it, `SIGCONT` goes on.
    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Kills the daemon; its containers go on as far as nobody tends them.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Asks the daemon to end, and waits.
    pub fn stop(&mut self) {
        self.daemon.stop();
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
        answer(&mut self.client(words))
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
        assert!(must(import.wait()).success(), "the image was not imported: {}", self.daemon.last_words());
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
