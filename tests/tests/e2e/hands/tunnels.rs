//! Hands at the tunnels of a lab that spans two hosts: each deed is noticed and put right, no other link flaps, and
//! tunnels of others, however alike, are left alone.

use std::fs::File;
use std::time::Instant;

use libtest_mimic::Trial;
use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::{LINK_GROUP, OurName};
use lifecycle_linux::netlink::{
    Change, Link, NewLink, Vxlan, Which, change_link, create_vxlan, delete_link, redirect_vxlan,
};
use lifecycle_linux::testing::hosts::HostAddresses;
use lifecycle_linux::testing::name;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::sandbox::{Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

use super::lab::{Bench, Wire};
use super::seed;
use crate::hosts::Hosts;

/// How often each deed is done.
const ROUNDS: usize = 4;
/// The hosts as places of the bench: that of the sandbox, and the other one.
const PLACES: [&str; 2] = ["", "h2"];
/// The name of something foreign that looks like the tunnel of a link.
const LOOKALIKE: &str = "lc00000000000aa";

const LAB: &str = "\
name: astray
mgmt: {skip-when-unused: true}
topology:
  defaults: {kind: linux, network-mode: none}
  nodes: {n0: {host: local}, n1: {host: h2}, n2: {host: local}}
  links:
    - endpoints: ['n0:eth1', 'n1:eth1']
    - endpoints: ['n0:eth2', 'n1:eth2']
    - endpoints: ['n2:eth1', 'n1:eth3']
    - endpoints: ['n0:eth3', 'n2:eth3']
";

/// A lab across two hosts, with hands at it.
struct Hands<'a> {
    bench: Bench<'a>,
    switches: &'a [OpenVswitch],
}

