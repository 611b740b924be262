//! What exists outside, as the plugins of all hosts tell it.

use lifecycle_core::id::NodeId;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::ObservedLink;
use lifecycle_core::plugin::provider::{InstanceState, ObservedNode};

/// Everything outside that bears our mark.
///
/// On a live system it is made of the lists of all providers and the observations of all backends, taken one after the
/// other while nothing else is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Census {
    /// Instances.
    pub instances: Vec<SeenInstance>,
    /// Links.
    pub links: Vec<SeenLink>,
}

/// An instance and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenInstance {
    /// Its host.
    pub host: HostName,
    /// Its provider.
    pub provider: PluginName,
    /// The instance.
    pub seen: ObservedNode,
    /// Somebody else made it or set it running. Only a simulation knows; on a live system nobody does, and a second
    /// instance is reported whoever made it.
    pub by_hand: bool,
}

impl SeenInstance {
    /// Whether its process runs, or is about to or may still.
    pub fn is_live(&self) -> bool {
        match self.seen.state {
            InstanceState::Starting | InstanceState::Running | InstanceState::Paused | InstanceState::Stopping => true,
            InstanceState::Created | InstanceState::Exited(_) | InstanceState::Broken { .. } => false,
        }
    }
}

/// Interfaces that bear the mark of a link, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenLink {
    /// Their host.
    pub host: HostName,
    /// The backend that found them.
    pub backend: PluginName,
    /// What it found.
    pub seen: ObservedLink,
}

impl Census {
    /// The live instances of a node that we brought about.
    pub fn live(&self, node: NodeId) -> impl Iterator<Item = &SeenInstance> {
        self.instances.iter().filter(move |it| it.seen.instance.node == node && it.is_live() && !it.by_hand)
    }
}
