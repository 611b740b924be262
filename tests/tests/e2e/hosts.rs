//! A lab that spans two hosts: network namespaces with a cable between them, each with its own providers and backends.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::{Change, RouteSocket, Which, change_link};
use lifecycle_linux::testing::hosts::{
    UPLINK, give_addresses, inside, join_hosts, lay_cable, route_in, take_addresses,
};
use lifecycle_linux::testing::name;
use lifecycle_linux::testing::open_vswitch::{OUTSIDE, OpenVswitch};
use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{is_up, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::backends::bulk_passes;

/// `a` and `c` are on one host, `b` on the other.
const LAB: &str = "\
name: span
mgmt:
  skip-when-unused: true
topology:
  defaults: {kind: linux, network-mode: none}
  nodes:
    a: {host: local, exec: [ip address add 10.7.0.1/24 dev eth1, ip address add 10.8.0.1/24 dev eth2]}
    b: {host: h2, exec: [ip address add 10.7.0.2/24 dev eth1]}
    c: {host: local, exec: [ip address add 10.8.0.2/24 dev eth1]}
  links:
    - endpoints: [a:eth1, b:eth1]
    - endpoints: [a:eth2, c:eth1]
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("root::hosts::linux_bridge", &[Need::Root], || a_lab_spans_two_hosts("linux-bridge", Hosts::bridges)),
        trial("root::hosts::ovs", &[Need::Root, Need::OpenVswitch], || a_lab_spans_two_hosts("ovs", Hosts::switches)),
    ]
}

/// The sandbox and another host, with a cable between them.
pub(crate) struct Hosts {
    /// The file of the other host's network namespace.
    pub(crate) other: PathBuf,
    /// The interface of either host that has its addresses.
    outside: &'static str,
    pub(crate) config: String,
    /// Keeps the other host's network alive, unless its switch does.
    _namespace: Option<FreshNamespace>,
    pub(crate) switches: Vec<OpenVswitch>,
}

impl Hosts {
    pub(crate) fn bridges(sandbox: &Sandbox) -> Self {
        let namespace = FreshNamespace::new().unwrap();
        let other = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.ns.as_raw_fd()));
        join_hosts([&sandbox.network(), &other]);
        let there = json!({ "plugins": { "linux-bridge": { "namespace": other } } });
        let config = json!({ "hosts": { "h2": there }, "limits": { "link-pass": "1s" } }).to_string();
        Self { other, outside: UPLINK, config, _namespace: Some(namespace), switches: Vec::new() }
    }

    pub(crate) fn switches(sandbox: &Sandbox) -> Self {
        let switches = vec![OpenVswitch::start_in(sandbox.network()), OpenVswitch::start()];
        let other = switches[1].namespace();
        lay_cable([&sandbox.network(), &other]);
        (0..).zip(&switches).for_each(|(host, switch)| switch.plug_in(host));
        let here = json!({ "ovs": { "database": switches[0].database(), "datapath": "netdev" } });
        let there = json!({ "database": switches[1].database(), "datapath": "netdev", "namespace": other });
        let there = json!({ "plugins": { "ovs": there } });
        let config = json!({ "plugins": here, "hosts": { "h2": there }, "limits": { "link-pass": "1s" } }).to_string();
        Self { other, outside: OUTSIDE, config, _namespace: None, switches }
    }

    /// Nothing is left on them but what was there before.
    pub(crate) fn assert_clean(self, sandbox: &Sandbox) {
        for switch in &self.switches {
            assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), OUTSIDE);
            switch.vsctl(&["del-br", OUTSIDE]);
        }
        let left: Vec<String> =
            interfaces(&self.other).into_iter().filter(|name| OurName::parse(name).is_some()).collect();
        assert_eq!(left, Vec::<String>::new());
        // The end of the other host would take the cable along, in its own time.
        sandbox.ip(&["link", "delete", UPLINK]);
        drop(self.switches);
        sandbox.assert_clean();
    }
}

