//! What a plugin is told when it is made.

use std::path::PathBuf;

use crate::id::ControllerId;
use crate::name::HostName;

/// What a plugin is told when it is made: on whose behalf it acts, and where it may keep things.
#[derive(Debug, Clone)]
pub struct HostContext {
    /// The controller whose objects these are; part of every mark.
    pub controller: ControllerId,
    /// The controller's epoch. It grows with every take-over; whatever serves several controllers in turn refuses an
    /// epoch older than the newest it has seen.
    pub epoch: u64,
    /// Which of the controller's hosts it serves. Whatever several hosts may share, such as a daemon, has it in its marks.
    pub host: HostName,
    /// Directory for what must outlive a reboot.
    pub state_dir: PathBuf,
    /// Directory for sockets and pins, gone after a reboot. Its path is short, since socket paths end at 108 bytes.
    pub runtime_dir: PathBuf,
    /// Executable that helper processes are started from; the running program itself when absent.
    pub helper: Option<PathBuf>,
    /// The plugin's own settings.
    pub settings: serde_json::Value,
}

impl HostContext {
    /// What a plugin that keeps nothing on disk is told on the host `local` by a controller that begins: its directories
    /// do not exist.
    pub fn without_directories(controller: ControllerId, settings: serde_json::Value) -> Self {
        let nowhere = PathBuf::from("/nonexistent");
        let host = HostName::local();
        Self { controller, epoch: 1, host, state_dir: nowhere.clone(), runtime_dir: nowhere, helper: None, settings }
    }
}
