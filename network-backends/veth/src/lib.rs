#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod bridge;
mod change;
mod connect;
mod detail;
mod facts;
mod read;
mod removal;
mod segment;
mod worker;

use std::sync::Arc;

use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::NetworkPlugin;

pub use backend::VethBackend;
pub use segment::{SEGMENT_PLUGIN, SegmentProvider};

/// The backend's name.
const NAME: &str = "veth";

/// The backend as a plugin.
pub const PLUGIN: NetworkPlugin =
    NetworkPlugin { name: NAME, make: |context| Ok(Arc::new(VethBackend::new(context)?)) };

inventory::submit! { PLUGIN }

fn name() -> PluginName {
    PluginName::new(NAME).unwrap_or_else(|_| unreachable!("the name is a valid one"))
}
