//! One instance of a node: a directory, and whatever runs in it.
//!
//! ```text
//! <root>/<node>/mark       whose it is and what it runs; the directory appears with it, in one rename
//! <root>/<node>/lock       locked for as long as anything of the node runs
//! <root>/<node>/process    which process that is, and since when
//! <root>/<node>/exit       how it ended
//! <root>/<node>/failure    why it could not be started
//! <root>/<node>/log        what it prints
//! <root>/<node>/ports/     the place of its interfaces
//! ```

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::plugin::provider::{ExitRecord, InstanceRef, InstanceState, ManagementAddresses, ObservedNode};
use lifecycle_core::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::place;

/// Whose an instance is, and what it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) controller: ControllerId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) lab: LabId,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

/// The node's first process, which leads a group of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) at: Timestamp,
}

/// An instance of ours.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) dir: PathBuf,
    pub(crate) mark: Mark,
}

impl Instance {
    /// The right to start the node; nothing while somebody has it.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let lock = File::open(self.dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What it is doing, as it stands on the disk. Changes nothing.
    pub(crate) fn state(&self) -> io::Result<InstanceState> {
        // The order matters: what became of the node is written down before the lock is let go of.
        let locked = File::open(self.dir.join("lock"))?.try_lock_shared().is_err();
        let process: Option<Process> = files::read(&self.dir.join("process"))?;
        Ok(match files::read(&self.dir.join("exit"))? {
            Some(exit) => InstanceState::Exited(exit),
            None if locked && process.is_some() => InstanceState::Running,
            None if locked => InstanceState::Starting,
            // Nobody saw how it ended: its supervisor was killed too, or the machine went down.
            None if process.is_some() => InstanceState::Exited(ExitRecord { code: None, signal: None, at: None }),
            None => InstanceState::Created,
        })
    }

    pub(crate) fn observed(&self) -> io::Result<ObservedNode> {
        let Mark { node, incarnation, lab, .. } = self.mark;
        Ok(ObservedNode {
            instance: InstanceRef { node, incarnation, identifier: node.to_string() },
            lab,
            state: self.state()?,
            started_at: files::read(&self.dir.join("process"))?.map(|process: Process| process.at),
            management: ManagementAddresses::default(),
            namespace: Some(place::describe(&self.dir.join("ports"))?),
        })
    }

    /// Sends a signal to the processes of a node that is running. False when it is not known yet which these are.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let process: Option<Process> = files::read(&self.dir.join("process"))?;
        let group = process.and_then(|process| Pid::from_raw(process.pid));
        Ok(group.is_some_and(|group| kill_process_group(group, signal).is_ok()))
    }
}
