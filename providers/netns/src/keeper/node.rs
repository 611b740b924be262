//! One instance as the keeper holds it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use lifecycle_core::plugin::provider::{ExitRecord, InstanceState};
use lifecycle_core::time::{BootId, Timestamp};

use super::launch::{EXIT_FILE, RUN_FILE, Report};
use super::namespaces::Namespaces;
use crate::failure::Failure;
use crate::layout::{Layout, Mark, read_json};
use crate::process;
use crate::spec::{ExitFile, FILE_VERSION, InitFile, Network, NodeFile};
use crate::wire::Status;

/// Name of the file that holds a [`NodeFile`], below the directory of [`Layout::node`].
pub(super) const IDENTITY_FILE: &str = "identity.json";

/// One instance.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is; the reason where that cannot be read.
    pub(super) file: Result<NodeFile, String>,
    /// None where they are gone.
    pub(super) namespaces: Option<Namespaces>,
    pub(super) phase: Phase,
    pub(super) last: Last,
    /// Calls that wait for the phase to end.
    pub(super) waiting: Vec<Waiter>,
    /// Whether it goes as soon as its process has ended.
    pub(super) doomed: bool,
    /// Why it could not be removed.
    pub(super) trouble: Option<String>,
}

/// What is going on with an instance's init.
#[derive(Debug)]
pub(super) enum Phase {
    /// There is none.
    Idle,
    /// On its way up.
    Launching { reports: Reports, init: Option<Init>, failure: Option<Failure> },
    /// Its command runs.
    Running(Init),
    /// On its way down, by force from `kill_at` on.
    Stopping { init: Init, kill_at: Instant },
    /// There is none, and the instance's files are being removed.
    Removing,
}

/// A living init.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) handle: OwnedFd,
    /// Token under which `handle` is watched.
    pub(super) token: u64,
    pub(super) started_at: Timestamp,
}

/// How the latest run ended.
#[derive(Debug, Clone)]
pub(super) enum Last {
    /// There was none.
    Never,
    /// As its init wrote down.
    Ended(ExitFile),
    /// Nobody saw it.
    Unknown,
}

/// A client's call that is answered later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) client: u64,
    pub(super) call: u64,
    /// Whether it waits for the node to run, rather than to end.
    pub(super) starting: bool,
}

/// The reading end of a launch's reports.
#[derive(Debug)]
pub(super) struct Reports {
    pub(super) stream: UnixStream,
    /// Token under which `stream` is watched.
    pub(super) token: u64,
    pub(super) buffer: Vec<u8>,
}

impl Reports {
    /// The reports that are here, and whether these were the last.
    pub(super) fn read(&mut self) -> (Vec<Report>, bool) {
        let mut chunk = [0; 4096];
        let over = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        let mut reports = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            reports.extend(serde_json::from_slice::<Report>(&line).ok());
        }
        (reports, over)
    }
}

impl Node {
    pub(super) fn new(file: Result<NodeFile, String>) -> Self {
        Self {
            file,
            namespaces: None,
            phase: Phase::Idle,
            last: Last::Never,
            waiting: Vec::new(),
            doomed: false,
            trouble: None,
        }
    }

    /// Its init, if one lives.
    pub(super) const fn init(&self) -> Option<&Init> {
        match &self.phase {
            Phase::Launching { init, .. } => init.as_ref(),
            Phase::Running(init) | Phase::Stopping { init, .. } => Some(init),
            Phase::Idle | Phase::Removing => None,
        }
    }

    /// Whether anything of it lives in the kernel, so that the keeper must stay.
    pub(super) const fn is_alive(&self) -> bool {
        self.namespaces.is_some() || !matches!(self.phase, Phase::Idle)
    }

    fn state(&self) -> InstanceState {
        let broken = |reason: &str| InstanceState::Broken { reason: reason.into() };
        match (&self.phase, &self.file, &self.last) {
            _ if self.doomed => self.trouble.as_deref().map_or(InstanceState::Stopping, broken),
            (_, Err(reason), _) => broken(reason),
            (Phase::Launching { .. }, ..) => InstanceState::Starting,
            (Phase::Running(_), ..) => InstanceState::Running,
            (Phase::Stopping { .. } | Phase::Removing, ..) => InstanceState::Stopping,
            (Phase::Idle, ..) if self.namespaces.is_none() => {
                broken("its namespaces are gone (the machine was restarted, or the keeper ended while it was stopped)")
            }
            (Phase::Idle, _, Last::Never) => InstanceState::Created,
            (Phase::Idle, _, Last::Ended(file)) if file.stopped => InstanceState::Created,
            (Phase::Idle, _, Last::Ended(file)) => InstanceState::Exited(file.record()),
            (Phase::Idle, _, Last::Unknown) => InstanceState::Exited(ExitRecord { code: None, signal: None, at: None }),
        }
    }

    pub(super) fn status(&self, mark: &Mark) -> Status {
        let file = self.file.as_ref().ok();
        Status {
            mark: *mark,
            controller: file.map(|file| file.controller),
            identifier: file.map_or_else(|| mark.node.to_string(), |file| file.identifier.clone()),
            names: file.map(|file| file.names.clone()).unwrap_or_default(),
            lease: file.and_then(|file| file.management.clone()),
            state: self.state(),
            started_at: self.init().map(|init| init.started_at),
            cookie: self.namespaces.as_ref().map(|namespaces| namespaces.cookie),
            host_network: file.is_some_and(|file| file.network == Network::Host),
        }
    }
}

/// Reads an instance's `identity.json`.
pub(super) fn read_identity(layout: &Layout, mark: &Mark) -> Result<NodeFile, String> {
    let path = layout.node(mark).join(IDENTITY_FILE);
    match read_json::<NodeFile>(&path) {
        Ok(Some(file)) if file.version > FILE_VERSION => Err(format!("{} is of a newer version", path.display())),
        Ok(Some(file)) if file.mark == *mark => Ok(file),
        Ok(Some(_)) => Err(format!("{} is of another instance", path.display())),
        Ok(None) => Err(format!("{} is missing: it was never completed, or removed by hand", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// How an instance's latest run ended, by the files.
pub(super) fn read_last(layout: &Layout, mark: &Mark) -> Last {
    match read_json::<ExitFile>(&layout.node(mark).join(EXIT_FILE)) {
        Ok(Some(file)) if file.incarnation == mark.incarnation => Last::Ended(file),
        Ok(None) if !layout.run(mark).join(RUN_FILE).exists() => Last::Never,
        // A record that cannot be read, or is of another run, is no record.
        _ => Last::Unknown,
    }
}

/// The living init that `run.json` in `run` names: a handle on it, and the file.
pub(super) fn find_init(run: &Path, boot: BootId) -> io::Result<Option<(OwnedFd, InitFile)>> {
    let Some(file) = read_json::<InitFile>(&run.join(RUN_FILE))? else { return Ok(None) };
    if file.boot != boot {
        return Ok(None);
    }
    Ok(process::handle(file.pid, file.start_time)?.map(|handle| (handle, file)))
}

/// A namespace of a process.
pub(super) fn open_of(pid: i32, what: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/{what}"))?.into())
}
