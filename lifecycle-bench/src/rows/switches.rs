//! Links through switches: a Linux bridge per link, and Open vSwitch beside its own `ovs-vsctl`.

use std::time::Instant;

use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::open_vswitch::{OpenVswitch, missing};
use serde_json::json;

use super::{Row, as_root};
use crate::measure::{Result, Sample, millis};
use crate::table::{Cell, Goal, Line};
use crate::wiring::Ours;

pub(super) const ROW: Row =
    Row { name: "switches", about: "links by Linux bridges and by Open vSwitch, made and removed", measure };

const RUNS: usize = 3;
/// Links in one run.
const LINKS: usize = 100;

fn measure() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let names = ["linux-bridge link up", "linux-bridge link down"];
    let bridges = as_root_twice(|| {
        let switch = FreshNamespace::new()?;
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&switch.ns));
        let plugin = lifecycle_network_linux_bridge::PLUGIN;
        up_and_down(&Ours::of(&plugin, json!({ "namespace": namespace }))?)
    })?;
    lines.extend(names.into_iter().zip(bridges).map(|(name, cell)| Line::new(name, "ms", cell)));

    let names = ["ovs link up, waited for", "ovs link down, waited for"];
    if let Some(reason) = missing() {
        lines.extend(names.map(|name| Line::skipped(name, reason.clone())));
        return Ok(lines);
    }
    let switch = OpenVswitch::start();
    let settings = json!({
        "database": switch.database(), "namespace": switch.namespace(), "datapath": "netdev"
    });
    let [up, down] = as_root_twice(|| up_and_down(&Ours::of(&lifecycle_network_ovs::PLUGIN, settings)?))?;
    let [peer_up, peer_down] = by_vsctl(&switch)?;
    lines.push(Line::new(names[0], "ms", up).peer(peer_up).goal(Goal::FasterThanPeer(40.0)));
    lines.push(Line::new(names[1], "ms", down).peer(peer_down));
    Ok(lines)
}

/// Milliseconds per link, up and down.
fn up_and_down(ours: &Ours) -> Result<[Sample; 2]> {
    let runs: Vec<(f64, f64)> = (0..RUNS).map(|_| ours.up_and_down(LINKS)).collect::<Result<_>>()?;
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
