//! Puts a controller together: state, plugins, settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::model::Head;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::{HostContext, NetworkBackend, Provider, StateStore, VendorConfig};
use lifecycle_core::registry::{Registry, RegistryError};
use lifecycle_crash::crash_point;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clock::{Clock, SystemClock};
use super::controller::Controller;
use super::feed::Feed;
use super::host::{Host, LocalHost};
use super::run::{Loop, Status};
use crate::decide::{Kinds, Settings, World};

/// Messages that may wait for the loop.
const QUEUE: usize = 4096;

/// Puts a controller together.
///
/// Plugins come by name, from a [`Registry`], or by value. Without a word about them, all that the registry knows are
/// used.
pub struct Builder {
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    helper: Option<PathBuf>,
    owner: String,
    host: HostName,
    registry: Registry,
    settings: Settings,
    store: StoreChoice,
    providers: BTreeMap<PluginName, Arc<dyn Provider>>,
    backends: BTreeMap<PluginName, Arc<dyn NetworkBackend>>,
    vendors: Vec<Arc<dyn VendorConfig>>,
    plugin_settings: PluginSettings,
    hosts: Vec<Arc<dyn Host>>,
    further: BTreeMap<HostName, PluginSettings>,
    clock: Option<Arc<dyn Clock>>,
}

/// Settings of plugins, by their names.
type PluginSettings = BTreeMap<String, serde_json::Value>;

/// The providers and network backends of a host.
type Plugins = (BTreeMap<PluginName, Arc<dyn Provider>>, BTreeMap<PluginName, Arc<dyn NetworkBackend>>);

