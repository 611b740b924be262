//! A hundred namespace nodes in a row through switches, under a whole controller, beside Mininet with the same switches.

use std::os::fd::AsRawFd;

use lifecycle_core::name::PluginName;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::open_vswitch::{OpenVswitch, missing};
use serde_json::{Value, json};

use super::{Row, settings_of};
use crate::lab;
use crate::measure::{Result, Sample};
use crate::mininet;
use crate::table::{Cell, Line};

pub(super) const ROW: Row = Row {
    name: "switched",
    about: "100 namespace nodes in a row through switches, up and down, beside Mininet",
    measure,
};

const NODES: usize = 100;
const RUNS: usize = 3;

fn measure() -> Result<Vec<Line>> {
    let what = |backend: &str, way: &str| format!("linear lab of {NODES} on {backend}, {way}");
    let mut lines = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        let reason = "switches of the benchmark's own need root";
        return Ok(["linux-bridge", "ovs"].map(|backend| Line::skipped(what(backend, "up"), reason)).into());
    }
    let host = FreshNamespace::new()?;
    let namespace = format!("/proc/{}/fd/{}", std::process::id(), host.ns.as_raw_fd());
    let (up, down) = ours("linux-bridge", json!({ "namespace": namespace }))?;
    let (peer_up, peer_down) = mininet::measure("lxbr", NODES, 1);
    lines.push(Line::new(what("linux-bridge", "up"), "ms", up).peer(peer_up));
    lines.push(Line::new(what("linux-bridge", "down"), "ms", down).peer(peer_down));

    if let Some(reason) = missing() {
        lines.push(Line::skipped(what("ovs", "up"), reason));
        return Ok(lines);
    }
    let switch = OpenVswitch::start();
    let (up, down) = ours("ovs", settings_of(&switch))?;
    // A switch for each, so that neither waits for what the other left.
    drop(switch);
    let (peer_up, peer_down) = mininet::measure_on(&OpenVswitch::start(), NODES, 1);
    lines.push(Line::new(what("ovs", "up"), "ms", up).peer(peer_up));
    lines.push(Line::new(what("ovs", "down"), "ms", down).peer(peer_down));
    Ok(lines)
}

/// Up and down of a lab under a controller whose backend of that name has these settings.
fn ours(backend: &str, settings: Value) -> Result<(Cell, Cell)> {
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    lab::with_plugin(backend, settings, async |bench| {
        for _ in 0..RUNS {
            let mut topology = lab::chain(NODES)?;
            topology.settings.backend = Some(PluginName::new(backend)?);
            ups.push(bench.up(topology).await?);
            downs.push(bench.down(&lab::name()?).await?);
        }
        Ok(())
    })?;
    Ok((Sample::of(ups).into(), Sample::of(downs).into()))
}
