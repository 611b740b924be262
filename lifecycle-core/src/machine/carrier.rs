//! Whether an end of a link has carrier.
//!
//! ```text
//!  unknown ◀──▶ up ◀──▶ down ◀──▶ unknown
//! ```

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// Whether the far end can be heard.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CarrierState {
    /// Nobody has looked yet.
    Unknown,
    /// It can.
    Up,
    /// It cannot.
    Down,
}

impl Lifecycle for CarrierState {
    const MACHINE: &'static str = "carrier";
    const INITIAL: Self = Self::Unknown;

    fn next(self) -> &'static [Self] {
        use CarrierState::*;
        match self {
            Unknown => &[Up, Down],
            Up => &[Unknown, Down],
            Down => &[Unknown, Up],
        }
    }
}
