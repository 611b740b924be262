//! The machine of a node, and what its user wants of it.
//!
//! ```text
//!                  ┌── deploy again ──────────────────────────────┐
//!                  ▼                                              │
//!  undeployed ─▶ pending ─▶ starting ─▶ running ─▶ stopping ─▶ stopped ─▶ undeployed
//!                            ▲   │         │          ▲           ▲
//!                            │   └─ abort ─┼──────────┘           │
//!                            │             ▼                      │
//!                            └────────── exited ──────────────────┘
//!
//!  error: from every state, and back by a user or by enforcement within its budget
//! ```
//!
//! `pending` is being deployed, `starting` and `stopping` wait for the provider; these three are transitional: they have
//! a deadline, and nothing but a recorded intent to stop interrupts them. In the other five a node may rest. Whether an
//! instance exists is observed, not inferred from the state. `running` says that the instance runs; whether it is *ready*
//! is a separate fact.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use super::Lifecycle;

/// What is true of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum NodeState {
    /// Nothing of it exists, as far as is known.
    Undeployed,
    /// It is being deployed, or waits for its image.
    Pending,
    /// Its instance was asked to start.
    Starting,
    /// Its instance runs.
    Running,
    /// Its instance was asked to stop.
    Stopping,
    /// Its instance was stopped.
    Stopped,
    /// Its process ended by itself.
    Exited,
    /// Something failed; left by a user's action, or by enforcement within its budget.
    Error,
}

impl Lifecycle for NodeState {
    const MACHINE: &'static str = "node";
    const INITIAL: Self = Self::Undeployed;

    fn next(self) -> &'static [Self] {
        use NodeState::*;
        match self {
            Undeployed => &[Pending, Error],
            Pending => &[Starting, Undeployed, Error],
            Starting => &[Running, Stopping, Exited, Stopped, Error],
            Running => &[Stopping, Exited, Error],
            Stopping => &[Stopped, Error],
            Stopped => &[Starting, Pending, Undeployed, Error],
            Exited => &[Starting, Pending, Stopped, Undeployed, Error],
            Error => &[Pending, Starting, Stopping, Stopped, Undeployed],
        }
    }
}

impl NodeState {
    /// Whether the node is on its way to another state and has a deadline for it.
    pub const fn is_transitional(self) -> bool {
        match self {
            Self::Pending | Self::Starting | Self::Stopping => true,
            Self::Undeployed | Self::Running | Self::Stopped | Self::Exited | Self::Error => false,
        }
    }

    /// Whether the node may rest here.
    pub const fn is_settled(self) -> bool {
        !self.is_transitional()
    }

    /// Whether the state is what the user wants. An error matches nothing.
    pub const fn matches(self, intent: NodeIntent) -> bool {
        match self {
            Self::Running => matches!(intent, NodeIntent::Running),
            Self::Undeployed | Self::Stopped | Self::Exited => matches!(intent, NodeIntent::Stopped),
            Self::Pending | Self::Starting | Self::Stopping | Self::Error => false,
        }
    }
}

/// What a user wants of a node. Only a user's call changes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum NodeIntent {
    /// It should run.
    Running,
    /// It should not run.
    Stopped,
}
