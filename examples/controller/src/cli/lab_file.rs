//! Reading lab files as this controller understands them.

use std::path::Path;

use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::policy::naming::interface_for;
use lifecycle_core::topology::Topology;
use lifecycle_topology::{InterfaceNames, LoadError, Options};

use super::Context;
use super::args::Reading;
use crate::client::Client;
use crate::embedded::kinds;
use crate::failure::{Failure, Result};

/// Reads a lab file and says what people should know about it.
pub(super) async fn read(context: &Context, file: &Path, reading: &Reading) -> Result<Topology> {
    let kinds = kinds(&context.config, told(context).await)?;
    let interfaces = InterfaceNames::new(move |kind, port| {
        let named = kinds.get(kind).and_then(|(vendor, kind)| vendor.interface(kind, port));
        named.unwrap_or_else(|| interface_for(port))
    });
    let options = Options {
        vars: reading.vars.clone(),
        strict: reading.strict,
        permissions: context.config.permissions.clone(),
        interfaces,
        ..Options::from_process()
    };
    let loaded = lifecycle_topology::load(file, &options).map_err(failure)?;
    for warning in &loaded.warnings {
        context.screen.say(format_args!("{warning}\n"));
    }
    let mut topology = loaded.topology;
    // Words of the command line win over the file's for the lab as a whole; a node's or link's own win over both.
    let settings = &mut topology.settings;
    settings.provider = reading.provider.clone().or(settings.provider.take());
    settings.backend = reading.backend.clone().or(settings.backend.take());
    Ok(topology)
}

/// The kinds that a running controller knows, which may have been given other vendor files than this command was.
async fn told(context: &Context) -> Vec<KindData> {
    match Client::find(&context.places.socket()).await {
        // One of another version may say things that are not understood; then this program's own word has to do.
        Ok(Some(client)) => client.kinds().await.unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn failure(error: LoadError) -> Failure {
    match error {
        LoadError::Read { path, source } => Failure::io(format_args!("read the lab file {}", path.display()), &source),
        LoadError::Invalid(report) => Failure::plain(report.to_string()),
    }
}
