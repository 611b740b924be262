//! What a program can set for the backend.

use std::path::PathBuf;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_linux::wiring::UnderlayChoice;
use serde::Deserialize;

/// What a program can set for the backend, as the plugin's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// File of the network namespace that is the host's for this backend: bridges, ports and taps are made in it. The
    /// program's own when absent. Bridges between an ordinary user's nodes are with these nodes' keeper in any case.
    pub namespace: Option<PathBuf>,
    /// The address of the host that tunnels to other hosts have, or the interface with this address. The one that the
    /// default route uses when absent.
    pub underlay: Option<UnderlayChoice>,
}

impl Settings {
    /// Reads the plugin's settings; none at all are the defaults.
    pub(crate) fn read(value: &serde_json::Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let wrong = |error| {
            let operation = "read the settings of the linux-bridge backend";
            Error::new(ErrorKind::InvalidInput, operation, "they cannot be read").because(error)
        };
        Self::deserialize(value).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_read_or_refused() {
        assert_eq!(Settings::read(&json!(null)).unwrap(), Settings::default());
        assert_eq!(Settings::read(&json!({ "namespace": "/x" })).unwrap().namespace, Some("/x".into()));
        assert!(Settings::read(&json!({ "underlay": "10.0.0.1" })).unwrap().underlay.is_some());
        assert_eq!(Settings::read(&json!({ "bridge": "x" })).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
