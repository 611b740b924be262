//! SQLite state store of Lifecycle.
