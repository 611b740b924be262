//! `version`: of this program, its plugins, and the controller that is running.

use serde::Serialize;

use super::Context;
use crate::api::wire::About;
use crate::client::Client;
use crate::embedded::registry;
use crate::failure::{Exit, Result};

#[derive(Debug, Serialize)]
struct Versions {
    version: &'static str,
    providers: Vec<&'static str>,
    network_backends: Vec<&'static str>,
    vendors: Vec<&'static str>,
    stores: Vec<&'static str>,
    controller: Option<About>,
}

pub(super) async fn run(context: &Context) -> Result {
    let registry = registry()?;
    let controller = match Client::find(&context.places.socket()).await {
        Ok(Some(client)) => client.about().await.ok(),
        _ => None,
    };
    let versions = Versions {
        version: env!("CARGO_PKG_VERSION"),
        providers: registry.providers().map(|plugin| plugin.name).collect(),
        network_backends: registry.networks().map(|plugin| plugin.name).collect(),
        vendors: registry.vendors().map(|plugin| plugin.name).collect(),
        stores: registry.stores().map(|plugin| plugin.name).collect(),
        controller,
    };
    context.output.one(&versions, || text(&versions))?;
    Ok(Exit::Ok)
}

fn text(versions: &Versions) -> String {
    let controller = match &versions.controller {
        Some(about) => format!("{} (process {}, epoch {})", about.version, about.pid, about.epoch),
        None => "none is running".to_owned(),
    };
    format!(
        "lifecycle {}\nproviders: {}\nnetwork backends: {}\nvendors: {}\nstores: {}\ncontroller: {controller}\n",
        versions.version,
        versions.providers.join(", "),
        versions.network_backends.join(", "),
        versions.vendors.join(", "),
        versions.stores.join(", "),
    )
}
