#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attach;
pub mod error;
pub mod id;
pub mod machine;
pub mod memory;
pub mod model;
pub mod name;
pub mod plugin;
pub mod policy;
pub mod registry;
pub mod secret;
pub mod time;
pub mod topology;

pub use error::{Error, ErrorKind, Result};
pub use machine::Lifecycle;
pub use registry::Registry;