/// Does something to the tunnel of a link on a host; says whom it struck.
type Deed = fn(&mut Hands<'_>, usize, &Wire) -> Vec<Wire>;

const ON_BRIDGES: [(&str, Deed); 6] = [
    ("a tunnel led elsewhere", |hands, host, wire| hands.at_device(host, wire, redirect)),
    ("a tunnel with another identifier", |hands, host, wire| hands.at_device(host, wire, renumber)),
    ("a tunnel set down", |hands, host, wire| {
        hands.at_device(host, wire, |bench, place, device| {
            change(bench, place, device, &Change { up: Some(false), ..Change::default() });
        })
    }),
    ("a tunnel taken off its bridge", |hands, host, wire| {
        hands.at_device(host, wire, |bench, place, device| {
            change(bench, place, device, &Change { master: Some(0), ..Change::default() });
        })
    }),
    ("a tunnel deleted", |hands, host, wire| {
        hands.at_device(host, wire, |bench, place, device| {
            bench.route(place).run(delete_link(Which::Index(device.index))).unwrap();
        })
    }),
    ("the bridge of a tunnel deleted", |hands, host, wire| {
        hands.at_device(host, wire, |bench, place, device| {
            bench.route(place).run(delete_link(Which::Index(device.master.unwrap()))).unwrap();
        })
    }),
];

const ON_SWITCHES: [(&str, Deed); 5] = [
    ("a tunnel led elsewhere", |hands, host, wire| {
        let elsewhere = HostAddresses::of(0).v4[1].to_string();
        hands.at_port(host, wire, &["set", "interface", "PORT", &format!("options:remote_ip={elsewhere}")])
    }),
    ("a tunnel with another identifier", |hands, host, wire| {
        hands.at_port(host, wire, &["set", "interface", "PORT", "options:key=4711"])
    }),
    ("a tunnel on another segment", |hands, host, wire| {
        hands.at_port(host, wire, &["set", "port", "PORT", "tag=4000"])
    }),
    ("a tunnel deleted", |hands, host, wire| hands.at_port(host, wire, &["del-port", "PORT"])),
    ("the switch of a tunnel deleted", |hands, host, wire| {
        let port = hands.port(host, wire);
        let switch = &hands.switches[host];
        switch.vsctl(&["del-br", &switch.vsctl(&["port-to-br", &port])]);
        // All links of the host are on one bridge.
        let spans = |wire: &&Wire| wire.is_at("n1");
        let wires = hands.bench.wires.iter();
        if host == 0 { wires.cloned().collect() } else { wires.filter(spans).cloned().collect() }
    }),
];

impl Hands<'_> {
    fn at_device(&mut self, host: usize, wire: &Wire, deed: fn(&mut Bench<'_>, &str, &Link)) -> Vec<Wire> {
        let place = PLACES[host];
        let ours = |link: &Link| is_of(&link.name, wire) && link.vxlan.is_some();
        let device = self.bench.route(place).links().unwrap().into_iter().find(ours).unwrap();
        deed(&mut self.bench, place, &device);
        vec![wire.clone()]
    }

    /// The port of a link's tunnel on a host.
    fn port(&self, host: usize, wire: &Wire) -> String {
        let tunnels = self.switches[host].vsctl(&["--bare", "--columns=name", "find", "interface", "type=vxlan"]);
        tunnels.split_whitespace().find(|port| is_of(port, wire)).unwrap().to_owned()
    }

    fn at_port(&mut self, host: usize, wire: &Wire, words: &[&str]) -> Vec<Wire> {
        let port = self.port(host, wire);
        let words: Vec<&str> = words.iter().map(|word| if *word == "PORT" { &port } else { *word }).collect();
        self.switches[host].vsctl(&words);
        vec![wire.clone()]
    }
}

fn is_of(interface: &str, wire: &Wire) -> bool {
    matches!(OurName::parse(interface), Some(OurName::LinkEnd { link, .. }) if link == wire.id)
}

fn change(bench: &mut Bench<'_>, place: &str, device: &Link, change: &Change<'_>) {
    bench.route(place).run(change_link(Which::Index(device.index), change)).unwrap();
}

fn redirect(bench: &mut Bench<'_>, place: &str, device: &Link) {
    let vxlan = Vxlan { remote: Some(HostAddresses::of(0).v4[1]), ..device.vxlan.unwrap() };
    bench.route(place).run(redirect_vxlan(Which::Index(device.index), &vxlan)).unwrap();
}

/// The kernel changes no identifier: the device is made again, with all else as it was.
fn renumber(bench: &mut Bench<'_>, place: &str, device: &Link) {
    let interface = name(&device.name);
    let vxlan = Vxlan { vni: 4711, ..device.vxlan.unwrap() };
    let new = NewLink { mac: device.mac, mtu: Some(device.mtu), group: LINK_GROUP, ..NewLink::new(&interface) };
    let alias = device.alias.as_deref();
    let rest = Change { up: Some(true), alias, master: device.master, ..Change::default() };
    bench.unseen(|bench| {
        let route = bench.route(place);
        route.run(delete_link(Which::Index(device.index))).unwrap();
        route.run(create_vxlan(&new, &vxlan)).unwrap();
        route.run(change_link(Which::Name(&interface), &rest)).unwrap();
    });
}

/// Tunnels of somebody else's on both hosts, with the name and group of ours, or in a switch.
struct Foreign {
    interface: IfName,
    before: Vec<String>,
}

impl Foreign {
    fn make(hands: &mut Hands<'_>) -> Self {
        let interface = name(LOOKALIKE);
        let remote = HostAddresses::of(1).v4[1];
        for switch in hands.switches {
            switch.vsctl(&["add-br", "theirs", "--", "set", "bridge", "theirs", "datapath_type=netdev"]);
            let port = ["add-port", "theirs", LOOKALIKE, "tag=1", "--", "set", "interface", LOOKALIKE, "type=vxlan"];
            switch.vsctl(&[&port[..], &[&format!("options:remote_ip={remote}"), "options:key=77"]].concat());
        }
        if hands.switches.is_empty() {
            let vxlan = Vxlan { vni: 77, remote: Some(remote), port: 4789, ..Vxlan::default() };
            let new = NewLink { group: LINK_GROUP, up: true, ..NewLink::new(&interface) };
            PLACES.iter().for_each(|place| hands.bench.route(place).run(create_vxlan(&new, &vxlan)).unwrap());
        }
        let before = Self::read(hands, &interface);
        Self { interface, before }
    }

    fn read(hands: &mut Hands<'_>, interface: &IfName) -> Vec<String> {
        let columns = ["--columns=type,options,ofport", "list", "interface", LOOKALIKE];
        let ports = hands.switches.iter().map(|switch| switch.vsctl(&columns)).collect::<Vec<_>>();
        let link = |place: &&str| format!("{:?}", hands.bench.route(place).link(Which::Name(interface)).unwrap());
        PLACES.iter().map(link).chain(ports).collect()
    }

    fn assert_untouched_and_remove(self, hands: &mut Hands<'_>) {
        assert_eq!(Self::read(hands, &self.interface), self.before);
        hands.switches.iter().for_each(|switch| drop(switch.vsctl(&["del-br", "theirs"])));
        if hands.switches.is_empty() {
            let delete = || delete_link(Which::Name(&self.interface));
            PLACES.iter().for_each(|place| hands.bench.route(place).run(delete()).unwrap());
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("root::hands::tunnels_of_linux_bridge", &[Need::Root], || {
            hands_at_tunnels("linux-bridge", Hosts::bridges, &ON_BRIDGES);
        }),
        trial("root::hands::tunnels_of_ovs", &[Need::Root, Need::OpenVswitch], || {
            hands_at_tunnels("ovs", Hosts::switches, &ON_SWITCHES);
        }),
    ]
}

#[expect(clippy::print_stdout, reason = "how long it took, and the seed")]
fn hands_at_tunnels(backend: &str, hosts: fn(&Sandbox) -> Hosts, deeds: &[(&str, Deed)]) {
    let seed = seed();
    let sandbox = Sandbox::new(User::Root);
    let hosts = hosts(&sandbox);
    let config = sandbox.write("config.yaml", &hosts.config);
    sandbox.write("astray.clab.yml", LAB);
    let mut serve = sandbox.serve_with(&[
        ("LIFECYCLE_CONFIG", config.to_str().unwrap()),
        ("LIFECYCLE_LOG_LEVEL", "info"),
        ("LIFECYCLE_LOG_FORMAT", "json"),
    ]);
    sandbox.ok(&["deploy", "--backend", backend, "-t", "astray.clab.yml"]);
    let mut hands = Hands { bench: Bench::new(&sandbox, &serve, seed), switches: &hosts.switches };
    hands.bench.add_place(PLACES[1], File::open(&hosts.other).unwrap());
    let foreign = Foreign::make(&mut hands);
    let spanning: Vec<Wire> = hands.bench.wires.iter().filter(|wire| wire.is_at("n1")).cloned().collect();
    let began = Instant::now();
    for round in 0..ROUNDS {
        for (what, deed) in deeds {
            let host = hands.bench.chance(PLACES.len());
            let wire = &spanning[hands.bench.chance(spanning.len())];
            let struck = deed(&mut hands, host, wire);
            let told = format!("{what} on host {host}, in round {round} of seed {seed}");
            hands.bench.until_put_right(&told, &struck);
        }
    }
    println!("{backend}: {} deeds of seed {seed} put right in {:?}", ROUNDS * deeds.len(), began.elapsed());
    let wires = hands.bench.wires.clone();
    assert!(wires.iter().all(|wire| hands.bench.passes(wire)));
    foreign.assert_untouched_and_remove(&mut hands);
    sandbox.ok(&["selfcheck"]);
    drop(hands);
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    hosts.assert_clean(&sandbox);
}
