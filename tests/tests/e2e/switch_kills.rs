//! Open vSwitch and its database are killed again and again while links are worked on.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::nodes::ring;
use lifecycle_tests::sandbox::{Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

use super::hands::lab::Bench;
use super::hands::seed;

/// How often each of the two daemons is killed.
const KILLS: usize = 20;
/// For so long a link may be called up that is not, since nobody can tell at once.
const NOTICE: Duration = Duration::from_millis(700);
/// For so long a daemon stays away.
const AWAY: Duration = Duration::from_millis(900);
/// Within this time after a daemon's return all is well again.
const AGAIN: Duration = Duration::from_secs(5);

const NODES: usize = 4;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("root::switch_killed", &[Need::Root, Need::OpenVswitch], killed)]
}

/// Begins some work on links and does not wait for it.
fn work(bench: &mut Bench<'_>) {
    let node = format!("n{}", bench.chance(NODES));
    match bench.chance(3) {
        0 => drop(bench.sandbox.run(&["restart", &node, "--no-wait"])),
        1 => {
            let mtu = 1300 + bench.chance(4) * 100;
            let lab = ring("ring", NODES).replacen("\"]\n", &format!("\"]\n      mtu: {mtu}\n"), 1);
            bench.sandbox.write("ring.clab.yml", &lab);
            drop(bench.sandbox.run(&["apply", "--backend", "ovs", "-t", "ring.clab.yml", "--no-wait"]));
        }
        _ => {
            let (at, side) = (bench.chance(bench.wires.len()), bench.side());
            let port = bench.wires[at].port(side);
            // It may be away just now.
            let _ = bench
                .route("")
                .run(lifecycle_linux::netlink::delete_link(lifecycle_linux::netlink::Which::Name(&port)));
        }
    }
}

fn killed() {
    let seed = seed();
    let sandbox = Sandbox::new(User::Root);
    let mut switch = OpenVswitch::start_in(sandbox.network());
    let plugins = format!("plugins: {{ovs: {{database: \"{}\", datapath: netdev}}}}\n", switch.database());
    let config = sandbox.write("config.yaml", &plugins);
    sandbox.write("ring.clab.yml", &ring("ring", NODES));
    let mut serve = sandbox.serve_with(&[
        ("LIFECYCLE_CONFIG", config.to_str().unwrap()),
        ("LIFECYCLE_LOG_LEVEL", "debug"),
        ("LIFECYCLE_LOG_FORMAT", "json"),
    ]);
    sandbox.ok(&["deploy", "--backend", "ovs", "-t", "ring.clab.yml"]);
    let mut bench = Bench::new(&sandbox, &serve, seed);
    let mut slowest = Duration::ZERO;
    for round in 0..2 * KILLS {
        let what = format!("kill {round} of seed {seed}");
        work(&mut bench);
        std::thread::sleep(Duration::from_millis(bench.chance(150) as u64));
        let server = bench.chance(2) == 0;
        if server {
            switch.kill_server()
        } else {
            switch.kill_switch()
        }
        let killed = Instant::now();
        println!("{what}: {}", if server { "database" } else { "switch" });
        while killed.elapsed() < AWAY {
            bench.transitions();
            let up = bench.states.values().filter(|state| *state == "up").count();
            assert!(killed.elapsed() < NOTICE || up == 0, "{what}: {up} links are up\n{}", bench.end_of_log());
            std::thread::sleep(Duration::from_millis(10));
        }
        if server {
            switch.start_server()
        } else {
            switch.start_switch()
        }
        // It is back when the switch has taken something up that is new in the database.
        switch.vsctl(&["set", "open_vswitch", ".", &format!("external_ids:round={round}")]);
        let back = Instant::now();
        until_up(&mut bench, &what, back);
        slowest = slowest.max(back.elapsed());
    }
    println!("{KILLS} kills of each daemon, of seed {seed}: all links verified within {slowest:?} of its return");
    exactly_those_in_use(&bench, &switch);
    sandbox.ok(&["selfcheck"]);
    drop(bench);
    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    serve.end(Signal::SIGTERM);
    drop(switch);
    sandbox.assert_clean();
}

/// Waits until all links are up, each of which passes frames from the moment at which it is said to be.
fn until_up(bench: &mut Bench<'_>, what: &str, back: Instant) {
    let mut seen = false;
    while !seen || bench.states.values().any(|state| state != "up") {
        seen = true;
        for (link, state) in bench.transitions() {
            let wire = bench.wires.iter().find(|wire| wire.id == link && state == "up").cloned();
            // What was said of it may be over by now.
            let is_up = |bench: &Bench<'_>| bench.states.get(&link).is_some_and(|state| state == "up");
            if let Some(wire) = wire
                && is_up(bench)
                && !bench.passes(&wire)
            {
                bench.transitions();
                assert!(!is_up(bench), "{what}: {wire:?} is called up and passes nothing\n{}", bench.end_of_log());
            }
        }
        let states = &bench.states;
        assert!(back.elapsed() < AGAIN, "{what}: not up in time: {states:?}\n{}", bench.end_of_log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two ports on each link's tag, and no other ports or tags.
fn exactly_those_in_use(bench: &Bench<'_>, switch: &OpenVswitch) {
    let text = switch.vsctl(&["--bare", "--columns=name,tag", "find", "port", "external_ids:lifecycle!=none"]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut tags: Vec<&str> = words.chunks(2).map(|row| row[1]).collect();
    assert_eq!(tags.len(), 2 * bench.wires.len(), "{text}");
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), bench.wires.len(), "{text}");
}
