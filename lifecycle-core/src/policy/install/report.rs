//! What a report of a machine changes, and what it means that an install lasts too long.

use super::{AttemptEnd, AttemptId, InstallChange, InstallPolicy, InstallRecord, MachineFacts, TokenDigest};
use crate::attach::Mac;
use crate::machine::InstallState;
use crate::time::Now;

/// A report of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The address by which its record is found.
    pub mac: Mac,
    /// Digest of the boot token that it carries.
    pub token: Option<TokenDigest>,
    /// Name of the attempt that it is about; without one, the current attempt.
    pub attempt: Option<String>,
    /// What it says of itself.
    pub facts: MachineFacts,
    /// What happened.
    pub event: Event,
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing but that it is there.
    Seen,
    /// An installer started.
    Started,
    /// The installer is so far, in percent.
    Progress(u8),
    /// The installer is done.
    Complete,
    /// The installer failed.
    Failed {
        /// Why.
        error: String,
    },
}

/// What a report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The machine's state changed.
    Changed(InstallChange),
    /// Something was recorded, the state is the same.
    Recorded,
    /// Nothing but when the machine was last seen.
    Unchanged(Unchanged),
}

/// Why a report changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Unchanged {
    /// It said what was known.
    #[strum(to_string = "repeated: this was reported before")]
    Repeated,
    /// It does not fit the machine's state, or is about an attempt that is over.
    #[strum(to_string = "out of order: this does not fit what the machine is doing now")]
    OutOfOrder,
}

/// A report that cannot be taken; nothing changed, not even when the machine was last seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// No machine has this address.
    #[error("no machine with address {0} is known")]
    UnknownMachine(Mac),
    /// A token was issued for the machine's boot and the report has none, or another.
    #[error("the report of {0} does not carry the boot token that was issued for it")]
    WrongToken(Mac),
    /// Progress is between 0 and 100.
    #[error("progress must be between 0 and 100, not {0}")]
    InvalidProgress(u8),
}

/// Takes a report in. `record` is the machine with the report's address, if there is one.
///
/// # Errors
/// [`ReportError`] when the machine is unknown, the token wrong or the progress above 100.
pub fn report(
    record: Option<&mut InstallRecord>,
    report: &Report,
    policy: &InstallPolicy,
    now: Now,
) -> Result<Outcome, ReportError> {
    let record = record.ok_or(ReportError::UnknownMachine(report.mac))?;
    if let Some(issued) = &record.boot_token
        && !report.token.as_ref().is_some_and(|token| token.same(issued))
    {
        return Err(ReportError::WrongToken(report.mac));
    }
    let name = report.attempt.as_deref();
    let outcome = match &report.event {
        Event::Seen => Outcome::Recorded,
        Event::Started => record.started(name, policy, now),
        Event::Progress(percent @ 101..) => return Err(ReportError::InvalidProgress(*percent)),
        Event::Progress(percent) => record.progressed(name, *percent),
        Event::Complete => record.completed(name, now),
        Event::Failed { error } => record.failed(name, error, policy, now),
    };
    record.last_seen = Some(now.wall);
    if !matches!(outcome, Outcome::Unchanged(_)) {
        record.facts.merge(&report.facts);
    }
    Ok(outcome)
}

/// Counts the current attempt as failed if it has lasted too long. It says so once per attempt.
pub fn judge_timeout(record: &mut InstallRecord, policy: &InstallPolicy, now: Now) -> Option<Outcome> {
    let attempt = record.attempt.as_mut().filter(|_| record.state == InstallState::Installing)?;
    attempt.deadline = attempt.deadline.rebased(now.boot);
    if attempt.end.is_some() || !attempt.deadline.is_over(now.boot) {
        return None;
    }
    attempt.end = Some(AttemptEnd::TimedOut);
    let error = format!("the install did not end within {} seconds", policy.timeout.as_secs());
    Some(record.count_failure(&error, policy, now))
}

const REPEATED: Outcome = Outcome::Unchanged(Unchanged::Repeated);
const OUT_OF_ORDER: Outcome = Outcome::Unchanged(Unchanged::OutOfOrder);

