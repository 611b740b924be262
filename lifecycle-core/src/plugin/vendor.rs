//! Vendors: what is particular to a kind of node, as data and a few pure hooks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{IfName, PluginName, PortName};
use crate::plugin::provider::CreateNode;
use crate::topology::{NodeEnd, NodeSpec};

/// A compiled-in vendor: its name and how to make it.
#[derive(Debug, Clone, Copy)]
pub struct VendorPlugin {
    /// Its name.
    pub name: &'static str,
    /// Makes it.
    pub make: fn() -> Arc<dyn VendorConfig>,
}

inventory::collect!(VendorPlugin);

/// One kind of node as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindData {
    /// Its name in lab files.
    pub kind: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Provider that runs it when nobody chose one.
    pub provider: Option<PluginName>,
    /// How to tell that it is ready; ready when running without one.
    pub readiness: Readiness,
    /// Seconds it may take to start.
    pub start_timeout: Option<u32>,
    /// Variables that it gets besides the user's.
    pub env: BTreeMap<String, String>,
}

/// How to tell that a node is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "snake_case")]
pub enum Readiness {
    /// It is ready when it runs.
    #[default]
    WhenRunning,
    /// A command inside it succeeds.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Seconds between two tries.
        interval: u32,
        /// Seconds after which it is running but not ready.
        timeout: u32,
    },
}

/// What a hook wants done to its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum VendorAction {
    /// Run a command inside the node.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// What the hooks of a vendor see of a node.
#[derive(Debug, Clone, Copy)]
pub struct VendorContext<'a> {
    /// The node as its user wants it.
    pub spec: &'a NodeSpec,
    /// Its ends of links.
    pub ends: &'a [&'a NodeEnd],
}

/// What is particular to some kinds of node.
///
/// # Laws
///
/// - *Hooks are pure*: the same arguments give the same answer.
/// - *Port names map injectively*: two ports of a kind never share an interface, and
///   [`port`](Self::port) undoes [`interface`](Self::interface).
pub trait VendorConfig: Send + Sync + fmt::Debug {
    /// The kinds it knows.
    fn kinds(&self) -> &[KindData];

    /// The kernel's name for the interface behind a port; nothing when the kind has no such port.
    fn interface(&self, kind: &KindData, port: &PortName) -> Option<IfName>;

    /// The vendor's name for the port before an interface.
    fn port(&self, kind: &KindData, interface: &IfName) -> Option<PortName>;

    /// Changes what the provider is asked for.
    ///
    /// # Errors
    /// When the node asks for something that the kind cannot do.
    fn before_create(&self, _kind: &KindData, _request: &mut CreateNode) -> Result<()> {
        Ok(())
    }

    /// What to do each time the node was started and its links are wired.
    fn after_start(&self, _kind: &KindData, _node: &VendorContext<'_>) -> Vec<VendorAction> {
        Vec::new()
    }
}
