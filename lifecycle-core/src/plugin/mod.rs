//! The traits that plugins implement.
//!
//! All are object-safe, have few required methods, and describe what they can do as plain data. Every trait states its
//! laws; the `lifecycle-testkit` crate tests exactly those, for plugins of this workspace and of anybody else.

mod context;
pub mod network;
pub mod overlay;
pub mod provider;
pub mod store;
pub mod vendor;

pub use context::HostContext;
pub use network::{NetworkBackend, NetworkPlugin};
pub use overlay::OverlayBackend;
pub use provider::{Provider, ProviderPlugin};
pub use store::{StateStore, StorePlugin};
pub use vendor::{VendorConfig, VendorPlugin};
