//! The audit trail: one row per change of state and per refused destructive action, never changed afterwards.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LabId};
use crate::model::SubjectKind;
use crate::time::Timestamp;

/// What set a change off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Trigger {
    /// Somebody asked for it.
    UserAction,
    /// Enforcement of what somebody asked for.
    Enforcement,
    /// Reading what is true.
    Sync,
    /// The answer of a host to an effect.
    AgentResponse,
    /// A report of the node itself.
    NodeReport,
    /// Choosing a host.
    Placement,
    /// A policy.
    Policy,
    /// The world changed by itself or by a hand that is not ours.
    Drift,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AuditResult {
    /// It happened.
    Success,
    /// It was refused.
    Rejected,
    /// It was tried and failed.
    Failed,
}

/// What kind of action a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AuditAction {
    /// A subject came to be.
    Created,
    /// A subject's state changed.
    StateChanged,
    /// A user's intent changed.
    DesiredChanged,
    /// A host was chosen, or another backend for a link that stands.
    Placed,
    /// Something of ours without a row was removed.
    Collected,
    /// A subject's row was removed.
    Deleted,
    /// A command was refused.
    Refused,
}

/// One row of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Place in the trail; rows are numbered without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What kind of thing it is about.
    pub subject: SubjectKind,
    /// Its identifier, kept after the thing is gone.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Its lab, if it has one.
    pub lab: Option<LabId>,
    /// What was done.
    pub action: AuditAction,
    /// State before; the state after of the row before.
    pub from: Option<String>,
    /// State after.
    pub to: Option<String>,
    /// What set it off.
    pub trigger: Trigger,
    /// What became of it.
    pub result: AuditResult,
    /// Who decided: a user's name, `enforcement`, `sync`, a policy's name.
    pub decided_by: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// The error, if there was one.
    pub error: Option<String>,
    /// Which attempt of enforcement it was.
    pub attempt: Option<u32>,
    /// The job it belongs to.
    pub job: Option<JobId>,
    /// Whatever else helps to understand it; a snapshot of the subject for destructive decisions.
    pub metadata: serde_json::Value,
}

/// Which rows of the trail to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Only of this kind of thing.
    pub subject: Option<SubjectKind>,
    /// Only of this thing.
    pub id: Option<String>,
    /// Only of this lab.
    pub lab: Option<LabId>,
    /// Only rows after this one, in ascending order.
    pub after: u64,
    /// At most so many; 0 means 1000.
    pub limit: usize,
}
