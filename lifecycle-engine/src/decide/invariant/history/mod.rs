//! Invariants about how things came to be: they are told of every step of every controller on one state, in order.

mod effects;
mod feed;
mod readings;
mod replies;
mod states;
mod truth;

use std::collections::BTreeMap;

use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::model::{Change, LinkRecord, NodeRecord, SubjectKind};
use lifecycle_core::time::Now;

use super::{Census, Violation};
use crate::decide::{Effect, EffectId, Input, Outcome, Step, World};

/// One step whose batch was committed.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The world after it.
    pub world: &'a World,
    /// What exists outside, before the effects of the step.
    pub census: &'a Census,
    /// What it took in.
    pub inputs: &'a [Input],
    /// What it decided.
    pub step: &'a Step,
    /// When it was made.
    pub now: Now,
}

impl Seen<'_> {
    /// Whether a user asked for something in this step.
    fn by_user(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input, Input::Command { .. }))
    }

    /// The effects that ended in this step, as far as this controller asked for them, and how.
    fn ended<'b>(&'b self, asked: &'b BTreeMap<EffectId, Asked>) -> impl Iterator<Item = (&'b Asked, &'b Outcome)> {
        self.inputs.iter().filter_map(|input| match input {
            Input::Outcome { effect, outcome } => Some((asked.get(effect)?, outcome.as_ref())),
            _ => None,
        })
    }
}

/// An effect and the step that asked for it.
#[derive(Debug, Clone)]
struct Asked {
    effect: Effect,
    step: u64,
}

/// What is remembered of all steps so far.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Epoch of the last take-over.
    epoch: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    links: BTreeMap<LinkId, LinkRecord>,
    /// State of each subject by the audit trail; none once it is gone.
    trail: BTreeMap<(SubjectKind, String), Option<String>>,
    /// Effects of the present controller that have not ended.
    asked: BTreeMap<EffectId, Asked>,
    effects: effects::Memory,
    marks: readings::Marks,
    readings: readings::Memory,
    truth: truth::Memory,
    feed: feed::Mirror,
}

impl History {
    /// A history that begins with nothing stored.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another controller, or the same one after a failed commit, goes on with what is stored.
    pub fn begins(&mut self, world: &World) -> Vec<Violation> {
        self.epoch = self.epoch.max(world.head.epoch);
        self.asked.clear();
        self.effects = effects::Memory::default();
        self.readings = readings::Memory::default();
        self.truth = truth::Memory::default();
        let mut found = Vec::new();
        let known: BTreeMap<NodeId, u64> = self.nodes.values().map(|row| (row.id, row.generation)).collect();
        if known != world.nodes.values().map(|row| (row.id, row.generation)).collect() {
            found.push(Violation::new("I22", "nodes", "what is stored is not what was committed"));
        }
        let known: BTreeMap<LinkId, u64> = self.links.values().map(|row| (row.id, row.generation)).collect();
        if known != world.links.values().map(|row| (row.id, row.generation)).collect() {
            found.push(Violation::new("I22", "links", "what is stored is not what was committed"));
        }
        found
    }

    /// Takes a step in and says what is wrong with it.
    pub fn observe(&mut self, seen: Seen<'_>) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_effects(seen, &mut found);
        self.check_states(seen, &mut found);
        self.check_truth(seen, &mut found);
        replies::i24_a_bulk_call_classifies_each_node_once(seen, &mut found);
        self.feed.i29_the_feed_ends_with_the_same_view(seen, &mut found);
        for change in &seen.step.batch.changes {
            match change {
                Change::PutNode(row) => drop(self.nodes.insert(row.id, (**row).clone())),
                Change::DropNode { id, .. } => drop(self.nodes.remove(id)),
                Change::PutLink(row) => drop(self.links.insert(row.id, (**row).clone())),
                Change::DropLink { id, .. } => drop(self.links.remove(id)),
                _ => {}
            }
        }
        for input in seen.inputs {
            if let Input::Outcome { effect, .. } = input {
                self.asked.remove(effect);
            }
        }
        for effect in &seen.step.effects {
            self.asked.insert(effect.id, Asked { effect: effect.clone(), step: seen.world.step });
        }
        found
    }
}
