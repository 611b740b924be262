//! Linux plumbing shared by Lifecycle plugins: namespaces, netlink, identities, probes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod identity;
pub mod namespace;
mod sys;
