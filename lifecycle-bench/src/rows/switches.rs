//! Links through switches: a Linux bridge per link, and Open vSwitch beside its own `ovs-vsctl`.

use std::fmt::Write;
use std::os::fd::AsRawFd;
use std::time::Instant;

use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::open_vswitch::{OpenVswitch, missing};
use serde_json::json;

use super::{Row, as_root, ip_batch, settings_of};
use crate::canary::Canary;
use crate::measure::{Result, Sample, millis};
use crate::raw::Space;
use crate::switch::Database;
use crate::table::{Cell, Goal, Line};
use crate::wiring::{Ours, rest};

pub(super) const ROW: Row =
    Row { name: "switches", about: "links by Linux bridges and by Open vSwitch, made and removed", measure };

const RUNS: usize = 5;
/// Links in one run.
const LINKS: usize = 100;
const UP: &str = "ovs link up, waited for";
const DOWN: &str = "ovs link down, waited for";

fn measure() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let names = ["linux-bridge link up", "linux-bridge link down"];
    let bridges = as_root_twice(|| {
        let switch = FreshNamespace::new()?;
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), switch.ns.as_raw_fd());
        let plugin = lifecycle_network_linux_bridge::PLUGIN;
        up_and_down(&Ours::of(&plugin, json!({ "namespace": namespace }))?)
    })?;
    lines.extend(names.into_iter().zip(bridges).map(|(name, cell)| Line::new(name, "ms", cell)));

    if let Some(reason) = missing() {
        lines.push(Line::skipped(UP, reason));
        return Ok(lines);
    }
    lines.extend(ovs()?);
    lines.extend(hot(5, 5.0)?);
    lines.extend(hot(50, 2.0)?);
    Ok(lines)
}

/// In turns, so that a busy machine is busy for all of them.
fn ovs() -> Result<Vec<Line>> {
    let switch = OpenVswitch::start();
    let ours = Ours::of(&lifecycle_network_ovs::PLUGIN, settings_of(&switch))?;
    let database = Database::of(&switch)?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut batch_up, mut batch_down) = (Vec::new(), Vec::new());
    let mut floor = Vec::new();
    let each = |total: f64| total / LINKS as f64;
    for _ in 0..RUNS {
        let (took_up, took_down) = ours.up_and_down(LINKS)?;
        up.push(each(took_up));
        down.push(each(took_down));
        let (took_up, took_down) = in_one_batch(&switch, |ports| {
            let tagged: Vec<_> = ports.iter().map(|(port, tag)| (port, format!("tag={tag}"))).collect();
            let add = tagged.iter().flat_map(|(port, tag)| ["--", "add-port", "batch", port, tag]);
            switch.vsctl(&add.collect::<Vec<_>>());
            Ok(())
        })?;
        batch_up.push(each(took_up));
        batch_down.push(each(took_down));
        let (took_up, _) = in_one_batch(&switch, |ports| database.add_ports("batch", ports).map(drop))?;
        floor.push(each(took_up));
    }
    let [peer_up, peer_down] = by_vsctl(&switch)?;
    let (up, down, floor) = (Sample::of(up), Sample::of(down), Sample::of(floor));
    let one = |what: &str| format!("{what}; peer in one batch");
    Ok(vec![
        Line::new(UP, "ms", up.clone()).floor(floor.clone()).peer(peer_up).goal(Goal::FasterThanPeer(40.0)),
        Line::new(one(UP), "ms", up).floor(floor).peer(Sample::of(batch_up)).goal(Goal::FasterThanPeer(1.0)),
        Line::new(DOWN, "ms", down.clone()).peer(peer_down),
        Line::new(one(DOWN), "ms", down).peer(Sample::of(batch_down)),
    ])
}

/// A link between two ends that are parked, which takes two tags in one transaction, beside `ovs-vsctl` doing the same, and the
/// transaction alone.
fn hot(links: usize, times: f64) -> Result<Vec<Line>> {
    let switch = OpenVswitch::start();
    let ours = Ours::of(&lifecycle_network_ovs::PLUGIN, settings_of(&switch))?;
    let database = Database::of(&switch)?;
    let (mut peers, mut floors, mut floor_together) = (Vec::new(), Vec::new(), None);
    let (each, together) = ours.hot_connect(links, |identities| {
        let ports: Vec<(String, usize)> = (identities.iter().enumerate())
            .flat_map(|(at, identity)| ports_of(identity).into_iter().map(move |port| (port, 3000 + at)))
            .collect();
        rest();
        let floor = database.set_tags(ports.iter().map(|(port, tag)| (port.as_str(), *tag)))?;
        if identities.len() > 1 {
            floor_together = Some(floor / links as f64);
            return Ok(());
        }
        floors.push(floor);
        rest();
        let words: Vec<&str> = ports.iter().flat_map(|(port, _)| ["--", "set", "port", port, "tag=4000"]).collect();
        let begin = Instant::now();
        switch.vsctl(&words);
        peers.push(millis(begin));
        Ok(())
    })?;
    let peer = Sample::of(peers);
    let what = format!("ovs hot connect among {} ports", 2 * links);
    let one = Line::new(&*what, "ms", each).floor(Sample::of(floors)).peer(peer.clone());
    let all = Line::new(format!("{what}, all at once"), "ms", Sample::of(vec![together])).peer(peer);
    let all = all.floor(floor_together.map_or(Cell::None, |floor| Sample::of(vec![floor]).into()));
    let all = if links >= 50 { all.goal(Goal::FasterThanPeer(50.0)) } else { all };
    Ok(vec![one.goal(Goal::FasterThanPeer(times)), all])
}

