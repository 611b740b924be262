//! Facade of Lifecycle: re-exports and one feature per plugin.
