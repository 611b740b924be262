//! A libvirt daemon of a test's own: its directories, its socket, its devices, its machines.
//!
//! It has no `/dev/kvm`: where KVM does not work, a daemon tries it for long before it defines anything.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::daemon::{Daemon, answer, lacking};
use super::guest;

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
    daemon: Daemon,
}

/// Why no such daemon, or no machine on it, can be run here, if so.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can run libvirt for machines with links".to_owned());
    }
    let programs = [
        ("libvirtd", "libvirt-daemon"),
        ("virsh", "libvirt-clients"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
        ("xorriso", "xorriso"),
    ];
    if let Some((program, package)) = programs.iter().find(|(program, _)| lacking(&[program]).is_some()) {
        return Some(format!("libvirt is not installed: no {program} (Debian's package is {package})"));
    }
    if !Path::new("/usr/share/OVMF").exists() {
        return Some("no firmware for machines with EFI (Debian's package is ovmf)".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    guest::missing()
}

impl LibvirtDaemon {
    /// Starts one in a network namespace of its own.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts one in the network namespace with this file.
    pub fn start_in(namespace: PathBuf) -> Self {
        Self::start_with(Some(namespace))
    }

    fn start_with(namespace: Option<PathBuf>) -> Self {
        let mut daemon = Self { daemon: Daemon::arrange("lcv", namespace, UNDERTAKER, &[]) };
        daemon.up();
        daemon
    }

    /// A directory that goes with the daemon.
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// The network namespace that it is in, as a file.
    pub fn namespace(&self) -> &Path {
        self.daemon.namespace()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.daemon.path("libvirt-sock")
    }

    /// Where it is, as clients are told.
    pub fn uri(&self) -> String {
        Self::uri_of(&self.socket())
    }

    /// Where a daemon with this socket is.
    pub fn uri_of(socket: &Path) -> String {
        format!("qemu:///system?socket={}", socket.display())
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        let mut command = Command::new("libvirtd");
        command.args(["--config", "/etc/libvirt/libvirtd.conf", "--pid-file"]).arg(self.daemon.path("pid"));
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let mut list = self.client(&["list"]);
        self.daemon.start(&command, || UnixStream::connect(&socket).is_ok() && answer(&mut list).is_ok());
    }

    /// What the daemon said last.
    pub fn last_words(&self) -> String {
        self.daemon.last_words()
    }

    /// Sends the daemon a signal: `SIGSTOP` hangs it, `SIGCONT` goes on.
    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Kills the daemon; its machines go on.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("virsh");
        command.args(["--connect", &self.uri()]).args(words);
        command
    }

    /// Runs `virsh` with words; what it printed, or its error.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_virsh(&self, words: &[&str]) -> Result<String, String> {
        answer(&mut self.client(words))
    }

    /// Runs `virsh` with words.
    pub fn virsh(&self, words: &[&str]) -> String {
        self.try_virsh(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs `ip` in its network namespace; what it printed, or nothing where it failed.
    pub fn ip(&self, words: &[&str]) -> Option<String> {
        answer(self.daemon.inside().arg("ip").args(words)).ok()
    }
}
