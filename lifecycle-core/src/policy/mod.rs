//! The policies: pure functions from facts to decisions, one file each.
//!
//! A policy reads nothing but its arguments. Facts are small plain values that the caller takes from its own records,
//! so that a policy can be used, and tested, without the rest of Lifecycle.

pub mod backend;
pub mod blocked;
pub mod bulk;
pub mod display;
pub mod enforcement;
pub mod extract;
pub mod fleet;
pub mod guard;
pub mod install;
pub mod lab;
pub mod link;
pub mod log_scan;
pub mod migration;
pub mod naming;
pub mod placement;
pub mod port_names;
pub mod segment;
pub mod stage;
pub mod tunnel;
pub mod vendor_names;
