#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod end;
mod files;
mod instance;
pub mod network;
mod news;
pub mod place;
pub mod provider;
mod supervisor;
pub mod vendor;

pub use supervisor::helper_main;
