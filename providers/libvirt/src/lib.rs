#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod carrier;
mod console;
mod crew;
mod daemon;
mod domain;
mod exec;
mod failure;
mod files;
mod image;
mod life;
mod logs;
mod machine;
mod management;
mod mark;
mod medium;
mod observe;
mod provider;
mod settings;
mod taps;
mod watch;

pub use provider::{LibvirtProvider, PLUGIN};
pub use settings::{Acceleration, Settings};
