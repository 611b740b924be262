//! Nodes that are virtual machines, on a private libvirt without KVM: its own command doing the same to the same machines.

use std::sync::Arc;
use std::time::Instant;

use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::{HostContext, Provider};
use lifecycle_linux::testing::guest;
use lifecycle_linux::testing::libvirt::{LibvirtDaemon, missing};
use serde_json::json;

use super::{Row, node_of};
use crate::measure::{Result, Sample, millis};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "machines", about: "nodes as virtual machines of libvirt, made and removed", measure };

const IMAGE: &str = "guest";
const RUNS: u64 = 10;
const UP: &str = "libvirt machine defined and started";
const DOWN: &str = "libvirt machine ended and undefined";

fn measure() -> Result<Vec<Line>> {
    if let Some(reason) = missing() {
        return Ok([UP, DOWN].map(|name| Line::skipped(name, reason.clone())).to_vec());
    }
    let daemon = LibvirtDaemon::start();
    guest::make(&daemon.directory().join("images").join(IMAGE));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let provider = provider(&daemon)?;

    // In turns, so that a busy machine is busy for both.
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for number in 1..=RUNS {
        let request = node_of(number, IMAGE, None)?;
        let begin = Instant::now();
        let instance = runtime.block_on(async {
            let instance = provider.create_node(&request).await?.instance;
            provider.start_node(&instance).await.map(|()| instance)
        })?;
        let up = millis(begin);
        // What we made is ended and made again by the command, with all that belongs to it in place.
        floor.push(by_command(&daemon)?);
        let begin = Instant::now();
        runtime.block_on(provider.destroy_node(&instance))?;
        ours.push((up, millis(begin)));
    }
    let each = |runs: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| Sample::of(runs.iter().map(pick).collect());
    Ok(vec![
        Line::new(UP, "ms", each(&ours, |run| run.0)).floor(each(&floor, |run| run.0)).goal(Goal::TimesFloor(1.1)),
        Line::new(DOWN, "ms", each(&ours, |run| run.1)).floor(each(&floor, |run| run.1)),
    ])
}

fn provider(daemon: &LibvirtDaemon) -> Result<Arc<dyn Provider>> {
    let settings = json!({
        "uri": daemon.uri(),
        "directory": daemon.directory().join("vms"),
        "images": [daemon.directory().join("images")],
        "acceleration": "qemu",
        "memory_mb": 96,
        "namespace": daemon.namespace(),
    });
    let context = HostContext::without_directories(ControllerId::from_u64(1), settings);
    Ok((lifecycle_provider_libvirt::PLUGIN.make)(&context)?)
}

/// The one machine that is there, ended and undefined, and defined and started again, by libvirt's own command.
fn by_command(daemon: &LibvirtDaemon) -> Result<(f64, f64)> {
    let name = daemon.virsh(&["list", "--name"]);
    let file = daemon.directory().join("domain.xml").display().to_string();
    std::fs::write(&file, daemon.virsh(&["dumpxml", "--inactive", &name]))?;
    let begin = Instant::now();
    daemon.virsh(&["destroy", &name]);
    daemon.virsh(&["undefine", &name]);
    let down = millis(begin);
    let begin = Instant::now();
    daemon.virsh(&["define", &file]);
    daemon.virsh(&["start", &name]);
    Ok((millis(begin), down))
}
