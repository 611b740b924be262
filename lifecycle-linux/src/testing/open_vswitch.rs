//! An Open vSwitch of a test's own: its directory, its sockets, its network namespace, its two processes.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use super::daemon::{lacking, must};
use super::hosts::{UPLINK, give_addresses, route_in};
use crate::namespace::FreshNamespace;
use crate::netlink::RouteSocket;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The bridge that leads out of a host.
pub const OUTSIDE: &str = "outside";

/// A private Open vSwitch. Both its processes are killed when it is dropped, and when the test program ends in whatever
/// way.
///
/// Methods panic when it does not do what it is asked for: then a test cannot go on.
#[derive(Debug)]
pub struct OpenVswitch {
    directory: TempDir,
    namespace: Namespace,
    server: Option<Child>,
    switch: Option<Child>,
}

/// The network namespace that the switch runs in.
#[derive(Debug)]
enum Namespace {
    Own(FreshNamespace),
    Given(PathBuf),
}

/// Why no switch can be run here, if none can.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can run Open vSwitch".into());
    }
    if let Some(program) = lacking(&["ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl"]) {
        return Some(format!("Open vSwitch is not installed: no {program} (Debian's package is openvswitch-switch)"));
    }
    (!Path::new(SCHEMA).exists()).then(|| format!("there is no {SCHEMA}"))
}

/// Starts a process on a thread that lives as long as the program, since the kernel kills the process with the thread.
fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = mpsc::channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .unwrap_or_else(|_| panic!("the spawner ended"));
    must(must(answer.recv()))
}

impl OpenVswitch {
    /// Starts one in a network namespace of its own.
    pub fn start() -> Self {
        Self::start_in_namespace(Namespace::Own(must(FreshNamespace::new())))
    }

    /// Starts one in the network namespace with this file.
    pub fn start_in(namespace: PathBuf) -> Self {
        Self::start_in_namespace(Namespace::Given(namespace))
    }

    fn start_in_namespace(namespace: Namespace) -> Self {
        let directory = must(tempfile::tempdir());
        let mut daemon = Self { directory, namespace, server: None, switch: None };
        let database = daemon.path("conf.db");
        daemon.run(Command::new("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA));
        daemon.start_server();
        daemon.vsctl(&["--no-wait", "init"]);
        daemon.start_switch();
        daemon.await_switch();
        daemon
    }

    /// A file in its directory: `db` is the database's socket.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where its database listens.
    pub fn database(&self) -> String {
        format!("unix:{}", self.path("db").display())
    }

    /// The file of the switch's network namespace.
    pub fn namespace(&self) -> PathBuf {
        match &self.namespace {
            Namespace::Own(own) => format!("/proc/{}/fd/{}", std::process::id(), own.ns.as_raw_fd()).into(),
            Namespace::Given(path) => path.clone(),
        }
    }

    /// A socket in its network namespace.
    ///
    /// # Panics
    /// When the namespace is not its own.
    pub fn route(&self) -> RouteSocket {
        let Namespace::Own(own) = &self.namespace else { panic!("the namespace is somebody else's") };
        must(RouteSocket::new(must(own.route.try_clone())))
    }

    /// A process of the switch, with nothing of the system's own switch in its reach.
    fn process(&self, program: &str, name: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display()));
        command.args(["setpriv", "--pdeathsig", "KILL", program, "-vconsole:off"]);
        for (option, suffix) in [("pidfile", "pid"), ("unixctl", "ctl"), ("log-file", "log")] {
            command.arg(format!("--{option}={}", self.path(&format!("{name}.{suffix}")).display()));
        }
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.directory.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts the database's server and waits until it listens.
    pub fn start_server(&mut self) {
        let mut command = self.process("ovsdb-server", "server");
        command.arg(self.path("conf.db")).arg(format!("--remote=punix:{}", self.path("db").display()));
        let socket = self.path("db");
        let _ = std::fs::remove_file(&socket);
        self.server = Some(spawn(command));
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Starts the switch.
    pub fn start_switch(&mut self) {
        let mut command = self.process("ovs-vswitchd", "switch");
        command.arg(self.database());
        self.switch = Some(spawn(command));
    }

    /// Waits until the switch follows its database: it has taken up something new.
    pub fn await_switch(&self) {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        self.vsctl(&["set", "open_vswitch", ".", &format!("external_ids:asked={number}")]);
    }

    /// Kills the database's server.
    pub fn kill_server(&mut self) {
        kill(&mut self.server);
    }

    /// Kills the switch.
    pub fn kill_switch(&mut self) {
        kill(&mut self.switch);
    }

    /// Runs `ovs-vsctl` with words, without waiting for more than some seconds.
    pub fn vsctl(&self, words: &[&str]) -> String {
        self.run(Command::new("ovs-vsctl").arg(format!("--db={}", self.database())).arg("--timeout=30").args(words))
    }

    /// Plugs the host's [`UPLINK`] into a bridge of its own, [`OUTSIDE`], which has the addresses of the first or second host
    /// from then on: a switch in user space sends tunnels out of its own bridges only.
    pub fn plug_in(&self, host: u8) {
        let bridge = ["--", "set", "bridge", OUTSIDE, "datapath_type=netdev"];
        self.vsctl(&[&["add-br", OUTSIDE], &bridge[..], &["--", "add-port", OUTSIDE, UPLINK]].concat());
        give_addresses(&mut route_in(&self.namespace()), host, 0, OUTSIDE);
    }

    fn run(&self, command: &mut Command) -> String {
        let output = must(command.output());
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        must(String::from_utf8(output.stdout)).trim().to_owned()
    }
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for OpenVswitch {
    fn drop(&mut self) {
        self.kill_switch();
        self.kill_server();
    }
}
