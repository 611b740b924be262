//! What a controller would say, without one: a world of this machine's plugins with nothing in it.

use lifecycle_core::id::ControllerId;
use lifecycle_core::model::{Head, Snapshot};
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::HostContext;
use lifecycle_engine::decide::{HostState, World};

use super::registry;
use crate::config::Config;
use crate::failure::{Failure, Result};

/// Something that a plugin cannot do on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The plugin.
    pub plugin: String,
    /// What it cannot do.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// An empty world with the plugins of this machine. Nothing is started or touched.
///
/// # Errors
/// When a plugin does not take its settings.
pub fn world(config: &Config) -> Result<World> {
    let registry = registry()?;
    let plugins = config.plugin_settings(&[]);
    let context = |name: &str| {
        let settings = plugins.get(name).cloned().unwrap_or_default();
        HostContext::without_directories(ControllerId::from_u64(0), settings)
    };
    let (mut providers, mut backends) = (Vec::new(), Vec::new());
    for plugin in registry.providers() {
        let provider = (plugin.make)(&context(plugin.name)).map_err(|error| unusable(plugin.name, &error))?;
        providers.push((name(plugin.name)?, provider.capabilities()));
    }
    for plugin in registry.networks() {
        let backend = (plugin.make)(&context(plugin.name)).map_err(|error| unusable(plugin.name, &error))?;
        backends.push((name(plugin.name)?, backend.capabilities()));
    }
    let kinds = super::kinds(config, Vec::new())?;
    let head = Head { controller: ControllerId::from_u64(0), epoch: 0, batch: 0, audit: 0, event: 0 };
    let empty =
        Snapshot { head, labs: Vec::new(), nodes: Vec::new(), links: Vec::new(), jobs: Vec::new(), hosts: Vec::new() };
    Ok(World::new(empty, config.settings(), kinds, vec![HostState::new(HostName::local(), providers, backends)]))
}

fn name(text: &str) -> Result<PluginName> {
    PluginName::new(text).map_err(|error| Failure::plain(error.to_string()))
}

fn unusable(plugin: &str, error: &lifecycle_core::Error) -> Failure {
    Failure::plain(format!("the plugin `{plugin}` cannot be used: {}", error.chain()))
}

/// What the plugins of a world cannot do on this machine.
pub fn lacks(world: &World) -> Vec<Lack> {
    let hosts = || world.hosts.values();
    let providers = hosts().flat_map(|host| &host.providers).map(|(name, it)| (name, &it.capabilities.missing));
    let backends = hosts().flat_map(|host| &host.backends).map(|(name, it)| (name, &it.capabilities.missing));
    let lack = |plugin: &PluginName, (what, reason): (&String, &String)| Lack {
        plugin: plugin.to_string(),
        what: what.clone(),
        reason: reason.clone(),
    };
    providers.chain(backends).flat_map(|(name, missing)| missing.iter().map(move |entry| lack(name, entry))).collect()
}
