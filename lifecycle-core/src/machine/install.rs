//! The machine of a bare-metal machine that is installed over the network.
//!
//! ```text
//!  discovered ──▶ pending ──▶ installing ──▶ installed ──▶ active ──▶ deprovisioning ──▶ retired
//!                  ▲  ▲            │                       │ ▲  │
//!                  │  │            ▼                       │ └─ migrating
//!                  │  └──── install_failed                 ▼
//!                  └───────────────────────────────── reprovision
//! ```

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// How far a machine is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum InstallState {
    /// It reported itself for the first time.
    Discovered,
    /// It waits for its installer to start.
    Pending,
    /// Its installer runs, maybe not for the first time.
    Installing,
    /// Its installer completed.
    Installed,
    /// As many attempts as allowed have failed.
    InstallFailed,
    /// It is in use.
    Active,
    /// It will be installed anew.
    Reprovision,
    /// It is being emptied, to be retired.
    Deprovisioning,
    /// Its work is being moved.
    Migrating,
    /// It is out of use.
    Retired,
}

impl Lifecycle for InstallState {
    const MACHINE: &'static str = "install";
    const INITIAL: Self = Self::Discovered;

    fn next(self) -> &'static [Self] {
        use InstallState::*;
        match self {
            Discovered => &[Pending],
            Pending => &[Installing],
            Installing => &[Installed, InstallFailed],
            Installed => &[Active],
            InstallFailed => &[Pending],
            Active => &[Reprovision, Deprovisioning, Migrating],
            Reprovision => &[Pending],
            Deprovisioning => &[Retired],
            Migrating => &[Active],
            Retired => &[],
        }
    }
}
