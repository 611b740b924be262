#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ovsdb;

mod alive;
mod backend;
mod bear;
mod change;
mod connect;
mod detail;
mod failure;
mod identity;
mod name;
mod news;
mod park;
mod plan;
mod read;
mod removal;
mod settings;
mod switch;
mod tags;
mod tunnel;
mod worker;

use std::sync::Arc;

use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::NetworkPlugin;

pub use backend::OvsBackend;
pub use settings::{Datapath, Settings};

/// The backend's name.
const NAME: &str = "ovs";

/// The backend as a plugin.
pub const PLUGIN: NetworkPlugin = NetworkPlugin { name: NAME, make: |context| Ok(Arc::new(OvsBackend::new(context)?)) };

inventory::submit! { PLUGIN }

fn plugin_name() -> PluginName {
    PluginName::new(NAME).unwrap_or_else(|_| unreachable!("the name is a valid one"))
}
