#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod console;
mod events;
mod exec;
mod failure;
mod holder;
mod images;
mod logs;
mod management;
mod mark;
mod namespace;
mod observe;
mod permit;
mod provider;
mod settings;
mod spec;

pub use provider::{ContainerProvider, DOCKER, PODMAN};
pub use settings::{Settings, Tls};
