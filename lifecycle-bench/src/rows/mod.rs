//! The rows of the table, one file each.

mod containers;
mod enforcement;
mod idle;
mod linear;
mod link;
mod mismatch;
mod pass;
mod repair;
mod store;
mod switches;
mod thousand;
mod vxlan;

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
    vxlan::ROW,
    containers::ROW,
    linear::ROW,
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
