//! Machines that are installed over the network: their record, their reports and the commands on them.
//!
//! An *attempt* is one run of an installer. It opens when the machine reports `started`, and ends once: by completing,
//! by failing, or by lasting too long. Each attempt that fails counts once, however often that is reported; at the
//! limit the machine is `install_failed`. Reports that come twice, late or for another attempt change nothing.

mod command;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attach::Mac;
use crate::id::MachineId;
use crate::machine::InstallState;
use crate::time::{Deadline, Now, Timestamp};

pub use command::{CommandError, InvalidPage, Page, command, retire};
pub use report::{Event, Outcome, Report, ReportError, Unchanged, judge_timeout, report};

/// How often and how long an install may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallPolicy {
    /// Failed attempts at which a machine is given up.
    pub max_attempts: u32,
    /// Time after which an attempt that did not end counts as failed.
    pub timeout: Duration,
}

impl Default for InstallPolicy {
    fn default() -> Self {
        Self { max_attempts: 3, timeout: Duration::from_secs(3600) }
    }
}

/// What a machine says of itself; what it does not say stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineFacts {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
}

/// The digest of a boot token. The token itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// Whether two digests are the same, in a time that does not depend on where they differ.
    fn same(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// Names one attempt of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptId {
    /// As the machine named it.
    Named(String),
    /// As it was numbered, when the machine gave no name.
    Numbered(u64),
}

/// How an attempt ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The machine said so.
    Failed,
    /// It lasted too long. It may still complete: that is late, but true.
    TimedOut,
}

/// The attempt that is under way, or was the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name.
    pub id: AttemptId,
    /// When it has lasted too long.
    pub deadline: Deadline,
    /// How it ended, if it did.
    pub end: Option<AttemptEnd>,
}

/// An attempt that another took the place of, kept so that late reports of it are recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// Its name.
    pub id: AttemptId,
    /// Whether a failure of it has no effect any more: it was counted, or belongs to an earlier round.
    pub settled: bool,
}

/// The record of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRecord {
    /// Its identifier.
    pub id: MachineId,
    /// The address by which its reports find it. It is not an identity: anybody can send it.
    pub mac: Mac,
    /// What it said of itself.
    #[serde(flatten)]
    pub facts: MachineFacts,
    /// Its processor architecture.
    pub arch: Option<String>,
    /// How it boots, `uefi` or `bios` for example.
    pub boot_mode: Option<String>,
    /// What is installed on it, by name.
    pub workflow: Option<String>,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// Free labels.
    pub tags: BTreeSet<String>,
    /// How far it is.
    pub state: InstallState,
    /// Since when.
    pub state_since: Timestamp,
    /// When it last reported.
    pub last_seen: Option<Timestamp>,
    /// Failed attempts since it was last installed or its counters were reset.
    pub attempts: u32,
    /// The attempt under way, or the last one.
    pub attempt: Option<Attempt>,
    /// Earlier attempts, the oldest first, at most [`InstallRecord::REMEMBERED`].
    pub past: Vec<PastAttempt>,
    /// How many attempts were numbered.
    pub numbered: u64,
    /// How far the present attempt is, in percent.
    pub progress: Option<u8>,
    /// What the last failed attempt said; cleared by a completed one.
    pub last_error: Option<String>,
    /// When a token was issued for its boot, each of its reports must carry it.
    pub boot_token: Option<TokenDigest>,
}

/// A change of a machine's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallChange {
    /// State before.
    pub from: InstallState,
    /// State after.
    pub to: InstallState,
}

impl InstallRecord {
    /// Earlier attempts that are remembered.
    pub const REMEMBERED: usize = 64;

    /// A machine that was heard of for the first time.
    pub fn new(id: MachineId, mac: Mac, now: Now) -> Self {
        Self {
            id,
            mac,
            facts: MachineFacts::default(),
            arch: None,
            boot_mode: None,
            workflow: None,
            group: None,
            tags: BTreeSet::new(),
            state: InstallState::Discovered,
            state_since: now.wall,
            last_seen: None,
            attempts: 0,
            attempt: None,
            past: Vec::new(),
            numbered: 0,
            progress: None,
            last_error: None,
            boot_token: None,
        }
    }

    /// Enters a state that the table allows, with what belongs to entering it.
    fn enter(&mut self, to: InstallState, now: Now) -> InstallChange {
        match to {
            // A new round: nothing that is still to come of the old one has an effect.
            InstallState::Pending | InstallState::InstallFailed => {
                self.retire_attempt();
                self.past.iter_mut().for_each(|past| past.settled = true);
                self.progress = None;
            }
            InstallState::Installed => {
                self.retire_attempt();
                self.past.iter_mut().for_each(|past| past.settled = true);
                self.reset_counters();
                self.progress = Some(100);
            }
            _ => {}
        }
        let from = std::mem::replace(&mut self.state, to);
        self.state_since = now.wall;
        InstallChange { from, to }
    }

    /// Opens an attempt in place of the present one.
    fn open_attempt(&mut self, name: Option<&str>, policy: &InstallPolicy, now: Now) {
        self.retire_attempt();
        let id = match name {
            Some(name) => AttemptId::Named(name.to_owned()),
            None => {
                self.numbered += 1;
                AttemptId::Numbered(self.numbered)
            }
        };
        self.attempt = Some(Attempt { id, deadline: Deadline::after(now.boot, policy.timeout), end: None });
        self.progress = None;
    }

    /// Makes the present attempt a past one.
    fn retire_attempt(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.remember(attempt.id, attempt.end.is_some());
        }
    }

    fn remember(&mut self, id: AttemptId, settled: bool) {
        if self.past.len() == Self::REMEMBERED {
            self.past.remove(0);
        }
        self.past.push(PastAttempt { id, settled });
    }

    fn reset_counters(&mut self) {
        self.attempts = 0;
        self.last_error = None;
    }
}
