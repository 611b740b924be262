//! What is known of a host and of the plugins on it.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::{NetworkCapabilities, ObservedLink};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::plugin::provider::{Capacity, InstanceRef, ProviderCapabilities};
use lifecycle_core::time::BootInstant;

use super::effect::EffectId;

/// A host, as it is now.
#[derive(Debug, Clone)]
pub struct HostState {
    /// Its name.
    pub name: HostName,
    /// Its providers.
    pub providers: BTreeMap<PluginName, ProviderState>,
    /// Its network backends.
    pub backends: BTreeMap<PluginName, BackendState>,
    /// What it can carry, once known.
    pub capacity: Option<Capacity>,
}

impl HostState {
    /// A host of which only its plugins are known.
    pub fn new(
        name: HostName,
        providers: impl IntoIterator<Item = (PluginName, ProviderCapabilities)>,
        backends: impl IntoIterator<Item = (PluginName, NetworkCapabilities)>,
    ) -> Self {
        Self {
            name,
            providers: providers.into_iter().map(|(name, caps)| (name, ProviderState::new(caps))).collect(),
            backends: backends.into_iter().map(|(name, caps)| (name, BackendState::new(caps))).collect(),
            capacity: None,
        }
    }

    /// Whether all its providers were read since the controller started, or cannot be: one of which nothing runs here keeps
    /// nobody waiting.
    pub(super) fn is_synced(&self) -> bool {
        self.providers.values().all(|provider| provider.synced || provider.unreachable)
    }

    /// Whether what the host can carry will be told and was not read yet.
    pub(super) fn awaits_capacity(&self) -> bool {
        self.capacity.is_none() && self.providers.values().any(|provider| provider.capabilities.resources)
    }
}

/// A provider on a host, as it is now.
#[derive(Debug, Clone)]
pub struct ProviderState {
    /// What it can do.
    pub capabilities: ProviderCapabilities,
    /// Its instances were read since the controller started: only then is anything done through it.
    pub synced: bool,
    /// It could not be reached: its nodes are stale and nothing is asked of it but a list.
    pub unreachable: bool,
    /// The list that is being read.
    pub listing: Option<EffectId>,
    /// When the next list is due.
    pub next_list: Option<BootInstant>,
    /// Another list is due as soon as the current one is read.
    pub list_again: bool,
    /// Instances that are being looked at by themselves, and whether something was heard of them since.
    pub observing: BTreeMap<InstanceRef, bool>,
    /// Operations on nodes that are under way.
    pub busy: usize,
    /// Nodes that wait for an operation to end.
    pub waiting: BTreeSet<NodeId>,
    /// Instances of ours without a row, and since when.
    pub orphans: BTreeMap<InstanceRef, Orphan>,
}

impl ProviderState {
    fn new(capabilities: ProviderCapabilities) -> Self {
        Self {
            capabilities,
            synced: false,
            unreachable: false,
            listing: None,
            next_list: None,
            list_again: false,
            observing: BTreeMap::new(),
            busy: 0,
            waiting: BTreeSet::new(),
            orphans: BTreeMap::new(),
        }
    }

    /// Whether it was read since the controller started, and can be reached: only then is anything done through it.
    pub(super) fn answers(&self) -> bool {
        self.synced && !self.unreachable
    }

    /// Whether another operation may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.capabilities.concurrency == 0 || self.busy < self.capabilities.concurrency
    }
}

/// A network backend on a host, as it is now.
#[derive(Debug, Clone)]
pub struct BackendState {
    /// What it can do.
    pub capabilities: NetworkCapabilities,
    /// It could not be reached: nothing is asked of it but an observation.
    pub unreachable: bool,
    /// The observation that is being made.
    pub observing: Option<EffectId>,
    /// When the next one is due.
    pub next_observation: Option<BootInstant>,
    /// Links of ours without a row or of an older incarnation, and since when.
    pub orphans: BTreeMap<LinkId, (ObservedLink, Orphan)>,
    /// What its tunnels go through, or why that could not be read, once some link needed to know.
    pub underlay: Option<Result<Underlay, String>>,
    /// Links that need to know.
    pub tunnelled: BTreeSet<LinkId>,
}

impl BackendState {
    fn new(capabilities: NetworkCapabilities) -> Self {
        Self {
            capabilities,
            unreachable: false,
            observing: None,
            next_observation: None,
            orphans: BTreeMap::new(),
            underlay: None,
            tunnelled: BTreeSet::new(),
        }
    }
}

/// Something of ours that belongs to no row: on the list of what is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// When it was first seen.
    pub since: BootInstant,
    /// Why it is on the list.
    pub reason: &'static str,
    /// The effect that removes it.
    pub removing: Option<EffectId>,
}

/// Why something of a living node or link is an orphan all the same.
pub(super) const OTHER_INCARNATION: &str = "it is of another incarnation";
