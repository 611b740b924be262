//! Reference plugins that live in memory: simple enough to be right by inspection, and the measure for the others.

mod store;

pub use store::MemoryStore;
