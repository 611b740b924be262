//! The rows of the table, one file each.

mod containers;
mod enforcement;
mod growth;
mod idle;
mod linear;
mod link;
#[cfg(feature = "libvirt")]
mod machines;
mod mismatch;
mod pass;
mod repair;
mod store;
mod switched;
mod switches;
mod thousand;
mod vxlan;

use std::path::Path;
use std::process::Command;

use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::topology::NodeSpec;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use serde_json::{Value, json};

use crate::measure::Result;
use crate::table::{Cell, Line};

/// One row, or a few that are measured together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) measure: fn() -> Result<Vec<Line>>,
}

pub(crate) const ROWS: &[Row] = &[
    link::ROW,
    switches::ROW,
    growth::ROW,
    vxlan::ROW,
    containers::ROW,
    #[cfg(feature = "libvirt")]
    machines::ROW,
    linear::ROW,
    switched::ROW,
    thousand::ROW,
    repair::ROW,
    idle::ROW,
    enforcement::ROW,
    pass::ROW,
    mismatch::ROW,
    store::ROW,
];

/// Does what only root may, and is skipped with the reason otherwise.
fn as_root<T: Into<Cell>>(measure: impl FnOnce() -> Result<T>) -> Result<Cell> {
    if nix::unistd::geteuid().is_root() {
        measure().map(Into::into)
    } else {
        Ok(Cell::Skipped("raw netlink between namespaces needs root".to_owned()))
    }
}

/// What is asked of a provider for a node of an image, without links or a management network.
fn node_of(number: u64, image: &str, cmd: Option<Vec<String>>) -> Result<CreateNode> {
    let name = NodeName::new(format!("n{number}"))?;
    let spec = NodeSpec { image: Some(image.to_owned()), cmd, ..NodeSpec::new(name.clone(), "linux") };
    let lab = (LabId::from_u64(1), LabName::new("bench")?);
    Ok(CreateNode::new(NodeId::from_u64(number), lab, format!("clab-bench-{name}"), spec))
}

/// Settings with which our backend uses a private switch.
fn settings_of(switch: &OpenVswitch) -> Value {
    json!({ "database": switch.database(), "namespace": switch.namespace(), "datapath": "netdev" })
}

/// Has one `ip` carry out a script in a network namespace.
fn ip_batch(namespace: &Path, script: &Path) -> Result<()> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).args(["ip", "-batch"]).arg(script);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip -batch: {}", String::from_utf8_lossy(&output.stderr)).into())
}
