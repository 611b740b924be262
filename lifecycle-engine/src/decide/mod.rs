//! Decisions: one synchronous step over the whole world, without a runtime, a clock, or any input or output.
//!
//! [`step`] takes in what happened and hands out what to commit and what to ask of the world outside. A driver commits
//! the batch and only then starts the effects; each effect's end comes back as an input. The parts of a step are
//! modules: [`commands`] records what users want, [`sync`] records what is true, [`node`] brings nodes to where they
//! are wanted, [`link`] the links, [`collect`] removes what belongs to nobody.

mod apply;
mod collect;
mod commands;
mod effect;
mod events;
mod host;
mod input;
pub mod invariant;
mod jobs;
mod ledger;
mod link;
mod mappings;
mod node;
mod outcome;
mod passes;
mod placement;
mod planted;
mod recover;
mod sync;
mod table;
mod tally;
mod world;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use lifecycle_core::model::Batch;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::time::{BootInstant, Now};
use rand_core::Rng;

#[cfg(not(feature = "planted-bugs"))]
use planted::Bug;

pub use apply::plan;
pub use effect::{Action, ConnectPlan, Done, Effect, EffectId, EndPlan, Outcome, ReadyCheck, ReadyProbe, Subject};
pub use events::lab_view;
pub use host::{BackendState, HostState, Orphan, ProviderState};
pub use input::{Command, CommandError, CommandId, Input, Limits, News, NodeAction, Plan, Reply};
pub use ledger::{Ledger, Why};
pub use link::{LinkPhase, LinkWork};
pub use node::{Goal, NodeWork, Phase, Probe};
#[cfg(feature = "planted-bugs")]
pub use planted::Bug;
pub use world::{InFlight, Kinds, Settings, World};

/// What one step decided.
#[derive(Debug)]
pub struct Step {
    /// What to commit before anything else is done.
    pub batch: Batch,
    /// What to ask of the world outside, once the batch is committed.
    pub effects: Vec<Effect>,
    /// Answers to commands, once the batch is committed.
    pub replies: Vec<(CommandId, Result<Reply, CommandError>)>,
    /// When to step again if nothing happens before.
    pub wake: Option<BootInstant>,
}

/// What the decisions of one step are made with: the ledger, and the list of effects that they ask for.
pub(crate) struct Cx<'a> {
    ledger: Ledger<'a>,
    effects: Vec<Effect>,
    replies: Vec<(CommandId, Result<Reply, CommandError>)>,
    reserved: placement::Reserved,
}

impl<'a> Deref for Cx<'a> {
    type Target = Ledger<'a>;
    fn deref(&self) -> &Ledger<'a> {
        &self.ledger
    }
}

impl<'a> DerefMut for Cx<'a> {
    fn deref_mut(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }
}

impl Cx<'_> {
    /// Asks for an effect.
    fn ask(
        &mut self,
        host: HostName,
        plugin: PluginName,
        subject: Subject,
        action: Action,
        timeout: Duration,
    ) -> EffectId {
        let id = EffectId(self.world.next_effect);
        self.world.next_effect += 1;
        if action.is_mutating() && !self.world.has_bug(Bug::ActsWithoutCommitting) {
            // Whoever acts commits something first, so that a controller that was replaced is told before it acts.
            match subject {
                Subject::Node(id) => drop(self.world.nodes.get_mut(&id)),
                Subject::Link(id) => drop(self.world.links.get_mut(&id)),
                // What is collected has a row in the audit trail.
                Subject::Host => {}
            }
        }
        let effect = Effect { id, host, subject, plugin, action, timeout };
        let issued = self.world.step;
        self.world.in_flight.insert(id, InFlight { effect: effect.clone(), issued });
        self.effects.push(effect);
        id
    }

    /// Asks for a look at a subject after a while.
    fn wake_after(&mut self, wait: Duration, subject: Subject) {
        let at = self.now.boot.after(wait);
        self.world.wake(at, subject);
    }
}

/// Takes in what happened and decides what to do.
///
/// The world already shows what the returned batch holds. When the batch cannot be committed, the world is no longer
/// true: throw it away and build another from the store.
pub fn step(world: &mut World, inputs: impl IntoIterator<Item = Input>, now: Now, rng: &mut dyn Rng) -> Step {
    world.step += 1;
    let mut audit = Vec::new();
    let ledger = Ledger { world, now, rng, audit: &mut audit };
    let mut cx = Cx { ledger, effects: Vec::new(), replies: Vec::new(), reserved: placement::Reserved::default() };

    if cx.world.step == 1 {
        recover::begin(&mut cx);
    }
    for input in inputs {
        match input {
            Input::Command { id, user, command } => {
                let reply = commands::take(&mut cx, &user, command);
                cx.replies.push((id, reply));
            }
            Input::Outcome { effect, outcome } => outcome::take(&mut cx, effect, *outcome),
            Input::News { host, plugin, news } => passes::news(&mut cx, &host, &plugin, news),
        }
    }
    passes::due(&mut cx);
    settle(&mut cx);
    while placement::look_again(&mut cx) {
        settle(&mut cx);
    }

    let Cx { ledger: _, effects, replies, .. } = cx;
    let (changes, events) = events::drain(world, now);
    let batch = finish(world, changes, audit, events);
    Step { batch, effects, replies, wake: passes::next_wake(world, now) }
}

/// Looks at everything that is due until nothing is.
fn settle(cx: &mut Cx<'_>) {
    loop {
        if let Some(id) = cx.world.due_links.pop_front() {
            cx.world.queued.remove(&Subject::Link(id));
            link::advance(cx, id);
        } else if let Some(id) = cx.world.due_nodes.pop_front() {
            cx.world.queued.remove(&Subject::Node(id));
            node::advance(cx, id);
        } else {
            return;
        }
    }
}

fn finish(
    world: &mut World,
    changes: Vec<lifecycle_core::model::Change>,
    audit: Vec<lifecycle_core::model::AuditRow>,
    events: Vec<lifecycle_core::model::Event>,
) -> Batch {
    let mut batch = Batch { epoch: world.head.epoch, number: world.head.batch, changes, audit, events };
    if !batch.is_empty() {
        world.head.batch += 1;
        world.head.audit += batch.audit.len() as u64;
        world.head.event += batch.events.len() as u64;
        batch.number = world.head.batch;
    }
    batch
}
