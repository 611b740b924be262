//! Requests, and what is answered to them.

use std::collections::BTreeMap;

use lifecycle_core::id::{ControllerId, JobId, LabId};
use lifecycle_core::machine::NodeIntent;
use lifecycle_core::name::NodeName;
use lifecycle_core::time::Timestamp;
use lifecycle_engine::Plan;
use serde::{Deserialize, Serialize};

use super::{Bytes, Exit};
use crate::api::problem::Problem;

/// Some things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The things.
    pub items: Vec<T>,
}

/// Which controller this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Identifies the state.
    pub controller: ControllerId,
    /// Grows each time a controller takes the state over.
    pub epoch: u64,
    /// Process of the controller.
    pub pid: u32,
}

/// What applying a topology does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The lab; none when nothing was done because of a dry run on a new lab.
    pub lab_id: Option<LabId>,
    /// The job that does it; none when there is nothing to do.
    pub job_id: Option<JobId>,
    /// What changes.
    pub plan: Plan,
}

/// An intent was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The job that works on it; none when there is nothing to do.
    pub job_id: Option<JobId>,
    /// Whether anything changed.
    pub changed: bool,
}

/// What is wanted of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// The state.
    pub state: NodeIntent,
    /// Whether a deploy or start that is under way may be interrupted.
    #[serde(default)]
    pub abort: bool,
}

/// What is wanted of every node of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedState {
    /// The state.
    pub state: NodeIntent,
}

/// What a call on every node of a lab did: each node is in exactly one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkOutcome {
    /// The job that works on the affected nodes.
    pub job_id: Option<JobId>,
    /// Number of nodes that are brought there.
    pub affected: usize,
    /// Number of nodes in a transition, which are left alone.
    pub skipped_transitional: usize,
    /// Number of nodes that are there already.
    pub already_in_state: usize,
    /// The nodes of each class, by its name.
    pub nodes: BTreeMap<String, Vec<NodeName>>,
}

/// What a check of links that was waited for found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Links that were looked at.
    pub checked: usize,
    /// Links that were as they should be.
    pub valid: usize,
    /// Links that were repaired.
    pub repaired: usize,
    /// Links that are not as they should be.
    pub errors: usize,
}

/// A command to run inside a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecCommand {
    /// Program and arguments; no shell is involved.
    pub argv: Vec<String>,
    /// Variables added to the node's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// User to run as; the node's own when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Milliseconds after which the command is killed.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to its standard output.
    pub stdout: Bytes,
    /// What it wrote to its standard error.
    pub stderr: Bytes,
    /// Whether output beyond a limit was dropped.
    pub truncated: bool,
}

/// The configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Name of the file that its kind keeps it in.
    pub file: String,
    /// The configuration.
    pub text: String,
}

/// What became of reading one node's configuration among others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaveOutcome {
    /// The node.
    pub node_name: NodeName,
    /// Its configuration.
    pub saved: Option<Saved>,
    /// Why there is none.
    pub problem: Option<Problem>,
}

/// A line that a node printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, where known.
    pub at: Option<Timestamp>,
    /// Whether it came from the standard error.
    pub stderr: bool,
    /// The line, or a piece of it.
    pub line: Bytes,
}

/// What the one at a console sends besides what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ConsoleControl {
    /// The terminal has another size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

/// Why a console ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConsoleClose {
    /// Its program did, or somebody else took the console over.
    Exit {
        /// How the program ended.
        exit: Exit,
    },
    /// It failed.
    Error {
        /// Why.
        message: String,
    },
}

/// What a controller's check of itself found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// The promises that were checked.
    pub checked: Vec<String>,
    /// What does not hold, in words; empty when all is well.
    pub violations: Vec<String>,
}
