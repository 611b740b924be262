//! What the keeper and the inits are told of an instance, as it lies in `identity.json`, and what an init leaves behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::provider::ExitRecord;
use lifecycle_core::time::{BootId, Timestamp};
use lifecycle_linux::management::Lease;
use serde::{Deserialize, Serialize};

use crate::layout::Mark;

/// Version of the files below. Readers ignore fields that they do not know, and refuse a version above their own.
pub(crate) const FILE_VERSION: u16 = 1;

/// One instance: whose it is, what it was given, and what is to run in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    pub version: u16,
    pub mark: Mark,
    pub controller: ControllerId,
    /// The provider's name for it, for people.
    pub identifier: String,
    /// Names under which other nodes of the lab find it, the long one first.
    pub names: Vec<String>,
    pub network: Network,
    pub management: Option<Lease>,
    pub hostname: String,
    pub sysctls: BTreeMap<String, String>,
    /// Content of `/etc/resolv.conf`.
    pub resolver: String,
    pub limits: Limits,
    pub run: Run,
}

/// Whose network namespace an instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Network {
    Own,
    Host,
    Shared(Mark),
}

/// What an instance may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Processors.
    pub cpu: Option<f64>,
}

impl Limits {
    pub(crate) fn is_none(&self) -> bool {
        self.memory.is_none() && self.cpu.is_none()
    }
}

/// What runs in an instance and what it sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub root: Root,
    /// Program and arguments; empty for a node that only is there.
    pub command: Vec<String>,
    /// What runs on the node's own console.
    pub console: Vec<String>,
    /// Whether the command itself runs on the console.
    pub terminal: bool,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub directory: PathBuf,
    pub binds: Vec<HostBind>,
    /// Path and mount options.
    pub tmpfs: BTreeMap<PathBuf, String>,
    /// The host's file that becomes `/etc/hosts`.
    pub hosts: PathBuf,
    /// Directories of the host that the node must not see.
    pub hidden: Vec<PathBuf>,
    /// Processors that it may run on.
    pub processors: Vec<usize>,
    /// Size of `/dev/shm` in bytes.
    pub shm: u64,
    /// Whether processes keep all rights that the keeper has.
    pub privileged: bool,
    /// Size at which a log file is exchanged for a new one; two are kept.
    pub log_bytes: u64,
}

/// What the node's root directory is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Root {
    /// A private view of the host's.
    Host,
    /// A private view of this directory.
    Directory(PathBuf),
}

/// Something of the host that appears in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostBind {
    /// Directory that the path may not leave.
    pub base: PathBuf,
    /// Path below it.
    pub path: PathBuf,
    /// Path in the node.
    pub target: PathBuf,
    pub read_only: bool,
}

/// Which process an instance's init is. Written before the init does anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitFile {
    pub version: u16,
    pub boot: BootId,
    pub pid: i32,
    /// In ticks since the boot.
    pub start_time: u64,
    /// For people.
    pub started_at: Timestamp,
    /// Number of a descriptor of the init that holds the hub's namespace, for an ordinary user's.
    pub hub: Option<i32>,
}

/// How an instance's process ended. Written by its init before that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitFile {
    pub version: u16,
    pub incarnation: u64,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub at: Option<Timestamp>,
    /// Whether it was stopped by us.
    pub stopped: bool,
}

impl ExitFile {
    pub(crate) fn record(&self) -> ExitRecord {
        ExitRecord { code: self.code, signal: self.signal, at: self.at }
    }
}
