//! One lab file on each network backend, chosen by one option: what passes, what changes in place, what is left.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::Trial;
use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{RouteSocket, Which};
use lifecycle_linux::probe::{ProbeEnd, Prober};
use lifecycle_linux::testing::{number, open_vswitch::OpenVswitch};
use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{init, is_up, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::secrets;

/// Bytes that are sent through a link in one go; pings pass where this does not.
const BULK: usize = 20_000_000;

const LAB: &str = "\
name: pair
mgmt:
  skip-when-unused: true
topology:
  defaults: {kind: linux, network-mode: none}
  nodes:
    a: {exec: [ip address add 10.7.0.1/24 dev eth1]}
    b: {exec: [ip address add 10.7.0.2/24 dev eth1]}
    c: {}
  links:
    - {type: veth, mtu: 1400, endpoints: [{node: a, interface: eth1}, {node: b, interface: eth1}]}
    - {type: veth, mtu: 1400, endpoints: [{node: b, interface: eth2}, {node: c, interface: eth1}]}
";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, backend, mode, needs) in [
        ("veth", "veth", "shared", &[Need::Root][..]),
        ("linux_bridge", "linux-bridge", "shared", &[Need::Root]),
        ("ovs_shared", "ovs", "shared", &[Need::Root, Need::OpenVswitch]),
        ("ovs_dedicated", "ovs", "dedicated", &[Need::Root, Need::OpenVswitch]),
    ] {
        let name = format!("root::backend::{name}");
        trials.push(trial(&name, needs, move || the_same_lab(User::Root, backend, mode)));
    }
    for (name, backend) in [("veth", "veth"), ("linux_bridge", "linux-bridge")] {
        let name = format!("ordinary::backend::{name}");
        let test = move || the_same_lab(User::Ordinary, backend, "shared");
        trials.push(trial(&name, &[Need::UserNamespaces], test));
    }
    let name = "ordinary::backend::what_serves_nothing_is_no_silent_choice";
    trials.push(trial(name, &[Need::UserNamespaces], chosen_in_vain));
    trials
}

/// An ordinary user cannot have Open vSwitch, and is told so instead of being given something else.
fn chosen_in_vain() {
    let sandbox = Sandbox::new(User::Ordinary);
    let file = sandbox.write("pair.clab.yml", LAB);
    let mut serve = sandbox.serve();
    sandbox.run(&["deploy", "--backend", "ovs", "--timeout", "1s", "-t", file.to_str().unwrap()]);
    eventually("the reason is shown", LONG, || {
        sandbox.lab()["links"].as_array()?.iter().all(|link| link.to_string().contains("only root may")).then_some(())
    });
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

fn the_same_lab(user: User, backend: &str, mode: &str) {
    let sandbox = Sandbox::new(user);
    // Its bridges are in what is the host's network to the sandbox.
    let switch = (backend == "ovs").then(|| OpenVswitch::start_in(sandbox.network()));
    let database = switch.as_ref().map_or_else(|| "unix:/nonexistent/db.sock".to_owned(), OpenVswitch::database);
    let plugins = format!("plugins: {{ ovs: {{ database: \"{database}\", datapath: netdev }} }}\n");
    let config = sandbox.write("config.yaml", &plugins);
    let lab = LAB.replacen("mgmt:", &format!("settings: {{ovs_mode: {mode}}}\nmgmt:"), 1);
    let file = sandbox.write("pair.clab.yml", &lab);
    let file = file.to_str().unwrap();
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
    sandbox.ok(&["deploy", "--backend", backend, "-t", file]);
    let lab = until_up(&sandbox);
    for link in lab["links"].as_array().unwrap() {
        assert_eq!(link["backend"], backend, "{link:#}");
    }
    mappings_are_true(&sandbox, user, backend, switch.as_ref());
    eventually("addresses are set", LONG, || {
        ["a", "b"].iter().all(|node| exec(&sandbox, node, "ip address show eth1").contains("10.7.0.")).then_some(())
    });

    let ping = || sandbox.run(&["exec", "a", "--", "ping", "-c", "1", "-W", "2", "10.7.0.2"]).status.success();
    eventually("b answers a", LONG, || ping().then_some(()));
    if user == User::Root {
        // The test enters the nodes' namespaces itself, which an ordinary user cannot on a thread.
        bulk_passes(&sandbox);
        link_local_frames_pass(&sandbox);
    }

    // An attribute changes in place.
    let read = |node: &str, what: &str| exec(&sandbox, node, &format!("cat /sys/class/net/eth1/{what}"));
    let before = ["a", "b"].map(|node| read(node, "ifindex"));
    assert_eq!(["a", "b"].map(|node| read(node, "mtu")), ["1400\n", "1400\n"]);
    sandbox.write("pair.clab.yml", &std::fs::read_to_string(file).unwrap().replacen("mtu: 1400", "mtu: 1300", 1));
    sandbox.ok(&["apply", "--backend", backend, "-t", file]);
    eventually("the MTU is another one", LONG, || {
        (["a", "b"].map(|node| read(node, "mtu")) == ["1300\n", "1300\n"]).then_some(())
    });
    assert_eq!(["a", "b"].map(|node| read(node, "ifindex")), before, "the interfaces are the same");
    assert!(ping());

    // A node that stops takes the carrier of the far end, and of no other.
    sandbox.ok(&["stop", "a"]);
    eventually("b sees that nobody is there", LONG, || (read("b", "carrier") == "0\n").then_some(()));
    assert_eq!(read("c", "carrier"), "1\n");
    sandbox.ok(&["start", "a"]);
    eventually("the lab is up again", LONG, || (is_up(&sandbox.lab()) && read("b", "carrier") == "1\n").then_some(()));

    sandbox.ok(&["destroy", "--all"]);
    if let Some(switch) = &switch {
        assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    }
    serve.end(Signal::SIGTERM);
    drop(switch);
    sandbox.assert_clean();
}

/// Where the controller says that interfaces are plugged in, they are.
fn mappings_are_true(sandbox: &Sandbox, user: User, backend: &str, switch: Option<&OpenVswitch>) {
    let socket = sandbox.runtime().unwrap().join("api.sock");
    let answer = secrets::get(socket.to_str().unwrap(), "/api/v1/labs/pair/interface-mappings");
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), 4, "{answer:#}");
    for item in items {
        let [bridge, port] = ["bridge", "port"].map(|field| item[field].as_str());
        let (Some(bridge), Some(port)) = (bridge, port) else {
            assert_eq!(backend, "veth", "{item:#}");
            continue;
        };
        match switch {
            Some(switch) => {
                assert_eq!(switch.vsctl(&["port-to-br", port]), bridge);
                assert_eq!(switch.vsctl(&["get", "port", port, "tag"]), item["vlan"].to_string());
            }
            None if user == User::Root => {
                let mut host = route(File::open(sandbox.network()).unwrap());
                let mut link = |name: &str| host.link(Which::Name(&IfName::new(name).unwrap())).unwrap().unwrap();
                assert_eq!(link(port).master, Some(link(bridge).index), "{item:#}");
            }
            // An ordinary user's bridges are where the test cannot look.
            None => {}
        }
    }
    let ports: BTreeSet<String> = items.iter().map(|item| item["port"].to_string()).collect();
    assert_eq!(ports.len(), if backend == "veth" { 1 } else { 4 }, "{answer:#}");
}

