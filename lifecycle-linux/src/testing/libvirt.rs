//! A libvirt daemon of a test's own: its directories, its socket, its devices, its machines.
//!
//! It has no `/dev/kvm`: where KVM does not work, a daemon tries it for long before it defines anything.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::guest;
use crate::namespace::FreshNamespace;

/// Time for a daemon to come up or to go down.
const PATIENCE: Duration = Duration::from_secs(60);
/// Makes the view of files that the daemon and its machines have, and waits until nobody holds its standard input. Then
/// ends all that has this view, and removes the directory.
const UNDERTAKER: &str = r#"
set -e
D=$DIRECTORY
for name in run etc lib cache log dev; do mkdir "$D/$name"; done
mkdir "$D/run/lock"
mount -t tmpfs none "$D/dev"
mkdir "$D/dev/net" "$D/dev/pts" "$D/dev/shm"
for node in null zero full random urandom net/tun; do : >"$D/dev/$node"; mount --bind "/dev/$node" "$D/dev/$node"; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$D/dev/pts"
ln -s pts/ptmx "$D/dev/ptmx"
for name in lib cache log; do mkdir -p "/var/$name/libvirt"; mount --bind "$D/$name" "/var/$name/libvirt"; done
mkdir -p /etc/libvirt
mount --bind "$D/etc" /etc/libvirt
cp /etc/passwd /etc/group "$D"
echo "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin" >>"$D/passwd"
printf 'libvirt-qemu:x:64055:\nkvm:x:64056:\n' >>"$D/group"
for name in passwd group; do mount --bind "$D/$name" "/etc/$name"; done
printf 'unix_sock_dir = "%s"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n' "$D" >/etc/libvirt/libvirtd.conf
printf '%s\n' 'user = "root"' 'group = "root"' 'stdio_handler = "file"' 'security_driver = "none"' 'namespaces = []' \
    'cgroup_controllers = []' >/etc/libvirt/qemu.conf
mount --bind "$D/run" /run
mount --rbind "$D/dev" /dev
echo ready
cat >/dev/null
set +e
own=$(readlink /proc/$$/ns/mnt)
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    left=
    for process in /proc/[0-9]*; do
        [ "${process#/proc/}" != $$ ] && [ "$(readlink "$process/ns/mnt" 2>/dev/null)" = "$own" ] || continue
        kill -9 "${process#/proc/}" 2>/dev/null && left=1
    done
    [ -n "$left" ] || break
    sleep 0.1
done
umount -R /dev /run 2>/dev/null
umount -R "$D/dev" 2>/dev/null
for name in lib cache log; do umount "/var/$name/libvirt"; done
umount /etc/libvirt /etc/passwd /etc/group
rm -rf "$D"
"#;

/// A private daemon. It and all its machines are gone when this is dropped, and when the test program ends in whatever way.
///
/// Methods panic when it does not do what it is asked for: then a test cannot go on.
#[derive(Debug)]
pub struct LibvirtDaemon {
    directory: PathBuf,
    namespace: PathBuf,
    _own: Option<FreshNamespace>,
    daemon: Option<Child>,
    undertaker: Option<Child>,
}

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Why no such daemon, or no machine on it, can be run here, if so.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can run libvirt for machines with links".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&paths).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    let programs = [
        ("libvirtd", "libvirt-daemon"),
        ("virsh", "libvirt-clients"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
    ];
    let lacks = |program: &str| !folders.iter().any(|folder| folder.join(program).is_file());
    let lacking = programs.iter().find(|(program, _)| lacks(program));
    if let Some((program, package)) = lacking {
        return Some(format!("libvirt is not installed: no {program} (Debian's package is {package})"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    guest::missing()
}

impl LibvirtDaemon {
    /// Starts one in a network namespace of its own.
    pub fn start() -> Self {
        let own = must(FreshNamespace::new());
        let path = format!("/proc/{}/fd/{}", std::process::id(), own.ns.as_raw_fd());
        Self::start_with(path.into(), Some(own))
    }

    /// Starts one in the network namespace with this file.
    pub fn start_in(namespace: PathBuf) -> Self {
        Self::start_with(namespace, None)
    }

    fn start_with(namespace: PathBuf, own: Option<FreshNamespace>) -> Self {
        // The undertaker removes it; the path is short, since sockets lie in it.
        let directory = must(tempfile::Builder::new().prefix("lcv").tempdir_in("/tmp")).keep();
        let undertaker = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", UNDERTAKER])
            .env("DIRECTORY", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut undertaker = must(undertaker);
        let mut said = String::new();
        let output = undertaker.stdout.take().unwrap_or_else(|| panic!("no output"));
        must(BufReader::new(output).read_line(&mut said));
        assert_eq!(said.trim(), "ready", "its files cannot be arranged");
        let mut daemon = Self { directory, namespace, _own: own, daemon: None, undertaker: Some(undertaker) };
        daemon.up();
        daemon
    }

    /// A directory that goes with the daemon.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The network namespace that it is in, as a file.
    pub fn namespace(&self) -> &Path {
        &self.namespace
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("libvirt-sock")
    }

    /// Where it is, as clients are told.
    pub fn uri(&self) -> String {
        format!("qemu:///system?socket={}", self.socket().display())
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        let undertaker = self.undertaker.as_ref().unwrap_or_else(|| panic!("it was ended"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command.arg(format!("--mount=/proc/{}/ns/mnt", undertaker.id()));
        command.args(["libvirtd", "--config", "/etc/libvirt/libvirtd.conf", "--pid-file"]);
        command.arg(self.directory.join("pid"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.join("daemon.log"));
        let log = must(log);
        command.stdin(Stdio::null()).stdout(must(log.try_clone())).stderr(log);
        let _ = std::fs::remove_file(self.socket());
        self.daemon = Some(must(command.spawn()));
        let began = Instant::now();
        while UnixStream::connect(self.socket()).is_err() || self.try_virsh(&["list"]).is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not come up: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the daemon said last.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Sends the daemon a signal: `SIGSTOP` hangs it, `SIGCONT` goes on.
    pub fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().unwrap_or_else(|| panic!("it does not run"));
        must(kill(Pid::from_raw(must(i32::try_from(daemon.id()))), signal));
    }

    /// Kills the daemon; its machines go on.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Runs `virsh` with words; what it printed, or its error.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_virsh(&self, words: &[&str]) -> Result<String, String> {
        let output = must(Command::new("virsh").args(["--connect", &self.uri()]).args(words).output());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs `virsh` with words.
    pub fn virsh(&self, words: &[&str]) -> String {
        self.try_virsh(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs `ip` in its network namespace; what it printed, or nothing where it failed.
    pub fn ip(&self, words: &[&str]) -> Option<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).arg("ip").args(words);
        let output = must(command.output());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for LibvirtDaemon {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut undertaker) = self.undertaker.take() {
            drop(undertaker.stdin.take());
            let _ = undertaker.wait();
        }
    }
}
