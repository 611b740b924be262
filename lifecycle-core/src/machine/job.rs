//! The machine of a job: one piece of work on behalf of a node, a set of nodes or a host.
//!
//! ```text
//!  pending ──▶ running ──▶ completed
//!     │           ├──────▶ failed
//!     │           ▼
//!     └──────▶ cancelled
//! ```

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// How far a job is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// It waits for its turn.
    Pending,
    /// It is being done.
    Running,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed,
    /// A user or a newer intent called it off.
    Cancelled,
}

impl Lifecycle for JobState {
    const MACHINE: &'static str = "job";
    const INITIAL: Self = Self::Pending;

    fn next(self) -> &'static [Self] {
        use JobState::*;
        match self {
            Pending => &[Running, Cancelled],
            Running => &[Completed, Failed, Cancelled],
            Completed => &[],
            Failed => &[],
            Cancelled => &[],
        }
    }
}
