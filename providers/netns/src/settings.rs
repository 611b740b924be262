//! The provider's own settings, as a controller reads them from its configuration.

use std::path::PathBuf;

use lifecycle_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::image::StandIn;

/// Settings of the provider. All have defaults; an unknown one is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What stands in for which image; the first pattern that fits counts.
    pub images: Vec<StandIn>,
    /// The file in which the user writes `images`, for errors.
    pub images_file: Option<PathBuf>,
    /// Directories of the host that nodes may bind besides their lab's own directory.
    pub allow_binds: Vec<PathBuf>,
    /// Whether nodes of root keep all rights over the host that root has. Means nothing for an ordinary user's.
    pub privileged: bool,
    /// Size in bytes at which a node's log file is exchanged for a new one; two are kept.
    pub log_bytes: u64,
    /// Variables that the keeper is started with, besides the controller's.
    pub keeper_env: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: Vec::new(),
            images_file: None,
            allow_binds: Vec::new(),
            privileged: false,
            log_bytes: 1 << 20,
            keeper_env: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads settings out of a plugin's; none are the defaults.
    ///
    /// # Errors
    /// `InvalidInput`, which says what is wrong where.
    pub fn read(value: &serde_json::Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(value.clone()).map_err(|error| {
            let text = "the settings of the provider `netns` are not understood";
            Error::new(ErrorKind::InvalidInput, "read settings", text).because(error)
        })
    }
}
