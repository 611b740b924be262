//! The laws of every plugin trait, as suites that a plugin's crate runs.
//!
//! A suite is run by a test with `harness = false`. Each law is one trial with its own fixture and its own runtime; a
//! fixture is the little that a suite has to be told, or to have done by hand, about what it tests. A law that does not
//! apply, since a capability is missing for example, is shown as ignored with the reason. The environment variable
//! `LIFECYCLE_TEST_REQUIRE` lists what must not be missing, separated by commas: then the trial fails instead.

pub mod network;
pub mod provider;
mod runner;
pub mod store;
pub mod vendor;

pub use runner::{REQUIRE, Skip, Suite, Verdict, once_more};
