//! The machine of a link, and what its user wants of it.
//!
//! ```text
//!  unknown ──▶ pending ──▶ creating ──▶ up (verified)
//!                 ▲  ▲         │         │
//!                 │  └─────────┤         │
//!                 │            ▼         │
//!                 └────────── down ◀─────┘
//!                             error: from every state but unknown, and back when repaired
//! ```
//!
//! A link is `up` only after reading back, after the last change to either end, that both ends exist, belong together and
//! have carrier. It is `down` while an end's node is not running or its user wants it down.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// What is true of a link.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LinkState {
    /// Nobody has looked yet.
    Unknown,
    /// It waits for its ends to exist.
    Pending,
    /// It is being built.
    Creating,
    /// It was verified after the last change of either end.
    Up,
    /// It carries nothing, as it should.
    Down,
    /// It could not be built, verified or repaired.
    Error,
}

impl Lifecycle for LinkState {
    const MACHINE: &'static str = "link";
    const INITIAL: Self = Self::Unknown;

    fn next(self) -> &'static [Self] {
        use LinkState::*;
        match self {
            Unknown => &[Pending, Up, Down],
            Pending => &[Creating, Down, Error],
            Creating => &[Up, Pending, Down, Error],
            Up => &[Down, Error],
            Down => &[Pending, Up, Error],
            Error => &[Pending, Down, Up],
        }
    }
}

/// What a user wants of a link. Only a user's call changes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LinkIntent {
    /// It should carry frames.
    Up,
    /// It should not.
    Down,
}
