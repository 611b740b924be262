#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod capability;
pub mod ethtool;
pub mod identity;
pub mod limits;
pub mod management;
pub mod namespace;
pub mod netlink;
pub mod notify;
pub mod probe;
mod sys;
pub mod tap;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wiring;