fn ports_of(identity: &LinkIdentity) -> Vec<String> {
    identity.ends().filter_map(|end| end.plugged.as_ref()).map(|plugged| plugged.port.clone()).collect()
}

/// Milliseconds per link, up and down.
fn up_and_down(ours: &Ours) -> Result<[Sample; 2]> {
    let runs: Vec<_> = (0..RUNS).map(|_| ours.up_and_down(LINKS)).collect::<Result<_>>()?;
    let each = |pick: fn(&(f64, f64)) -> f64| Sample::of(runs.iter().map(|run| pick(run) / LINKS as f64).collect());
    Ok([each(|run| run.0), each(|run| run.1)])
}

fn as_root_twice(measure: impl FnOnce() -> Result<[Sample; 2]>) -> Result<[Cell; 2]> {
    let mut down = None;
    let up = as_root(|| {
        let [first, second] = measure()?;
        down = Some(second);
        Ok(first)
    })?;
    let down = down.map_or_else(|| up.clone(), Cell::from);
    Ok([up, down])
}

/// The same two ports per link by `ovs-vsctl`, one after the other, each waited for. Its interfaces are the switch's own,
/// so that it is spared the making of pairs.
fn by_vsctl(switch: &OpenVswitch) -> Result<[Sample; 2]> {
    switch.vsctl(&["add-br", "peer", "--", "set", "bridge", "peer", "datapath_type=netdev"]);
    let ports: Vec<String> = (0..2 * LINKS).map(|number| format!("peer{number}")).collect();
    let begin = Instant::now();
    for (number, port) in ports.iter().enumerate() {
        let tag = format!("tag={}", number / 2 + 1);
        switch.vsctl(&["add-port", "peer", port, &tag, "--", "set", "interface", port, "type=internal"]);
    }
    let up = millis(begin) / LINKS as f64;
    let begin = Instant::now();
    ports.iter().for_each(|port| drop(switch.vsctl(&["del-port", "peer", port])));
    let down = millis(begin) / LINKS as f64;
    switch.vsctl(&["del-br", "peer"]);
    Ok([Sample::of(vec![up]), Sample::of(vec![down])])
}

/// The same pairs of interfaces by one `ip -batch` and the same ports, each with its tag, by whatever adds them, waited for, and
/// the nodes' ends set up by raw netlink, since no frame passes before; the ports removed by one `ovs-vsctl`. Milliseconds for
/// all.
fn in_one_batch(switch: &OpenVswitch, add: impl FnOnce(&[(String, usize)]) -> Result<()>) -> Result<(f64, f64)> {
    let nodes = Space::many(LINKS + 1)?;
    switch.vsctl(&["add-br", "batch", "--", "set", "bridge", "batch", "datapath_type=netdev"]);
    let (mut script, mut ports, mut ends) = (String::new(), Vec::new(), Vec::new());
    for number in 0..LINKS {
        for (node, end) in [(&nodes[number], "a"), (&nodes[number + 1], "b")] {
            let (port, queues) = (format!("p{number}{end}"), "numtxqueues 1 numrxqueues 1");
            let (name, namespace) =
                (format!("eth{end}"), format!("/proc/{}/fd/{}", std::process::id(), node.ns.as_raw_fd()));
            writeln!(script, "link add {port} {queues} type veth peer name {name} {queues} netns {namespace}")?;
            writeln!(script, "link set {port} up")?;
            ports.push((port, number + 1));
            ends.push((node, name));
        }
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("script");
    std::fs::write(&path, script)?;
    let begin = Instant::now();
    ip_batch(&switch.namespace(), &path)?;
    add(&ports)?;
    ends.iter().try_for_each(|(node, name)| node.up(name))?;
    let up = millis(begin);
    let begin = Instant::now();
    let remove = ports.iter().flat_map(|(port, _)| ["--", "del-port", "batch", port]);
    switch.vsctl(&remove.collect::<Vec<_>>());
    let down = millis(begin);
    switch.vsctl(&["del-br", "batch"]);
    Canary::release(nodes)?;
    Ok((up, down))
}
