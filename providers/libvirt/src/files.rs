//! What an instance has on disk: a directory with its disk, its console's log, and a record of what it is.
//!
//! The record makes the instance. It is there before anything else of it and goes last, and a domain is made from it again
//! with every start: so a domain that somebody undefined costs its node nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::id::NodeId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::{CreateNode, ManagementAddresses};
use lifecycle_core::time::Timestamp;
use lifecycle_crash::crash_point;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::image::Base;
use crate::machine::Machine;
use crate::management::Managed;
use crate::mark::{self, Mark, Owner};
use crate::medium;

const RECORD: &str = "instance.json";
pub(crate) const DISK: &str = "disk.qcow2";
const FRESH_DISK: &str = "fresh.qcow2";
/// The medium with its initial configuration.
pub(crate) const MEDIUM: &str = "medium.img";
/// What its firmware remembers.
pub(crate) const NVRAM: &str = "nvram.fd";
pub(crate) const LOG: &str = "console.log";
/// Version of the record. A later one is refused.
const VERSION: u32 = 1;

/// A place where a link ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    pub mac: Mac,
    pub mtu: u32,
    pub tap: IfName,
    /// Whether the machine is to see carrier.
    pub carrier: bool,
    /// Whether the machine may leave checksums and segmentation to whoever passes on what it sends, as of the time when it
    /// was plugged in.
    pub offload: bool,
}

/// What an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub mark: Mark,
    pub machine: Machine,
    pub ports: BTreeMap<IfName, Port>,
    /// What it has on its management network.
    #[serde(default)]
    pub management: Option<Managed>,
    /// When it was started last; none when it was stopped since, or never started.
    pub started: Option<Timestamp>,
}

impl Record {
    pub(crate) fn new(mark: Mark, machine: Machine) -> Self {
        Self { version: VERSION, mark, machine, ports: BTreeMap::new(), management: None, started: None }
    }

    /// Its addresses on its management network.
    pub(crate) fn addresses(&self) -> ManagementAddresses {
        self.management.as_ref().map(|it| it.lease.addresses).unwrap_or_default()
    }
}

/// The directories of all instances of an owner.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub(crate) fn new(directory: &Path, owner: &Owner) -> Self {
        Self { root: directory.join(owner.controller.to_string()).join(&owner.host) }
    }

    pub(crate) fn directory(&self, identifier: &str) -> PathBuf {
        self.root.join(identifier)
    }

    pub(crate) fn disk(&self, record: &Record) -> PathBuf {
        self.directory(&record.mark.instance.identifier).join(DISK)
    }

    pub(crate) fn log(&self, identifier: &str) -> PathBuf {
        self.directory(identifier).join(LOG)
    }

    /// The names of all directories.
    fn names(&self) -> Outcome<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| Failure::of_file(error, self.root.display()))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(|error| Failure::of_file(error, self.root.display()))
    }

    /// All instances.
    pub(crate) fn all(&self) -> Outcome<Vec<Record>> {
        let names = self.names()?;
        let records = names.iter().map(|name| self.read(name));
        records.filter_map(Outcome::transpose).collect()
    }

    /// The instance of a node.
    pub(crate) fn find(&self, node: NodeId) -> Outcome<Option<Record>> {
        let names = self.names()?;
        let name = names.iter().find(|name| mark::is_of(name, node));
        Ok(name.map(|name| self.read(name)).transpose()?.flatten())
    }

    fn read(&self, identifier: &str) -> Outcome<Option<Record>> {
        let path = self.directory(identifier).join(RECORD);
        let text = match fs::read(&path) {
            // It is being made, or was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Failure::of_file(error, path.display()))?,
        };
        let record: Option<Record> = serde_json::from_slice(&text).ok().filter(|it: &Record| it.version == VERSION);
        let damaged = || {
            let text = format!("{} is damaged, or of a later version; repair or remove it", path.display());
            Failure::new(ErrorKind::Corrupt, text)
        };
        record.map(Some).ok_or_else(damaged)
    }

    /// Writes the record of an instance that is there.
    pub(crate) fn write(&self, record: &Record) -> Outcome<()> {
        write_into(&self.directory(&record.mark.instance.identifier), record)
    }

    /// Makes the directory of an instance, with its record.
    pub(crate) fn begin(&self, record: &Record) -> Outcome<()> {
        let directory = self.directory(&record.mark.instance.identifier);
        // QEMU runs as somebody else, who has to pass through and need not look around.
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&directory);
        made.map_err(|error| Failure::of_file(error, directory.display()))?;
        sync(&self.root)?;
        write_into(&directory, record)
    }

    /// Makes what an instance has, the record first; what is there stays.
    pub(crate) fn make(&self, record: &Record, request: &CreateNode) -> Outcome<()> {
        self.begin(record)?;
        crash_point("machine-recorded");
        let directory = self.directory(&record.mark.instance.identifier);
        if let Some(wanted) = request.medium.as_ref().filter(|_| !directory.join(MEDIUM).exists()) {
            medium::make(wanted, &request.directory, &directory.join(MEDIUM))?;
        }
        let disk = directory.join(DISK);
        match &record.machine.disk {
            Some(base) if !disk.exists() => {
                // Half a disk is never taken for one.
                let fresh = directory.join(FRESH_DISK);
                overlay(base, &fresh)?;
                crash_point("machine-disk-made");
                fs::rename(&fresh, &disk).map_err(|error| Failure::of_file(error, disk.display()))?;
                sync(&directory)
            }
            _ => Ok(()),
        }
    }

    /// Removes what an instance has, the record last.
    pub(crate) fn remove(&self, identifier: &str) -> Outcome<()> {
        let directory = self.directory(identifier);
        let failed = |error: io::Error| Failure::of_file(error, directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != RECORD {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        crash_point("machine-emptied");
        fs::remove_dir_all(&directory).map_err(failed)
    }

    /// Writes a line of our own between those of the console.
    pub(crate) fn note(&self, identifier: &str, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(self.log(identifier));
        let written = file.and_then(|mut file| writeln!(file, "\r\nlifecycle: {text}\r"));
        if let Err(error) = written {
            tracing::warn!(%error, identifier, text, "the console's log does not say so");
        }
    }
}

fn write_into(directory: &Path, record: &Record) -> Outcome<()> {
    let (path, fresh) = (directory.join(RECORD), directory.join("fresh.json"));
    let text = serde_json::to_vec_pretty(record).map_err(|error| Failure::invalid(error.to_string()))?;
    // A kernel's command line may have what is not for everybody.
    let created = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let written = created.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    });
    written.map_err(|error| Failure::of_file(error, path.display()))?;
    sync(directory)
}

fn sync(directory: &Path) -> Outcome<()> {
    File::open(directory).and_then(|it| it.sync_all()).map_err(|error| Failure::of_file(error, directory.display()))
}

/// Makes a disk that holds what differs from another, which is only read.
fn overlay(base: &Base, path: &Path) -> Outcome<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", base.format.word(), "-b"]).arg(&base.path).arg(path);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::of_file(error, "qemu-img cannot be run (Debian's package is qemu-utils)"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let kind = if text.contains("No space left") { ErrorKind::Exhausted } else { ErrorKind::Failed };
    Err(Failure::new(kind, format!("no disk can be laid over {}: {}", base.path.display(), text.trim())))
}
