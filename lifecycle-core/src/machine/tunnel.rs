//! The machine of a tunnel between two hosts.
//!
//! ```text
//!  pending ──▶ active ◀──▶ degraded
//!     ▲  │        │            │
//!     │  ▼        ▼            │
//!    failed ◀─────┴────────────┤
//!       └────▶ removed ◀───────┘      (from active too)
//! ```

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// What is true of a tunnel.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TunnelState {
    /// It is being made.
    Pending,
    /// It passes traffic.
    Active,
    /// It loses some.
    Degraded,
    /// It could not be made, or passes nothing.
    Failed,
    /// It is gone, with the last link that used it.
    Removed,
}

impl Lifecycle for TunnelState {
    const MACHINE: &'static str = "tunnel";
    const INITIAL: Self = Self::Pending;

    fn next(self) -> &'static [Self] {
        use TunnelState::*;
        match self {
            Pending => &[Active, Failed],
            Active => &[Degraded, Failed, Removed],
            Degraded => &[Active, Failed, Removed],
            Failed => &[Pending, Removed],
            Removed => &[],
        }
    }
}
