//! The laws of stores.

use std::process::ExitCode;

use lifecycle_store_sqlite::PLUGIN;
use lifecycle_testkit::laws::{self, Skip};

fn main() -> ExitCode {
    let suite = laws::store::suite("sqlite", || {
        let directory = tempfile::tempdir().map_err(|error| Skip::new("tempdir", error.to_string()))?;
        Ok(move || (PLUGIN.open)(directory.path(), &serde_json::Value::Null))
    });
    suite.run()
}
