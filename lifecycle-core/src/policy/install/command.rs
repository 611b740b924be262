//! What an operator may do with a machine, and how its history is read.

use super::{InstallChange, InstallPolicy, InstallRecord};
use crate::machine::{InstallState, InvalidTransition, Lifecycle};
use crate::time::Now;

/// A command that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The table lacks the step.
    #[error(transparent)]
    Transition(#[from] InvalidTransition<InstallState>),
    /// The machine failed as often as it may.
    #[error("Max install attempts ({max}) exceeded. Use force=true to reset and retry.")]
    AttemptsExceeded {
        /// The limit.
        max: u32,
    },
}

/// Puts a machine into a state. With `force` a machine that failed too often may try again, with its counters at zero;
/// the table holds all the same.
///
/// # Errors
/// [`CommandError`], and nothing changed.
pub fn command(
    record: &mut InstallRecord,
    to: InstallState,
    force: bool,
    policy: &InstallPolicy,
    now: Now,
) -> Result<InstallChange, CommandError> {
    let to = record.state.go(to)?;
    if record.state == InstallState::InstallFailed && to == InstallState::Pending {
        if force {
            record.reset_counters();
        } else if record.attempts >= policy.max_attempts {
            return Err(CommandError::AttemptsExceeded { max: policy.max_attempts });
        }
    }
    if to == InstallState::Installing {
        record.open_attempt(None, policy, now);
    }
    Ok(record.enter(to, now))
}

/// Takes a machine one step further on its way out of use: deleting is retiring, through the table. Nothing is left to
/// do for one that is retired.
///
/// # Errors
/// [`InvalidTransition`] when it must become active first.
pub fn retire(record: &mut InstallRecord, now: Now) -> Result<Option<InstallChange>, InvalidTransition<InstallState>> {
    let to = match record.state {
        InstallState::Retired => return Ok(None),
        InstallState::Deprovisioning => InstallState::Retired,
        state => state.go(InstallState::Deprovisioning)?,
    };
    Ok(Some(record.enter(to, now)))
}

/// Which part of a history to read, the newest rows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows.
    pub limit: u32,
    /// So many of the newest are left out.
    pub offset: u32,
}

/// The limit is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit must be between 1 and {}, not {limit}", Page::MAX)]
pub struct InvalidPage {
    /// What was asked for.
    pub limit: u32,
}

impl Page {
    /// The highest limit.
    pub const MAX: u32 = 200;
    /// The limit when none is asked for.
    pub const DEFAULT: u32 = 50;

    /// Checks what was asked for.
    ///
    /// # Errors
    /// [`InvalidPage`] when the limit is 0 or above [`Page::MAX`].
    pub fn new(limit: Option<u32>, offset: Option<u32>) -> Result<Self, InvalidPage> {
        let limit = limit.unwrap_or(Self::DEFAULT);
        if (1..=Self::MAX).contains(&limit) {
            Ok(Self { limit, offset: offset.unwrap_or(0) })
        } else {
            Err(InvalidPage { limit })
        }
    }
}
