//! The machine of an image on a host.
//!
//! ```text
//!  absent ◀──▶ syncing ──▶ present ──▶ absent, or syncing again
//!     ▲           ▲ │
//!     │           │ ▼
//!     └────────── failed
//! ```

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// Whether an image is on a host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ImageState {
    /// It is not there.
    Absent,
    /// It is being fetched.
    Syncing,
    /// It is there.
    Present,
    /// It could not be fetched.
    Failed,
}

impl Lifecycle for ImageState {
    const MACHINE: &'static str = "image";
    const INITIAL: Self = Self::Absent;

    fn next(self) -> &'static [Self] {
        use ImageState::*;
        match self {
            Absent => &[Syncing, Present],
            Syncing => &[Present, Failed, Absent],
            Present => &[Absent, Syncing],
            Failed => &[Syncing, Absent],
        }
    }
}
