#![doc = include_str!("../README.md")]

use std::path::PathBuf;
use std::sync::Arc;

use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::VendorPlugin;
use lifecycle_core::plugin::vendor::{DataVendor, KindData, StartupConfig, StartupMethod};

/// The kind of plain Linux nodes.
pub const LINUX: &str = "linux";

/// The vendor as a plugin.
pub const PLUGIN: VendorPlugin = VendorPlugin { name: "linux", make: || Arc::new(linux()) };

inventory::submit! { PLUGIN }

/// Plain Linux nodes and bridges.
fn linux() -> DataVendor {
    let bridge =
        |kind: &str| KindData { passive: true, provider: PluginName::new("bridge").ok(), ..KindData::new(kind) };
    let ignored = StartupConfig {
        method: StartupMethod::Ignored,
        path: PathBuf::new(),
        writable: false,
        label: None,
        archive: None,
    };
    let linux =
        KindData { label: "Linux".to_owned(), lend_tools: true, startup_config: Some(ignored), ..KindData::new(LINUX) };
    DataVendor::new(vec![linux, bridge("bridge"), bridge("ovs-bridge")])
}
