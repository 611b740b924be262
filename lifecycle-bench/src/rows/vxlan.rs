//! Halves of links between two hosts, beside `ip -batch`, which makes the same interfaces and asks for nothing back.

use std::fmt::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Instant;

use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::hosts::{HostAddresses, join_hosts};
use serde_json::json;

use super::{Row, as_root, ip_batch};
use crate::canary::Canary;
use crate::measure::{Result, Sample, millis};
use crate::raw::Space;
use crate::table::{Cell, Goal, Line};
use crate::wiring::Ours;

pub(super) const ROW: Row =
    Row { name: "vxlan", about: "halves of links between two hosts, made and removed", measure };

const RUNS: usize = 7;
/// Links in one run.
const LINKS: usize = 100;

fn measure() -> Result<Vec<Line>> {
    let (mut floors, mut ups, mut downs) = (Vec::new(), Vec::new(), Vec::new());
    let up = as_root(|| {
        for _ in 0..RUNS {
            floors.push(by_ip()? / LINKS as f64);
            let (up, down) = by_us()?;
            ups.push(up / LINKS as f64);
            downs.push(down / LINKS as f64);
        }
        Ok(Sample::of(ups))
    })?;
    let or_skipped = |runs: Vec<f64>| if runs.is_empty() { up.clone() } else { Cell::from(Sample::of(runs)) };
    let (floor, down) = (or_skipped(floors), or_skipped(downs));
    Ok(vec![
        Line::new("linux-bridge tunnel up", "ms", up).floor(floor).goal(Goal::TimesFloor(1.5)),
        Line::new("linux-bridge tunnel down", "ms", down),
    ])
}

/// Two hosts; what is measured happens on the first.
fn hosts() -> Result<[FreshNamespace; 2]> {
    let hosts = [FreshNamespace::new()?, FreshNamespace::new()?];
    join_hosts(hosts.each_ref().map(file).each_ref().map(PathBuf::as_path));
    Ok(hosts)
}

fn file(host: &FreshNamespace) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), host.ns.as_raw_fd()).into()
}

fn by_us() -> Result<(f64, f64)> {
    let [host, _far] = hosts()?;
    let plugin = lifecycle_network_linux_bridge::PLUGIN;
    let ours = Ours::of(&plugin, json!({ "namespace": file(&host) }))?;
    ours.tunnels_up_and_down(LINKS, [0, 1].map(|host| HostAddresses::of(host).v4[0]))
}

/// A bridge, a VXLAN device and a veth pair for each link, set up but for the end in the node.
fn by_ip() -> Result<f64> {
    let ([host, _far], nodes) = (hosts()?, Space::many(LINKS)?);
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4[0]);
    let mut script = String::new();
    for (number, node) in nodes.iter().enumerate() {
        let node = format!("/proc/{}/fd/{}", std::process::id(), node.ns.as_raw_fd());
        writeln!(script, "link add b{number} type bridge mcast_snooping 0")?;
        let vxlan = format!("vxlan id {} local {near} remote {there} dstport 4789 nolearning", number + 1);
        writeln!(script, "link add t{number} mtu 1400 master b{number} type {vxlan}")?;
        let peer = format!("peer name eth1 mtu 1400 numtxqueues 1 numrxqueues 1 netns {node}");
        writeln!(script, "link add v{number} mtu 1400 numtxqueues 1 numrxqueues 1 master b{number} type veth {peer}")?;
        for name in ["b", "t", "v"] {
            writeln!(script, "link set {name}{number} up")?;
        }
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("script");
    std::fs::write(&path, script)?;
    let begin = Instant::now();
    ip_batch(&file(&host), &path)?;
    let took = millis(begin);
    drop(host);
    Canary::release(nodes)?;
    Ok(took)
}
