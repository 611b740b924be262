//! Reference plugins that live in memory: simple enough to be right by inspection, and the measure for the others.
//!
//! [`MemoryHost`] is a machine in memory. Its provider and its network backend share what is on it, as real plugins share
//! a kernel, and its hand-operated methods do what a person or an accident would do to a real machine.

mod host;
mod network;
mod provider;
mod store;

pub use host::MemoryHost;
pub use network::MemoryNetwork;
pub use provider::MemoryProvider;
pub use store::MemoryStore;
