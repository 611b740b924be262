//! A controller in this process, with every plugin that was compiled in, served on its socket.

mod offline;
mod tools;
mod vendors;

use std::path::PathBuf;
use std::time::Duration;

use lifecycle_core::Registry;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::machine::LinkState;
use lifecycle_engine::Controller;
use lifecycle_engine::decide::World;
use lifecycle_engine::drive::Status;
// Links the plugins in: a crate that nobody refers to registers nothing.
use lifecycle_kit as _;

use crate::api::Server;
use crate::client::Client;
use crate::config::Config;
use crate::failure::{Exit, Failure, Result};
use crate::paths::Places;

pub use offline::{Lack, lacks, world};
pub use vendors::kinds;

/// How long a first look at everything may take before people are shown what is known so far.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A controller in this process.
#[derive(Debug)]
pub struct Embedded {
    controller: Controller,
    server: Server,
    places: Places,
}

/// All plugins that were compiled in.
///
/// # Errors
/// When two have one name.
pub fn registry() -> Result<Registry> {
    Registry::discover().map_err(|error| Failure::plain(error.to_string()))
}

/// This program as its nodes are shown it; none when nobody knows where it is.
fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok().filter(|path| path.is_file())
}

impl Embedded {
    /// Takes the state over and serves it.
    ///
    /// # Errors
    /// [`Exit::Conflict`] when another controller holds the state.
    pub async fn start(places: &Places, config: &Config, owner: &str) -> Result<Self> {
        let program = own_program();
        let binds: Vec<PathBuf> = program.iter().cloned().collect();
        let registry = registry()?;
        let mut builder = Controller::builder(&places.state)
            .runtime_dir(&places.runtime)
            .settings(config.settings())
            .owner(format!("lifecycle {owner} (process {})", std::process::id()));
        let vendors = vendors::find(&registry, config)?;
        for (kind, file) in &vendors.overridden {
            tracing::warn!(
                kind,
                "the kind `{kind}` of the vendor `{file}` stands in the place of the one that is built in"
            );
        }
        for vendor in vendors.all {
            builder = match &program {
                Some(program) => builder.vendor(tools::with_tools(vendor, program)),
                None => builder.vendor(vendor),
            };
        }
        for (name, settings) in config.plugin_settings(&binds) {
            builder = builder.plugin_settings(name, settings);
        }
        for (name, settings) in config.further_hosts(&binds) {
            builder = builder.further_host(name, settings);
        }
        let controller = builder.registry(registry).start().await.map_err(|error| match error.kind() {
            ErrorKind::Conflict => Failure::new(Exit::Conflict, error.chain()),
            _ => error.into(),
        })?;
        look(&controller).await;
        match Server::start(&places.socket(), controller.clone(), config.permissions.clone()) {
            Ok(server) => Ok(Self { controller, server, places: places.clone() }),
            Err(error) => {
                controller.shutdown().await;
                Err(Failure::io(format_args!("listen at {}", places.socket().display()), &error))
            }
        }
    }

    /// A client of this controller.
    ///
    /// # Errors
    /// When its socket is gone.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.places.socket(), &self.places.state).await
    }

    /// Waits until the controller ends by itself, and says why that was.
    pub async fn ended(&self) -> Failure {
        match self.controller.ended().await {
            Status::Fenced => {
                Failure::new(Exit::Conflict, "a newer controller has taken the state over; this one ends")
            }
            _ => Failure::plain("the controller ended; its log says why"),
        }
    }

    /// Ends the controller. Nodes stay as they are.
    pub async fn stop(self) {
        self.server.close().await;
        self.controller.shutdown().await;
    }
}

/// Waits until a controller has looked at everything once, so that the first thing that it says is true.
async fn look(controller: &Controller) {
    let looked = |world: &World| {
        let mut providers = world.hosts.values().flat_map(|host| host.providers.values());
        // A link that was up under the controller before is up until it was read back and is not.
        let mut up = world.links.values().filter(|link| link.actual == LinkState::Up);
        providers.all(|provider| provider.synced || provider.unreachable)
            && up.all(|link| world.link_work.get(&link.id).is_none_or(|work| !work.unverified))
    };
    let look = async {
        while let Ok(false) = controller.read(looked).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(FIRST_LOOK, look).await.is_err() {
        tracing::warn!("not everything could be looked at; what is shown may be old");
    }
}
