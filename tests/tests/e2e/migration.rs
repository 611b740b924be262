//! Links of a live lab that go to another backend: between a Linux bridge and Open vSwitch with their interfaces in place,
//! to and from a direct cable by being made anew, which is said beforehand.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{enter, fingerprint, init, is_up, steadiness, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::backends::{inside, route};

/// How often a frame is sent.
const EVERY: Duration = Duration::from_millis(2);

const LAB: &str = "\
name: pair
settings: {backend: linux-bridge}
mgmt: {skip-when-unused: true}
topology:
  defaults: {kind: linux, network-mode: none}
  nodes:
    a: {exec: [ip address add 10.7.0.1/24 dev eth1]}
    b: {exec: [ip address add 10.7.0.2/24 dev eth1]}
    c: {}
  links:
    - {type: veth, backend: BACKEND, endpoints: [{node: a, interface: eth1}, {node: b, interface: eth1}]}
    - {type: veth, endpoints: [{node: b, interface: eth2}, {node: c, interface: eth1}]}
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("root::migration", &[Need::Root, Need::OpenVswitch], there_and_back)]
}

#[expect(clippy::print_stdout, reason = "how long the gaps are")]
fn there_and_back() {
    let sandbox = Sandbox::new(User::Root);
    let switch = OpenVswitch::start_in(sandbox.network());
    let plugins = format!("plugins: {{ ovs: {{ database: \"{}\", datapath: netdev }} }}\n", switch.database());
    let config = sandbox.write("config.yaml", &plugins);
    let write = |backend: &str| sandbox.write("pair.clab.yml", &LAB.replace("BACKEND", backend));
    write("linux-bridge");
    let mut serve =
        sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap()), ("LIFECYCLE_LOG_LEVEL", "info")]);
    sandbox.ok(&["deploy", "-t", "pair.clab.yml"]);
    until_up(&sandbox);
    let addresses = || ["a", "b"].map(|node| enter(init(&sandbox, node), &["--net", "ip", "-o", "-4", "address"]));
    eventually("addresses are set", LONG, || addresses().iter().all(|text| text.contains("10.7.0.")).then_some(()));
    let nodes = || ["a", "b", "c"].map(|node| fingerprint(&sandbox, node));
    let (before, set, other) = (nodes(), addresses(), other_link(&sandbox.lab()));

    let stream = Stream::begin(&sandbox);
    for to in ["ovs", "linux-bridge", "ovs", "linux-bridge"] {
        write(to);
        let plan = sandbox.ok(&["apply", "--dry-run", "-t", "pair.clab.yml"]);
        assert!(
            plan.contains("hand over") && plan.contains(&format!("to {to}, with its interfaces in place")),
            "{plan}"
        );
        let pulse = Pulse::begin(&sandbox);
        sandbox.ok(&["apply", "-t", "pair.clab.yml"]);
        until_at(&sandbox, to);
        // A frame passes again before the pulse is taken.
        std::thread::sleep(Duration::from_millis(50));
        let gap = pulse.end();
        println!("to {to}: {gap:?} without a frame");
        assert!(gap < LONG, "to {to}: {gap:?} without a frame");
        assert_eq!((nodes(), addresses()), (before.clone(), set.clone()), "the nodes keep what they have");
        assert_eq!(other_link(&sandbox.lab()), other, "the other link is not touched");
        let mut host = route(File::open(sandbox.network()).unwrap());
        let bridges = host.links().unwrap().into_iter().filter(|link| link.kind.as_deref() == Some("bridge"));
        assert_eq!(bridges.count(), if to == "ovs" { 1 } else { 2 }, "bridges of links");
        let ports = switch.vsctl(&["--bare", "--columns=name", "find", "port", "external_ids:lifecycle!=none"]);
        assert_eq!(ports.split_whitespace().count(), if to == "ovs" { 2 } else { 0 }, "{ports}");
    }
    stream.end();

    // A direct cable shares nothing with either.
    for to in ["veth", "ovs"] {
        write(to);
        let plan = sandbox.ok(&["apply", "--dry-run", "-t", "pair.clab.yml"]);
        assert!(plan.contains("make again") && plan.contains("without addresses"), "{plan}");
        sandbox.ok(&["apply", "-t", "pair.clab.yml"]);
        until_at(&sandbox, to);
        assert_ne!(nodes(), before, "the interfaces are others");
        assert_eq!(other_link(&sandbox.lab()), other, "the other link is not touched");
    }
    let log = sandbox.log();
    assert!(log.contains("with its interfaces in place") && log.contains("made anew"), "{log}");

    sandbox.ok(&["selfcheck"]);
    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    serve.end(Signal::SIGTERM);
    drop(switch);
    sandbox.assert_clean();
}