fn a_lab_spans_two_hosts(backend: &str, hosts: fn(&Sandbox) -> Hosts) {
    let sandbox = Sandbox::new(User::Root);
    let hosts = hosts(&sandbox);
    let config = sandbox.write("config.yaml", &hosts.config);
    let file = sandbox.write("span.clab.yml", LAB);
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
    sandbox.ok(&["deploy", "--backend", backend, "-t", file.to_str().unwrap()]);
    let all_carry = || {
        until_up(&sandbox);
        for (node, address) in [("a", "10.7.0.2"), ("a", "10.8.0.2"), ("b", "10.7.0.1")] {
            let ping = ["exec", node, "--", "ping", "-c", "1", "-W", "2", address];
            eventually(address, LONG, || sandbox.run(&ping).status.success().then_some(()));
        }
        bulk_passes(&sandbox);
    };
    all_carry();
    let read =
        |node: &str, what: &str| sandbox.ok(&["exec", node, "--", "cat", &format!("/sys/class/net/eth1/{what}")]);
    // What the cable carries, less the headers of a tunnel; links within a host are as large as ever.
    assert_eq!(["a", "b", "c"].map(|node| read(node, "mtu")), ["1450\n", "1450\n", "9500\n"]);

    let tunnels = get(&sandbox, "/api/v1/tunnels")["items"].clone();
    assert_eq!(
        (&tunnels[0]["hosts"], &tunnels[0]["state"]),
        (&json!(["h2", "local"]), &json!("active")),
        "{tunnels:#}"
    );
    assert_eq!((tunnels.as_array().unwrap().len(), &tunnels[0]["links"][0]["mtu"]), (1, &json!(1450)));

    // An MTU that does not fit is refused with both numbers; the network between the hosts carries less, and the link as well.
    let link = &tunnels[0]["links"][0]["id"];
    let path = format!("/api/v1/labs/span/links/{}", link.as_str().unwrap());
    let refused = ask(&sandbox, "PATCH", &path, "{\"mtu\": 1451}").to_string();
    assert!(refused.contains("1451") && refused.contains("1450"), "{refused}");
    let index = read("b", "ifindex");
    for (packet, fits) in [(1400, "1350\n"), (1500, "1450\n")] {
        set_mtu(&mut route_in(&hosts.other), UPLINK, packet);
        eventually("the link has the MTU that fits", LONG, || {
            (["a", "b"].map(|node| read(node, "mtu")) == [fits; 2] && is_up(&sandbox.lab())).then_some(())
        });
    }
    assert_eq!(read("b", "ifindex"), index);

    // A node that stops takes the carrier of the far end also on the other host, and of no other.
    sandbox.ok(&["stop", "a"]);
    eventually("b sees that nobody is there", LONG, || (read("b", "carrier") == "0\n").then_some(()));
    sandbox.ok(&["start", "a"]);
    eventually("the lab is up again", LONG, || (is_up(&sandbox.lab()) && read("b", "carrier") == "1\n").then_some(()));
    all_carry();

    // The other host gets another address, and the link keeps what it is made of.
    let before = read("b", "ifindex");
    // A second address of a network goes with the first.
    take_addresses(&mut route_in(&hosts.other), 1, 0, hosts.outside);
    give_addresses(&mut route_in(&hosts.other), 1, 1, hosts.outside);
    eventually("a reaches b at the new address", LONG, || {
        let ping = sandbox.run(&["exec", "a", "--", "ping", "-c", "1", "-W", "1", "10.7.0.2"]);
        (ping.status.success() && is_up(&sandbox.lab())).then_some(())
    });
    assert_eq!(read("b", "ifindex"), before);

    // All stopped, all deployed.
    sandbox.ok(&["stop", "a", "b", "c"]);
    sandbox.ok(&["start", "a", "b", "c"]);
    all_carry();

    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    hosts.assert_clean(&sandbox);
}

/// What the controller's interface answers.
fn get(sandbox: &Sandbox, path: &str) -> Value {
    ask(sandbox, "GET", path, "")
}

fn ask(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Value {
    let mut stream = UnixStream::connect(sandbox.runtime().unwrap().join("api.sock")).unwrap();
    let length = body.len();
    let about = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}");
    write!(stream, "{method} {path} HTTP/1.0\r\n{about}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Sets how large packets are that an interface takes.
fn set_mtu(route: &mut RouteSocket, interface: &str, mtu: u32) {
    let change = Change { mtu: Some(mtu), ..Change::default() };
    route.run(change_link(Which::Name(&name(interface)), &change)).unwrap();
}

/// The interfaces in a network namespace.
fn interfaces(namespace: &Path) -> BTreeSet<String> {
    let table = inside(namespace.to_owned(), || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let table = table.join().unwrap();
    table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}
