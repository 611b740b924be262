#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod file;

use std::sync::Arc;

use lifecycle_core::plugin::VendorPlugin;
use lifecycle_core::plugin::vendor::DataVendor;

pub use file::{InvalidFile, VendorFile};

/// The vendors of this crate as one plugin.
pub const PLUGIN: VendorPlugin = VendorPlugin { name: "catalog", make: || Arc::new(catalog()) };

inventory::submit! { PLUGIN }

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../data/", $name, ".yml")))),*]
    };
}

/// The vendor files of this crate, by their names.
const FILES: [(&str, &str); 12] = files!(
    "arista",
    "cisco-ios",
    "cisco-sdwan",
    "cisco-security",
    "cisco-xr-nx",
    "juniper",
    "linux-hosts",
    "load-balancers",
    "nokia",
    "open-switches",
    "security",
    "vyos",
);

/// All kinds of this crate.
fn catalog() -> DataVendor {
    let kinds = FILES.iter().flat_map(|(name, text)| match VendorFile::parse(text) {
        Ok(file) => file.kinds,
        // The tests of this crate read every one of its files.
        Err(problem) => unreachable!("the vendor file `{name}` of this crate is wrong: {problem}"),
    });
    DataVendor::new(kinds.collect())
}
