//! The provider's own settings, as a controller reads them from its configuration.

use std::path::PathBuf;
use std::time::Duration;

use lifecycle_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Settings of the provider. All have defaults; an unknown one is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the daemon listens: `unix:///run/docker.sock`, or `tcp://host:port`. By default where its packages put the
    /// socket. The daemon runs on this machine in any case: interfaces are attached to its containers here.
    pub endpoint: Option<String>,
    /// How a `tcp` endpoint is spoken to safely; without it in plain text.
    pub tls: Option<Tls>,
    /// Directories of the host that nodes may bind besides their lab's own directory.
    pub allow_binds: Vec<PathBuf>,
    /// Whether a lab may ask for `privileged`, `cap-add` and `security-opts`.
    pub allow_privileged: bool,
    /// Whether a lab may ask for `devices`.
    pub allow_devices: bool,
    /// Whether a lab may ask for the host's network, processes or control groups.
    pub allow_host_namespaces: bool,
    /// Whether every node is privileged, asked or not, as images of network systems often expect.
    pub privileged: bool,
    /// Capabilities that every node has besides its own, asked or not: routing daemons want `SYS_ADMIN`.
    pub capabilities: Vec<String>,
    /// Operations that run at once.
    pub concurrency: usize,
    /// Milliseconds that the daemon has for the answer to one call, besides what the call itself asks it to wait.
    pub deadline_ms: u64,
    /// Milliseconds without any progress after which fetching an image is given up.
    pub pull_silence_ms: u64,
}

/// Files with which a daemon and its client prove to each other who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate of the authority that the daemon's certificate must come from.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The client's key.
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            tls: None,
            allow_binds: Vec::new(),
            allow_privileged: false,
            allow_devices: false,
            allow_host_namespaces: false,
            privileged: false,
            capabilities: Vec::new(),
            concurrency: 4,
            deadline_ms: 60_000,
            pull_silence_ms: 60_000,
        }
    }
}

impl Settings {
    /// Reads settings out of a plugin's; none are the defaults.
    ///
    /// # Errors
    /// `InvalidInput`, which says what is wrong where.
    pub fn read(value: &serde_json::Value, provider: &str) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(value.clone()).map_err(|error| {
            let text = format!("the settings of the provider `{provider}` are not understood");
            Error::new(ErrorKind::InvalidInput, "read settings", text).because(error)
        })
    }

    pub(crate) const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(crate) const fn pull_silence(&self) -> Duration {
        Duration::from_millis(self.pull_silence_ms)
    }
}
