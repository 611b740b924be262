//! The state of a lab, from the states of its nodes.

use crate::machine::{LabState, NodeState};

/// What a lab looks at in each of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabNode {
    /// Its state; the last known one when it is stale.
    pub state: NodeState,
    /// Whether enforcement will try it again by itself.
    pub will_retry: bool,
    /// Whether its host cannot be reached.
    pub stale: bool,
}

/// A lab as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabSummary {
    /// What is true.
    pub actual: LabState,
    /// What people are shown: a failed node that will be tried again counts as starting.
    pub shown: LabState,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes of which only the last known state is known.
    pub stale: usize,
}

/// Summarises the nodes of a lab.
pub fn summarise(nodes: impl IntoIterator<Item = LabNode>) -> LabSummary {
    let start = LabSummary { actual: LabState::Stopped, shown: LabState::Stopped, nodes: 0, stale: 0 };
    nodes.into_iter().fold(start, |sum, node| {
        let actual = of_node(node.state);
        let shown = if actual == LabState::Error && node.will_retry { LabState::Starting } else { actual };
        LabSummary {
            actual: stronger(sum.actual, actual),
            shown: stronger(sum.shown, shown),
            nodes: sum.nodes + 1,
            stale: sum.stale + usize::from(node.stale),
        }
    })
}

/// What a node makes of a lab that has no other.
const fn of_node(state: NodeState) -> LabState {
    match state {
        NodeState::Error => LabState::Error,
        NodeState::Stopping => LabState::Stopping,
        NodeState::Starting | NodeState::Pending => LabState::Starting,
        NodeState::Running => LabState::Running,
        NodeState::Undeployed | NodeState::Stopped | NodeState::Exited => LabState::Stopped,
    }
}

fn stronger(a: LabState, b: LabState) -> LabState {
    let rank = |state| match state {
        LabState::Stopped => 0,
        LabState::Running => 1,
        LabState::Starting => 2,
        LabState::Stopping => 3,
        LabState::Error => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    /// The rule, read literally from the set of states that occur.
    fn rule(states: &[NodeState]) -> LabState {
        let any = |state| states.contains(&state);
        if any(NodeState::Error) {
            LabState::Error
        } else if any(NodeState::Stopping) {
            LabState::Stopping
        } else if any(NodeState::Starting) || any(NodeState::Pending) {
            LabState::Starting
        } else if any(NodeState::Running) {
            LabState::Running
        } else {
            LabState::Stopped
        }
    }

    #[test]
    fn every_set_of_states() {
        for set in 0..1u32 << NodeState::VARIANTS.len() {
            let states: Vec<NodeState> = NodeState::VARIANTS
                .iter()
                .copied()
                .enumerate()
                .filter(|(i, _)| set >> i & 1 == 1)
                .map(|x| x.1)
                .collect();
            for will_retry in [false, true] {
                let nodes = states.iter().map(|&state| LabNode { state, will_retry, stale: will_retry });
                let sum = summarise(nodes);
                let as_shown: Vec<NodeState> = states
                    .iter()
                    .map(|&s| if s == NodeState::Error && will_retry { NodeState::Starting } else { s })
                    .collect();
                assert_eq!((sum.actual, sum.shown), (rule(&states), rule(&as_shown)), "{states:?}");
                assert_eq!((sum.nodes, sum.stale), (states.len(), if will_retry { states.len() } else { 0 }));
            }
        }
    }

    #[test]
    fn one_hopeless_node_among_hopeful_ones_is_an_error() {
        let node = |will_retry| LabNode { state: NodeState::Error, will_retry, stale: false };
        assert_eq!(summarise([node(true), node(false)]).shown, LabState::Error);
        assert_eq!(summarise([]).shown, LabState::Stopped);
    }
}
