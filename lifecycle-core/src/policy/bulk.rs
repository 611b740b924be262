//! What a call on many nodes does to each of them.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use crate::machine::{NodeIntent, NodeState};

/// A call on many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BulkAction {
    /// Every node should run.
    Start,
    /// No node should run.
    Stop,
}

impl BulkAction {
    /// What the call wants of each node.
    pub const fn intent(self) -> NodeIntent {
        match self {
            Self::Start => NodeIntent::Running,
            Self::Stop => NodeIntent::Stopped,
        }
    }
}

/// What a call on many nodes means for one of them; each node is in exactly one class.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BulkClass {
    /// Its intent is recorded and its budget reset.
    Affected,
    /// It is as the call wants it, and nobody wants otherwise.
    AlreadyInState,
    /// It is on its way to some state and is left alone.
    SkippedTransitional,
}

/// The class of a node in `state` whose user wanted `intent` until now.
pub const fn classify(action: BulkAction, state: NodeState, intent: NodeIntent) -> BulkClass {
    use BulkClass::{Affected, AlreadyInState, SkippedTransitional};
    // A node that is there already, against its recorded intent, is affected: else enforcement would move it away.
    let there = match (action, intent) {
        (BulkAction::Start, NodeIntent::Running) | (BulkAction::Stop, NodeIntent::Stopped) => AlreadyInState,
        (BulkAction::Start, NodeIntent::Stopped) | (BulkAction::Stop, NodeIntent::Running) => Affected,
    };
    match (state, action) {
        (NodeState::Pending | NodeState::Starting | NodeState::Stopping, _) => SkippedTransitional,
        (NodeState::Error, _) => Affected,
        (NodeState::Running, BulkAction::Start) => there,
        (NodeState::Running, BulkAction::Stop) => Affected,
        (NodeState::Undeployed | NodeState::Stopped | NodeState::Exited, BulkAction::Start) => Affected,
        (NodeState::Undeployed | NodeState::Stopped | NodeState::Exited, BulkAction::Stop) => there,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter per state, in the order of the enum: (A)ffected, (=) already, (S)kipped.
    const TABLE: [(BulkAction, NodeIntent, &str); 4] = [
        (BulkAction::Start, NodeIntent::Running, "ASS=SAAA"),
        (BulkAction::Start, NodeIntent::Stopped, "ASSASAAA"),
        (BulkAction::Stop, NodeIntent::Running, "ASSASAAA"),
        (BulkAction::Stop, NodeIntent::Stopped, "=SSAS==A"),
    ];

    #[test]
    fn every_state_and_intent() {
        for (action, intent, row) in TABLE {
            let found: String = NodeState::VARIANTS
                .iter()
                .map(|&state| match classify(action, state, intent) {
                    BulkClass::Affected => 'A',
                    BulkClass::AlreadyInState => '=',
                    BulkClass::SkippedTransitional => 'S',
                })
                .collect();
            assert_eq!(found, row, "{action} with desired={intent}");
        }
    }
}
