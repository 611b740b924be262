//! How many nodes of each lab are in which state, kept up as nodes change, so that the state of a lab never costs a look
//! at all its nodes.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::machine::NodeState;
use lifecycle_core::policy::lab::{LabNode, LabSummary, summarise};

/// What a lab looks at in a node, in an order.
type Class = (NodeState, bool, bool);

/// The counts of all labs.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    nodes: BTreeMap<NodeId, (LabId, Class)>,
    labs: BTreeMap<LabId, BTreeMap<Class, usize>>,
    /// Labs whose counts changed.
    stirred: BTreeSet<LabId>,
}

impl Tally {
    /// A node is, or has become, like this.
    pub(super) fn put(&mut self, id: NodeId, lab: LabId, node: LabNode) {
        let class = (node.state, node.will_retry, node.stale);
        if self.nodes.get(&id) == Some(&(lab, class)) {
            return;
        }
        self.take(id);
        self.nodes.insert(id, (lab, class));
        *self.labs.entry(lab).or_default().entry(class).or_default() += 1;
        self.stirred.insert(lab);
    }

    /// A node is gone.
    pub(super) fn take(&mut self, id: NodeId) {
        let Some((lab, class)) = self.nodes.remove(&id) else { return };
        if let Some(counts) = self.labs.get_mut(&lab) {
            if let Some(count) = counts.get_mut(&class) {
                *count -= 1;
            }
            counts.retain(|_, count| *count > 0);
            if counts.is_empty() {
                self.labs.remove(&lab);
            }
        }
        self.stirred.insert(lab);
    }

    /// The state of a lab.
    pub(super) fn summary(&self, lab: LabId) -> LabSummary {
        let counts = || self.labs.get(&lab).into_iter().flatten();
        // One node of each class decides as all of them would.
        let node = |&(state, will_retry, stale): &Class| LabNode { state, will_retry, stale };
        let shape = summarise(counts().map(|(class, _)| node(class)));
        let stale = counts().filter(|(class, _)| class.2).map(|(_, count)| count).sum();
        LabSummary { nodes: counts().map(|(_, count)| count).sum(), stale, ..shape }
    }

    /// Labs whose counts changed since this was last asked.
    pub(super) fn take_stirred(&mut self) -> BTreeSet<LabId> {
        std::mem::take(&mut self.stirred)
    }

    /// Number of nodes that are counted.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}
