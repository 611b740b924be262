#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod decide;
pub mod drive;

pub use decide::{Command, CommandError, NodeAction, Plan, Reply, Settings};
pub use drive::{Builder, Controller};
