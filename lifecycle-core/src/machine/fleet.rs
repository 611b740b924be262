//! The machine of a worker host in a fleet, and its health, which is a separate matter.
//!
//! ```text
//!  provisioning ──▶ initializing ──▶ ready ──▶ active ◀──▶ idle
//!                                      │         │          │
//!                                      └─────────┼──────────┘
//!                                                ▼
//!                               unhealthy ──▶ draining ──▶ decommissioned
//! ```
//!
//! Any state but the last may become unhealthy; an unhealthy host becomes ready again or is drained. Straight to
//! `decommissioned` goes only a machine that is confirmed gone or never came to be.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// Where a worker host is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FleetState {
    /// Its machine is being made.
    Provisioning,
    /// Its machine exists and sets itself up.
    Initializing,
    /// It can take workloads and had none yet.
    Ready,
    /// It has workloads.
    Active,
    /// Its last workload is gone.
    Idle,
    /// It takes no more workloads and will be removed.
    Draining,
    /// It does not do its duty.
    Unhealthy,
    /// Its machine is gone.
    Decommissioned,
}

impl Lifecycle for FleetState {
    const MACHINE: &'static str = "fleet";
    const INITIAL: Self = Self::Provisioning;

    fn next(self) -> &'static [Self] {
        use FleetState::*;
        match self {
            Provisioning => &[Initializing, Unhealthy, Decommissioned],
            Initializing => &[Ready, Unhealthy, Decommissioned],
            Ready => &[Active, Idle, Draining, Unhealthy, Decommissioned],
            Active => &[Idle, Draining, Unhealthy],
            Idle => &[Active, Draining, Unhealthy, Decommissioned],
            Draining => &[Decommissioned, Unhealthy],
            Unhealthy => &[Ready, Draining, Decommissioned],
            Decommissioned => &[],
        }
    }
}

/// What the last health report of a worker host said.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FleetHealth {
    /// There was none yet.
    Unknown,
    /// All is well.
    Healthy,
    /// It works, with complaints.
    Degraded,
    /// It does not work.
    Unhealthy,
}
