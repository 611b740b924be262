//! The state of a lab. It has no table: it is derived from the nodes, by the policy for labs.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

/// What a lab as a whole does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LabState {
    /// It has no node, or none that does anything.
    Stopped,
    /// A node is pending or starting, and none fails or stops.
    Starting,
    /// A node runs, and none is on its way.
    Running,
    /// A node is stopping, and none fails.
    Stopping,
    /// A node is in error.
    Error,
}
