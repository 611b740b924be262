//! What a program can set for the backend.

use std::path::PathBuf;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_linux::wiring::UnderlayChoice;
use serde::Deserialize;

use crate::ovsdb::Endpoint;

/// Where Open vSwitch's own scripts let the database listen.
const DATABASE: &str = "unix:/run/openvswitch/db.sock";

/// What a program can set for the backend, as the plugin's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the database listens: `unix:PATH` or `tcp:HOST:PORT`.
    pub database: String,
    /// File of the network namespace in which `ovs-vswitchd` runs; the program's own when absent.
    pub namespace: Option<PathBuf>,
    /// Which datapath bridges use.
    pub datapath: Datapath,
    /// The address of the host that tunnels to other hosts have, or the interface with this address. The one that the
    /// default route uses when absent.
    pub underlay: Option<UnderlayChoice>,
}

/// Who forwards frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datapath {
    /// The kernel where its module for Open vSwitch is loaded, which the switch's own start script sees to; else the
    /// daemon.
    #[default]
    Auto,
    /// The kernel.
    System,
    /// The daemon itself, in user space.
    Netdev,
}

impl Default for Settings {
    fn default() -> Self {
        Self { database: DATABASE.into(), namespace: None, datapath: Datapath::Auto, underlay: None }
    }
}

impl Settings {
    /// Reads the plugin's settings; none at all are the defaults.
    pub(crate) fn read(value: &serde_json::Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(value).map_err(|error| wrong("they cannot be read").because(error))
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        self.database.parse().map_err(|error| wrong("`database` is wrong").because(error))
    }
}

impl Datapath {
    /// Whether frames are forwarded in user space.
    pub(crate) fn is_userspace(self) -> bool {
        match self {
            Self::Auto => !std::path::Path::new("/sys/module/openvswitch").exists(),
            Self::System => false,
            Self::Netdev => true,
        }
    }
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "read the settings of the ovs backend", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_read_or_refused() {
        assert_eq!(Settings::read(&json!(null)).unwrap(), Settings::default());
        assert_eq!(Settings::default().endpoint().unwrap().to_string(), DATABASE);
        let settings = Settings::read(&json!({ "database": "tcp:10.0.0.1:6640", "datapath": "netdev" })).unwrap();
        assert!(settings.datapath.is_userspace() && settings.endpoint().is_ok());
        for bad in [json!({ "databse": "unix:/x" }), json!({ "datapath": "dpdk" })] {
            assert_eq!(Settings::read(&bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(Settings::read(&json!({ "database": "/run/db.sock" })).unwrap().endpoint().is_err());
    }
}