fn exec(sandbox: &Sandbox, node: &str, command: &str) -> String {
    let arguments: Vec<&str> = ["exec", node, "--"].into_iter().chain(command.split(' ')).collect();
    String::from_utf8_lossy(&sandbox.run(&arguments).stdout).into_owned()
}

fn network(sandbox: &Sandbox, node: &str) -> File {
    File::open(format!("/proc/{}/ns/net", init(sandbox, node))).unwrap()
}

/// Runs something on a thread in the network namespace of a node.
pub(crate) fn inside<T: Send + 'static>(
    sandbox: &Sandbox,
    node: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let network = network(sandbox, node);
    std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

pub(crate) fn route(network: File) -> RouteSocket {
    let mut opened =
        NamespaceAccess::new().open_inside(network.into(), None, &[Want::Socket(SocketKind::Route)]).unwrap();
    RouteSocket::new(opened.pop().unwrap()).unwrap()
}

pub(crate) fn bulk_passes(sandbox: &Sandbox) {
    let address = SocketAddr::from(([10, 7, 0, 2], 5001));
    let listener = inside(sandbox, "b", move || TcpListener::bind(address).unwrap()).join().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    let sender = inside(sandbox, "a", move || {
        let mut stream = TcpStream::connect_timeout(&address, LONG).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.write_all(&pattern()).unwrap();
    });
    sender.join().unwrap();
    assert!(receiver.join().unwrap() == pattern(), "what arrived is not what was sent");
}

fn pattern() -> Vec<u8> {
    (0..BULK).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Frames to the group addresses of LLDP, LACP, 802.1X and spanning tree are seen at the far end.
fn link_local_frames_pass(sandbox: &Sandbox) {
    let access = NamespaceAccess::new();
    let end = |node: &str| {
        let want = [Want::Socket(SocketKind::Packet), Want::Socket(SocketKind::Route)];
        let mut opened = access.open_inside(network(sandbox, node).into(), None, &want).unwrap();
        let mut route = RouteSocket::new(opened.pop().unwrap()).unwrap();
        let link = route.link(Which::Name(&IfName::new("eth1").unwrap())).unwrap().unwrap();
        (Prober::new(opened.pop().unwrap()).unwrap(), ProbeEnd { index: link.index, mac: link.mac.unwrap() })
    };
    let ((near, from), (far, to)) = (end("a"), end("b"));
    for last in [0x0e, 2, 3, 0] {
        let group = ProbeEnd { mac: Mac([1, 0x80, 0xc2, 0, 0, last]), ..to };
        assert!(near.probe(from, &far, group, number(), Duration::from_secs(5)).unwrap(), "{}", group.mac);
    }
}
