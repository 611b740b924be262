//! What a plugin is told when it is made.

use std::path::PathBuf;

use crate::id::ControllerId;

/// What a plugin is told when it is made: on whose behalf it acts, and where it may keep things.
#[derive(Debug, Clone)]
pub struct HostContext {
    /// The controller whose objects these are; part of every mark.
    pub controller: ControllerId,
    /// The controller's epoch. It grows with every take-over; whatever serves several controllers in turn refuses an
    /// epoch older than the newest it has seen.
    pub epoch: u64,
    /// Directory for what must outlive a reboot.
    pub state_dir: PathBuf,
    /// Directory for sockets and pins, gone after a reboot. Its path is short, since socket paths end at 108 bytes.
    pub runtime_dir: PathBuf,
    /// Executable that helper processes are started from; the running program itself when absent.
    pub helper: Option<PathBuf>,
    /// The plugin's own settings.
    pub settings: serde_json::Value,
}
