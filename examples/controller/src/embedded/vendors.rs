//! Everything that is known of kinds of nodes: what was compiled in, and the operator's vendor files.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifecycle_core::Registry;
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::vendor::{DataVendor, KindData};
use lifecycle_engine::decide::Kinds;
use lifecycle_kit::vendors::VendorFile;

use super::registry;
use crate::config::Config;
use crate::failure::{Exit, Failure, Result};

/// Vendors, those whose word counts more later.
#[derive(Debug)]
pub(super) struct Vendors {
    pub(super) all: Vec<Arc<dyn VendorConfig>>,
    /// Names of kinds that are built in and also in a file, with the vendor of the file.
    pub(super) overridden: Vec<(String, String)>,
}

/// Finds the vendors that were compiled in and those of the configured directories.
///
/// # Errors
/// When a directory or file cannot be read or understood, with the place.
pub(super) fn find(registry: &Registry, config: &Config) -> Result<Vendors> {
    let mut all: Vec<Arc<dyn VendorConfig>> = registry.vendors().map(|vendor| (vendor.make)()).collect();
    let names = |vendor: &Arc<dyn VendorConfig>| {
        vendor.kinds().iter().flat_map(KindData::names).map(str::to_owned).collect::<Vec<_>>()
    };
    let built_in: BTreeSet<String> = all.iter().flat_map(names).collect();
    let mut overridden = Vec::new();
    for directory in config.vendor_directories() {
        let files = VendorFile::read_all(&directory).map_err(|error| {
            let mut message = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                message = format!("{message}: {source}");
            }
            Failure::new(Exit::Usage, message)
        })?;
        for file in files {
            let twice = file.kinds.iter().flat_map(KindData::names).filter(|name| built_in.contains(*name));
            overridden.extend(twice.map(|name| (name.to_owned(), file.vendor.clone())));
            all.push(Arc::new(DataVendor::from(file)));
        }
    }
    Ok(Vendors { all, overridden })
}

/// What the vendors of this program and its configuration know of kinds, and what somebody else told, who knows better.
///
/// # Errors
/// As when the files are read.
pub fn kinds(config: &Config, told: Vec<KindData>) -> Result<Kinds> {
    let mut all = find(&registry()?, config)?.all;
    let own = Kinds::new(all.clone());
    // Where both say the same, a vendor that was compiled in may know more than its data say.
    let is_news = |kind: &KindData| own.get(&kind.kind).is_none_or(|(_, known)| known != kind);
    all.push(Arc::new(DataVendor::new(told.into_iter().filter(is_news).collect())));
    Ok(Kinds::new(all))
}