impl InstallRecord {
    fn started(&mut self, name: Option<&str>, policy: &InstallPolicy, now: Now) -> Outcome {
        if self.past_attempt(name).is_some() {
            return OUT_OF_ORDER;
        }
        match self.state {
            InstallState::Pending => {
                self.open_attempt(name, policy, now);
                Outcome::Changed(self.enter(InstallState::Installing, now))
            }
            InstallState::Installing => {
                // Without a name, a second start is a new attempt only if the one before is over.
                let over = self.attempt.as_ref().is_none_or(|attempt| attempt.end.is_some());
                let repeated = if name.is_some() { self.is_current(name) } else { !over };
                if repeated {
                    return REPEATED;
                }
                self.open_attempt(name, policy, now);
                Outcome::Recorded
            }
            _ => OUT_OF_ORDER,
        }
    }

    fn progressed(&mut self, name: Option<&str>, percent: u8) -> Outcome {
        let open = self.attempt.as_ref().is_some_and(|attempt| attempt.end.is_none());
        if self.state != InstallState::Installing || !open || !self.is_current(name) {
            return OUT_OF_ORDER;
        }
        match self.progress {
            Some(stored) if percent == stored => REPEATED,
            Some(stored) if percent < stored => OUT_OF_ORDER,
            _ => {
                self.progress = Some(percent);
                Outcome::Recorded
            }
        }
    }

    fn completed(&mut self, name: Option<&str>, now: Now) -> Outcome {
        let failed = self.attempt.as_ref().is_none_or(|attempt| attempt.end == Some(AttemptEnd::Failed));
        if self.state == InstallState::Installing && !failed && self.is_current(name) {
            Outcome::Changed(self.enter(InstallState::Installed, now))
        } else if self.state == InstallState::Installed {
            REPEATED
        } else {
            OUT_OF_ORDER
        }
    }

    fn failed(&mut self, name: Option<&str>, error: &str, policy: &InstallPolicy, now: Now) -> Outcome {
        if self.state != InstallState::Installing {
            return OUT_OF_ORDER;
        }
        if self.is_current(name) {
            let Some(attempt) = &mut self.attempt else { return OUT_OF_ORDER };
            if attempt.end.is_some() {
                return REPEATED;
            }
            attempt.end = Some(AttemptEnd::Failed);
        } else if let Some(past) = self.past_attempt(name) {
            if std::mem::replace(&mut past.settled, true) {
                return REPEATED;
            }
        } else if let Some(name) = name {
            // Its start was lost on the way; it failed all the same.
            self.remember(AttemptId::Named(name.to_owned()), true);
        }
        self.count_failure(error, policy, now)
    }

    fn count_failure(&mut self, error: &str, policy: &InstallPolicy, now: Now) -> Outcome {
        self.attempts += 1;
        self.last_error = Some(error.to_owned());
        if self.attempts < policy.max_attempts {
            return Outcome::Recorded;
        }
        Outcome::Changed(self.enter(InstallState::InstallFailed, now))
    }

    /// Whether a report with this attempt name is about the current attempt.
    fn is_current(&self, name: Option<&str>) -> bool {
        match (&self.attempt, name) {
            (Some(attempt), Some(name)) => matches!(&attempt.id, AttemptId::Named(id) if id == name),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    fn past_attempt(&mut self, name: Option<&str>) -> Option<&mut super::PastAttempt> {
        let name = name?;
        self.past.iter_mut().find(|past| matches!(&past.id, AttemptId::Named(id) if id == name))
    }
}

impl MachineFacts {
    /// Takes over what `newer` says.
    fn merge(&mut self, newer: &Self) {
        fn take<T: Clone>(mine: &mut Option<T>, newer: &Option<T>) {
            if newer.is_some() {
                mine.clone_from(newer);
            }
        }
        take(&mut self.address, &newer.address);
        take(&mut self.hostname, &newer.hostname);
        take(&mut self.vendor, &newer.vendor);
        take(&mut self.model, &newer.model);
        take(&mut self.serial, &newer.serial);
        take(&mut self.uuid, &newer.uuid);
    }
}