enum StoreChoice {
    Named(String),
    Value(Arc<dyn StateStore>),
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("state_dir", &self.state_dir).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            runtime_dir: state_dir.join("run"),
            helper: None,
            owner: format!("process {}", std::process::id()),
            host: HostName::local(),
            registry: Registry::new(),
            settings: Settings::default(),
            store: StoreChoice::Named("sqlite".to_owned()),
            providers: BTreeMap::new(),
            backends: BTreeMap::new(),
            vendors: Vec::new(),
            plugin_settings: BTreeMap::new(),
            hosts: Vec::new(),
            further: BTreeMap::new(),
            clock: None,
        }
    }

    /// Directory for sockets and pins; `run` below the state directory when nothing is said. Its path should be short,
    /// since socket paths end at 108 bytes.
    #[must_use]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = path.into();
        self
    }

    /// Executable that helper processes are started from; the running program when nothing is said.
    #[must_use]
    pub fn helper(mut self, path: impl Into<PathBuf>) -> Self {
        self.helper = Some(path.into());
        self
    }

    /// Who holds the state, for the message that the next one gets.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Takes every plugin that a registry knows.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Times, limits, policies and defaults.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Settings of the plugin called `name`.
    #[must_use]
    pub fn plugin_settings(mut self, name: impl Into<String>, settings: serde_json::Value) -> Self {
        self.plugin_settings.insert(name.into(), settings);
        self
    }

    /// Keeps the state in the store of the registry that is called `name`; `sqlite` when nothing is said.
    #[must_use]
    pub fn store_named(mut self, name: impl Into<String>) -> Self {
        self.store = StoreChoice::Named(name.into());
        self
    }

    /// Keeps the state in this store.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.store = StoreChoice::Value(store);
        self
    }

    /// Adds a provider to the local host.
    #[must_use]
    pub fn provider(mut self, name: PluginName, provider: Arc<dyn Provider>) -> Self {
        self.providers.insert(name, provider);
        self
    }

    /// Adds a network backend to the local host.
    #[must_use]
    pub fn backend(mut self, name: PluginName, backend: Arc<dyn NetworkBackend>) -> Self {
        self.backends.insert(name, backend);
        self
    }

    /// Adds a vendor; its kinds win over those of the registry.
    #[must_use]
    pub fn vendor(mut self, vendor: Arc<dyn VendorConfig>) -> Self {
        self.vendors.push(vendor);
        self
    }

    /// Adds a host besides the local one that this process serves as well, with all plugins of the registry once more. They
    /// have these settings and directories of their own. So parts of a machine, such as network namespaces, stand for
    /// hosts.
    #[must_use]
    pub fn further_host(mut self, name: HostName, plugin_settings: BTreeMap<String, serde_json::Value>) -> Self {
        self.further.insert(name, plugin_settings);
        self
    }

    /// Adds a host besides the local one.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.hosts.push(host);
        self
    }

    /// Reads the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes the state over, makes the plugins, and starts.
    ///
    /// # Errors
    /// When the state is held by another controller ([`ErrorKind::Conflict`]), damaged or of a newer version, when a
    /// plugin is unknown, or when one cannot work at all.
    pub async fn start(mut self) -> Result<Controller> {
        let store = self.open_store()?;
        let head = store.take_over(&self.owner).await?;
        crash_point("taken-over");
        let started = self.assemble(Arc::clone(&store), head).await;
        if started.is_err() {
            // The next one need not wait for a lease that nobody uses.
            let _ = store.release().await;
        }
        started
    }

    fn open_store(&self) -> Result<Arc<dyn StateStore>> {
        match &self.store {
            StoreChoice::Value(store) => Ok(Arc::clone(store)),
            StoreChoice::Named(name) => {
                let plugin = self.registry.store(name).map_err(unknown_plugin)?;
                let settings = self.plugin_settings.get(name).cloned().unwrap_or_default();
                (plugin.open)(&self.state_dir, &settings)
            }
        }
    }

    /// Makes all plugins of a host that the registry knows.
    fn make_plugins(
        &self,
        head: &Head,
        host: &HostName,
        [state, runtime]: [&PathBuf; 2],
        settings: &PluginSettings,
    ) -> Result<Plugins> {
        let context = |name: &str| HostContext {
            controller: head.controller,
            epoch: head.epoch,
            host: host.clone(),
            state_dir: state.clone(),
            runtime_dir: runtime.clone(),
            helper: self.helper.clone(),
            settings: settings.get(name).cloned().unwrap_or_default(),
        };
        let mut plugins = Plugins::default();
        for plugin in self.registry.providers() {
            plugins.0.insert(plugin_name(plugin.name)?, (plugin.make)(&context(plugin.name))?);
        }
        for plugin in self.registry.networks() {
            plugins.1.insert(plugin_name(plugin.name)?, (plugin.make)(&context(plugin.name))?);
        }
        Ok(plugins)
    }

    async fn assemble(&mut self, store: Arc<dyn StateStore>, head: Head) -> Result<Controller> {
        let clock: Arc<dyn Clock> = match self.clock.take() {
            Some(clock) => clock,
            None => Arc::new(SystemClock::new()?),
        };
        let (mut providers, mut backends) =
            self.make_plugins(&head, &self.host, [&self.state_dir, &self.runtime_dir], &self.plugin_settings)?;
        providers.append(&mut self.providers);
        backends.append(&mut self.backends);
        for (name, settings) in std::mem::take(&mut self.further) {
            let directories = [&self.state_dir, &self.runtime_dir].map(|base| base.join("hosts").join(name.as_str()));
            let made = self.make_plugins(&head, &name, directories.each_ref(), &settings)?;
            self.hosts.push(Arc::new(LocalHost::new(name, made.0, made.1)));
        }
        let mut vendors: Vec<Arc<dyn VendorConfig>> = self.registry.vendors().map(|vendor| (vendor.make)()).collect();
        vendors.append(&mut self.vendors);
        let kinds = Kinds::new(vendors);

        let local: Arc<dyn Host> = Arc::new(LocalHost::new(self.host.clone(), providers, backends));
        let all = std::iter::once(local).chain(self.hosts.drain(..));
        let hosts: BTreeMap<HostName, Arc<dyn Host>> = all.map(|host| (host.name().clone(), host)).collect();
        for host in hosts.values() {
            host.initialize().await?;
        }
        crash_point("initialized");
        let snapshot = store.load().await?;
        crash_point("loaded");
        let described = hosts.values().map(|host| host.describe()).collect();
        let world = World::new(snapshot, self.settings.clone(), kinds.clone(), described);
        let (messages, receiver) = mpsc::channel(QUEUE);
        let (status, status_reader) = watch::channel(Status::Running);
        let feed = Feed::new();
        let engine = Loop {
            world,
            settings: self.settings.clone(),
            kinds,
            store: Arc::clone(&store),
            hosts: hosts.clone(),
            clock,
            rng: ChaCha8Rng::from_seed(seed()?),
            feed: feed.clone(),
            status,
            messages: receiver,
            effects: JoinSet::new(),
            anew: tokio::sync::watch::Sender::new(()),
            next_command: 0,
        };
        let task = tokio::spawn(engine.run(messages.clone()));
        Ok(Controller::new(messages, status_reader, feed, store, hosts, head, task))
    }
}

fn plugin_name(name: &str) -> Result<PluginName> {
    PluginName::new(name).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "make plugin", "its crate gave it a bad name").because(error)
    })
}

fn unknown_plugin(error: RegistryError) -> Error {
    Error::new(ErrorKind::InvalidInput, "find plugin", error.to_string())
}

/// Chance for identifiers and for the spread of retries.
fn seed() -> Result<[u8; 32]> {
    use std::io::Read;
    let mut seed = [0; 32];
    let mut read = || std::fs::File::open("/dev/urandom")?.read_exact(&mut seed);
    read().map_err(|error| Error::new(ErrorKind::Failed, "draw a seed", "cannot read /dev/urandom").because(error))?;
    Ok(seed)
}