/// Waits until the link that moves is up on a backend.
fn until_at(sandbox: &Sandbox, backend: &str) {
    let explain = || format!("up on {backend}: {:#}\n{}", sandbox.lab(), sandbox.log());
    eventually_or(LONG, explain, || {
        let lab = sandbox.lab();
        (is_up(&lab) && lab["links"].as_array()?.iter().any(|link| is_first(link) && link["backend"] == backend))
            .then_some(())
    });
}

fn is_first(link: &Value) -> bool {
    link["ends"][0]["node"] == "a" || link["ends"][1]["node"] == "a"
}

/// What tells whether the link that stays flapped.
fn other_link(lab: &Value) -> Vec<Value> {
    lab["links"].as_array().unwrap().iter().filter(|link| !is_first(link)).map(steadiness).collect()
}

/// Frames from one node to the other, at short intervals.
struct Pulse {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Duration>,
}

impl Pulse {
    fn begin(sandbox: &Sandbox) -> Self {
        let address = SocketAddr::from(([10, 7, 0, 2], 5002));
        let stop = Arc::new(AtomicBool::new(false));
        let socket = inside(sandbox, "b", move || UdpSocket::bind(address).unwrap()).join().unwrap();
        socket.set_read_timeout(Some(EVERY)).unwrap();
        let (told, tells) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = inside(sandbox, "a", move || {
            let socket = UdpSocket::bind("10.7.0.1:0").unwrap();
            while !told.load(Ordering::Relaxed) {
                // While nobody is known to be there, the kernel may say so.
                let _ = socket.send_to(&[7; 64], address);
                std::thread::sleep(EVERY);
            }
        });
        let receiver = std::thread::spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !tells.load(Ordering::Relaxed) {
                if socket.recv(&mut [0; 128]).is_ok() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            longest.max(last.elapsed())
        });
        Self { stop, sender, receiver }
    }

    /// The longest time without a frame.
    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        self.receiver.join().unwrap()
    }
}

/// A connection from one node to the other over which numbered words go all the time.
struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Stream {
    fn begin(sandbox: &Sandbox) -> Self {
        let address = SocketAddr::from(([10, 7, 0, 2], 5003));
        let listener = inside(sandbox, "b", move || TcpListener::bind(address).unwrap()).join().unwrap();
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            let (mut word, mut count) = ([0; 8], 0u64);
            loop {
                match stream.read_exact(&mut word) {
                    Ok(()) => assert_eq!(u64::from_be_bytes(word), count, "a word is missing"),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return count,
                    Err(error) => panic!("the stream broke after {count} words: {error}"),
                }
                count += 1;
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let sender = inside(sandbox, "a", move || {
            let mut stream = TcpStream::connect_timeout(&address, LONG).unwrap();
            stream.set_write_timeout(Some(LONG)).unwrap();
            let mut count = 0u64;
            while !told.load(Ordering::Relaxed) {
                let words: Vec<u8> = (count..count + 512).flat_map(|word: u64| word.to_be_bytes()).collect();
                stream.write_all(&words).unwrap();
                count += 512;
                std::thread::sleep(EVERY);
            }
            count
        });
        Self { stop, sender, receiver }
    }

    /// All that was sent has arrived.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        assert_eq!(self.receiver.join().unwrap(), sent);
    }
}
