#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod faulty;
pub mod laws;
pub mod sim;
