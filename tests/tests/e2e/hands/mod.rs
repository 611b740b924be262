//! Two hundred random deeds of people who change parts of links by hand: each is noticed and put right, no other link
//! flaps, and what is not ours is left alone.

mod deeds;
pub(crate) mod lab;
mod tunnels;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::sandbox::{Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

use deeds::{Deed, Foreign, Hands};
use lab::Bench;

/// How many deeds are done.
const DEEDS: usize = 200;

type Named = (&'static str, Deed);

const ON_ANY: [Named; 5] = [
    ("a part on the host deleted", deeds::delete),
    ("a part on the host set down", deeds::set_down),
    ("the MTU of a part on the host changed", deeds::set_mtu),
    ("a pair made again under its old names", deeds::make_again),
    ("an end deleted in its node", deeds::delete_in_node),
];

const ON_BRIDGE: [Named; 4] = [
    ("a port unplugged", deeds::unplug),
    ("a port that holds frames back", deeds::hold_frames_back),
    ("a bridge deleted", deeds::delete_bridge),
    ("a bridge set down", deeds::set_bridge_down),
];

const SLOWED: [Named; 1] = [("what slows down changed", deeds::slow_down)];

const STRANGERS: [Named; 1] = [("a stranger on the bridge", deeds::plug_in)];

const ON_SWITCH: [Named; 6] = [
    ("a tag changed", deeds::retag),
    ("another VLAN mode", deeds::trunk),
    ("a port deleted", deeds::delete_port),
    ("the switch deleted", deeds::delete_switch),
    ("a switch that holds frames back", deeds::hold_switch_back),
    ("a stranger on the segment", deeds::tap_in),
];

const LAB: &str = "\
name: hands
mgmt: {skip-when-unused: true}
topology:
  defaults: {kind: linux, network-mode: none}
  nodes: {n0: {}, n1: {}, n2: {}, n3: {}, NODES}
  links:
    - {type: veth, rate: 1Gbit, endpoints: [{node: n0, interface: eth1}, {node: n1, interface: eth2}]}
    - endpoints: ['n1:eth1', 'n2:eth2']
    - endpoints: ['n2:eth1', 'n3:eth2']
    - {type: veth, rate: 1Gbit, endpoints: [{node: n3, interface: eth1}, {node: n0, interface: eth2}]}
    - {type: host, rate: 1Gbit, endpoint: {node: n0, interface: eth3}, host-interface: hx0}
    - {type: host, endpoint: {node: n1, interface: eth3}, host-interface: hx1}
";

/// Nodes that share a bridge, for the backend that has them.
const SEGMENT: &str = "    - endpoints: ['n2:eth3', 'lcbr:p2']
    - endpoints: ['n3:eth3', 'lcbr:p3']
";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = tunnels::trials();
    let veth = [&ON_ANY[..], &ON_BRIDGE, &SLOWED].concat();
    let bridge = [&ON_ANY[..], &ON_BRIDGE, &SLOWED, &STRANGERS].concat();
    let ovs = [&ON_ANY[..], &ON_SWITCH, &SLOWED].concat();
    for (name, backend, deeds, needs) in [
        ("veth", "veth", veth, &[Need::Root][..]),
        ("linux_bridge", "linux-bridge", bridge, &[Need::Root]),
        ("ovs", "ovs", ovs, &[Need::Root, Need::OpenVswitch]),
    ] {
        trials.push(trial(&format!("root::hands::{name}"), needs, move || hands(backend, &deeds)));
    }
    trials
}

/// The seed: that of the environment, to do the same once more, or the time.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("LIFECYCLE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000)
}

#[expect(clippy::print_stdout, reason = "how long it took, and the seed")]
fn hands(backend: &str, deeds: &[Named]) {
    let seed = seed();
    let sandbox = Sandbox::new(User::Root);
    let switch = (backend == "ovs").then(|| OpenVswitch::start_in(sandbox.network()));
    let database = switch.as_ref().map_or_else(|| "unix:/nonexistent/db.sock".to_owned(), OpenVswitch::database);
    // What the kernel does not tell of is found by passes.
    let config =
        format!("limits: {{link-pass: 2s}}\nplugins: {{ovs: {{database: \"{database}\", datapath: netdev}}}}\n");
    let config = sandbox.write("config.yaml", &config);
    let lab = match backend {
        "veth" => LAB.replace("NODES", "lcbr: {kind: bridge}") + SEGMENT,
        _ => LAB.replace(", NODES", ""),
    };
    sandbox.write("hands.clab.yml", &lab);
    let mut serve = sandbox.serve_with(&[
        ("LIFECYCLE_CONFIG", config.to_str().unwrap()),
        ("LIFECYCLE_LOG_LEVEL", "info"),
        ("LIFECYCLE_LOG_FORMAT", "json"),
    ]);
    sandbox.ok(&["deploy", "--backend", backend, "-t", "hands.clab.yml"]);
    let mut hands = Hands { bench: Bench::new(&sandbox, &serve, seed), switch: switch.as_ref() };
    let foreign = Foreign::make(&mut hands);
    let began = Instant::now();
    let mut done = 0;
    while done < DEEDS {
        let (what, deed) = deeds[hands.bench.chance(deeds.len())];
        let at = hands.bench.chance(hands.bench.wires.len());
        let wire = hands.bench.wires[at].clone();
        let Some(struck) = deed(&mut hands, &wire) else { continue };
        hands.bench.until_put_right(&format!("{what}, as deed {done} of seed {seed}"), &struck);
        done += 1;
    }
    println!("{backend}: {DEEDS} deeds of seed {seed} put right in {:?}", began.elapsed());
    foreign.assert_untouched(&mut hands);
    let wires = hands.bench.wires.clone();
    assert!(wires.iter().all(|wire| hands.bench.passes(wire)));
    sandbox.ok(&["selfcheck"]);
    foreign.remove(&mut hands);
    drop(hands);
    sandbox.ok(&["destroy", "--all"]);
    if let Some(switch) = &switch {
        assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    }
    serve.end(Signal::SIGTERM);
    drop(switch);
    sandbox.assert_clean();
}
