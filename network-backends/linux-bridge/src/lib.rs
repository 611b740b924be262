#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod change;
mod connect;
mod detail;
mod facts;
mod read;
mod removal;
mod settings;
mod stand;
mod tunnel;
mod worker;

use std::sync::Arc;

use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::NetworkPlugin;

pub use backend::BridgeBackend;
pub use settings::Settings;

/// The backend's name.
const NAME: &str = "linux-bridge";

/// The backend as a plugin.
pub const PLUGIN: NetworkPlugin =
    NetworkPlugin { name: NAME, make: |context| Ok(Arc::new(BridgeBackend::new(context)?)) };

inventory::submit! { PLUGIN }

fn name() -> PluginName {
    PluginName::new(NAME).unwrap_or_else(|_| unreachable!("the name is a valid one"))
}
