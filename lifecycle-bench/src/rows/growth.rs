//! How wiring through switches grows: so many ports at once, and one link more on top of them.

use std::os::fd::AsRawFd;
use std::time::Instant;

use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::open_vswitch::{OpenVswitch, missing};
use serde_json::json;

use super::{Row, as_root, settings_of};
use crate::measure::{Result, Sample, millis, sample};
use crate::table::{Cell, Line};
use crate::wiring::Ours;

pub(super) const ROW: Row =
    Row { name: "growth", about: "links by Linux bridges and Open vSwitch, up to 1,000 ports", measure };

/// Ports in all, two of them for each link.
const PORTS: [usize; 3] = [100, 300, 1000];
/// Links that are added one after the other on top.
const MORE: usize = 5;

fn measure() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for ports in PORTS {
        let up = as_root(|| {
            let host = FreshNamespace::new()?;
            let namespace = format!("/proc/{}/fd/{}", std::process::id(), host.ns.as_raw_fd());
            let ours = Ours::of(&lifecycle_network_linux_bridge::PLUGIN, json!({ "namespace": namespace }))?;
            let (up, more, ()) = ours.on_top(ports / 2, MORE, || Ok(()))?;
            lines.push(Line::new(one_more("linux-bridge", ports), "ms", more));
            Ok(Sample::of(vec![up]))
        })?;
        lines.push(Line::new(at_once("linux-bridge", ports), "ms", up));
    }
    for ports in PORTS {
        let what = at_once("ovs", ports);
        if let Some(reason) = missing() {
            lines.push(Line::skipped(what, reason));
            continue;
        }
        let switch = OpenVswitch::start();
        let ours = Ours::of(&lifecycle_network_ovs::PLUGIN, settings_of(&switch))?;
        let (up, more, peer) = ours.on_top(ports / 2, MORE, || one_more_by_vsctl(&switch))?;
        lines.push(Line::new(one_more("ovs", ports), "ms", more).peer(peer));
        lines.push(Line::new(what, "ms", Cell::from(Sample::of(vec![up]))));
    }
    Ok(lines)
}

fn at_once(backend: &str, ports: usize) -> String {
    format!("{backend}, {ports} ports at once, per link")
}

fn one_more(backend: &str, ports: usize) -> String {
    format!("{backend}, one link more on top of {ports} ports")
}

/// Two more ports by one command, whose interfaces are the switch's own.
fn one_more_by_vsctl(switch: &OpenVswitch) -> Result<Sample> {
    switch.vsctl(&["add-br", "peer", "--", "set", "bridge", "peer", "datapath_type=netdev"]);
    let mut number = 0;
    sample(MORE, || {
        number += 1;
        let names = [format!("peer{number}a"), format!("peer{number}b")];
        let add = |name: &String| {
            let words = ["--", "add-port", "peer", name, "tag=1", "--", "set", "interface", name, "type=internal"];
            words.map(str::to_owned)
        };
        let words: Vec<String> = names.iter().flat_map(add).collect();
        let begin = Instant::now();
        switch.vsctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(millis(begin))
    })
}
