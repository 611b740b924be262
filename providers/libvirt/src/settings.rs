//! The provider's own settings, as a controller reads them from its configuration.

use std::path::PathBuf;
use std::time::Duration;

use lifecycle_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Settings of the provider. All have defaults; an unknown one is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the daemon is, in libvirt's words. It runs on this machine in any case: disks and taps are made here.
    pub uri: String,
    /// Directory for the disks and console logs of nodes; the user that QEMU runs as must be able to pass through it.
    pub directory: PathBuf,
    /// Directories that images, kernels and initial RAM disks may lie in; the first that has a name wins.
    pub images: Vec<PathBuf>,
    /// What runs the machines' processors.
    pub acceleration: Acceleration,
    /// Memory in MiB of nodes that do not say how much.
    pub memory_mb: u64,
    /// Network namespace, as a file, in which the daemon and the network backends work; this process's own when absent.
    pub namespace: Option<PathBuf>,
    /// Operations that run at once.
    pub concurrency: usize,
    /// Milliseconds that the daemon has for one operation, besides the grace of a stop.
    pub deadline_ms: u64,
    /// Milliseconds that a machine has, once it was started, until its guest agent answers; what is to be run in it after
    /// its start waits that long.
    pub agent_ms: u64,
    /// Milliseconds between two looks for what happened to nodes.
    pub look_ms: u64,
}

/// What runs the processors of machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// KVM where the daemon says that it works, else emulation.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// QEMU's emulation.
    Qemu,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            directory: "/var/lib/libvirt/lifecycle".into(),
            images: vec!["/var/lib/libvirt/images".into()],
            acceleration: Acceleration::Auto,
            memory_mb: 512,
            namespace: None,
            concurrency: 4,
            deadline_ms: 60_000,
            agent_ms: 90_000,
            look_ms: 1_000,
        }
    }
}

impl Settings {
    /// Reads settings out of a plugin's; none are the defaults.
    ///
    /// # Errors
    /// `InvalidInput`, which says what is wrong where.
    pub fn read(value: &serde_json::Value) -> Result<Self> {
        let wrong = |text: String| Error::new(ErrorKind::InvalidInput, "read settings", text);
        let settings: Self = match value.is_null() {
            true => Self::default(),
            false => serde_json::from_value(value.clone()).map_err(|error| {
                wrong("the settings of the provider `libvirt` are not understood".to_owned()).because(error)
            })?,
        };
        if !settings.directory.is_absolute() || settings.images.iter().any(|path| !path.is_absolute()) {
            return Err(wrong("`directory` and `images` of the provider `libvirt` must be absolute paths".to_owned()));
        }
        Ok(settings)
    }

    pub(crate) const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(crate) const fn agent(&self) -> Duration {
        Duration::from_millis(self.agent_ms)
    }

    pub(crate) const fn look(&self) -> Duration {
        Duration::from_millis(self.look_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_have_defaults_and_unknown_ones_are_refused() {
        assert_eq!(Settings::read(&serde_json::Value::Null).unwrap(), Settings::default());
        let read = Settings::read(&json!({ "acceleration": "qemu", "images": ["/srv/images"] })).unwrap();
        assert_eq!((read.acceleration, read.images), (Acceleration::Qemu, vec!["/srv/images".into()]));
        for wrong in [json!({ "urn": "x" }), json!({ "images": ["images"] }), json!({ "directory": "vms" })] {
            assert_eq!(Settings::read(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
