//! The vendor `script`: what is particular to nodes that are a script, as data in `kinds.json` and a pure
//! function. A vendor that is data and nothing else needs no crate: a vendor file does.

use std::sync::Arc;

use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::vendor::{KindData, VendorConfig, VendorPlugin};
use lifecycle_core::{Error, ErrorKind, Result};

/// The vendor as a plugin.
pub const PLUGIN: VendorPlugin = VendorPlugin { name: "script", make: || Arc::new(Script::new()) };

inventory::submit! { PLUGIN }

#[derive(Debug)]
struct Script {
    kinds: Vec<KindData>,
}

impl Script {
    fn new() -> Self {
        // The laws of vendors run this, so that a mistake in the file is found before it is shipped.
        Self { kinds: serde_json::from_str(include_str!("kinds.json")).expect("kinds.json holds kinds") }
    }
}

impl VendorConfig for Script {
    fn kinds(&self) -> &[KindData] {
        &self.kinds
    }

    fn before_create(&self, kind: &KindData, request: &mut CreateNode) -> Result<()> {
        if request.spec.startup_config.is_some() {
            let message = "a script has no `startup-config`; pass what it needs in `env`";
            return Err(Error::new(ErrorKind::Unsupported, "create node", message).about(&request.name));
        }
        let told = [("LAB".to_owned(), request.lab_name.to_string()), ("NODE".to_owned(), request.name.to_string())];
        for (name, value) in kind.env.clone().into_iter().chain(told) {
            request.spec.env.entry(name).or_insert(value);
        }
        Ok(())
    }
}
