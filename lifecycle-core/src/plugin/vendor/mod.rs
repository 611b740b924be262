//! Vendors: what is particular to a kind of node, as data and a few pure hooks.
//!
//! Most of what a vendor is can be said in [`KindData`], and [`DataVendor`] does what the data say. A vendor whose
//! behaviour is code implements [`VendorConfig`] itself.

mod data;
mod environment;
mod kind;
mod parts;
mod readiness;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{IfName, PortName};
use crate::plugin::provider::CreateNode;
use crate::topology::{NodeEnd, NodeSpec};

pub use data::DataVendor;
pub use kind::KindData;
pub use parts::{
    Chipset, ConsoleMethod, DiskBus, Firmware, ImageForm, InterfaceWait, KindOption, KindResources, Machine, NicModel,
    SaveConfig, SaveMethod, SerialPort, StartupConfig, StartupMethod,
};
pub use readiness::{InvalidPattern, Pattern, Progress, Readiness};

/// A compiled-in vendor: its name and how to make it.
#[derive(Debug, Clone, Copy)]
pub struct VendorPlugin {
    /// Its name.
    pub name: &'static str,
    /// Makes it.
    pub make: fn() -> Arc<dyn VendorConfig>,
}

inventory::collect!(VendorPlugin);

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
/// - *Port names map injectively*: two ports of a kind never share an interface, and [`port`](Self::port) undoes
///   [`interface`](Self::interface). Only the name of an interface may stand for its port as well.
pub trait VendorConfig: Send + Sync + fmt::Debug {
    /// The kinds it knows.
    fn kinds(&self) -> &[KindData];

    /// The kernel's name for the interface behind a port; nothing when the kind has no such port.
    fn interface(&self, kind: &KindData, port: &PortName) -> Option<IfName> {
        kind.interfaces.interface(port)
    }

    /// The vendor's name for the port before an interface.
    fn port(&self, kind: &KindData, interface: &IfName) -> Option<PortName> {
        kind.interfaces.port(interface)
    }

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
