#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod plugins;

pub use lifecycle_core as core;
pub use lifecycle_engine as engine;
#[cfg(feature = "topology")]
pub use lifecycle_topology as topology;
#[cfg(feature = "catalog")]
pub use lifecycle_vendor_catalog as vendors;

/// Becomes a helper process of a plugin if this process was started to be one, and never returns then; returns at once
/// otherwise.
///
/// To be called on the first line of `main`, before a thread or a runtime is started, by every program that runs nodes
/// with the provider `netns` and does not name another helper executable.
pub fn helper_main() {
    #[cfg(feature = "netns")]
    lifecycle_provider_netns::helper_main();
}
