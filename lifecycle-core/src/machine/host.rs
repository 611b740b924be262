//! The machine of a host as its controller sees it.
//!
//! ```text
//!  unknown ──▶ online ◀──▶ degraded
//!     │          ▲ │          │ ▲
//!     │          │ ▼          ▼ │
//!     └───────▶ offline ◀───────┘
//! ```
//!
//! A host is degraded after 2 missed heartbeats and offline after 9.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// Whether a host answers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HostState {
    /// It was never heard of since the controller started.
    Unknown,
    /// It answers.
    Online,
    /// It misses heartbeats.
    Degraded,
    /// It does not answer; its nodes are stale, not stopped.
    Offline,
}

impl Lifecycle for HostState {
    const MACHINE: &'static str = "host";
    const INITIAL: Self = Self::Unknown;

    fn next(self) -> &'static [Self] {
        use HostState::*;
        match self {
            Unknown => &[Online, Offline],
            Online => &[Degraded, Offline],
            Degraded => &[Online, Offline],
            Offline => &[Online, Degraded],
        }
    }
}
