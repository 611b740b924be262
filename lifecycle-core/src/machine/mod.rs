//! The state machines, one file each: a diagram, an enum, and its table of transitions.
//!
//! Every machine is an enum that implements [`Lifecycle`]. Its table is an exhaustive `match`, so a state without a row
//! does not compile, and the diagrams in `docs/state-machines.md` are generated from it. Changes that somebody
//! *commands* go through [`Lifecycle::go`]; changes that were *observed* are always accepted, since the world is right,
//! and [`Lifecycle::may_become`] tells whether to mark them as drift.
//!
//! Enums without a table are here too: intents, which only a user changes, and states that are derived from others.

mod carrier;
mod fleet;
mod host;
mod image;
mod install;
mod job;
mod lab;
mod link;
mod mermaid;
mod node;
#[cfg(test)]
mod tests;
mod tunnel;

use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

pub use carrier::CarrierState;
pub use fleet::{FleetHealth, FleetState};
pub use host::HostState;
pub use image::ImageState;
pub use install::InstallState;
pub use job::JobState;
pub use lab::LabState;
pub use link::{LinkIntent, LinkState};
pub use mermaid::mermaid;
pub use node::{NodeIntent, NodeState};
pub use tunnel::TunnelState;

/// A state machine: a finite set of states and a table of what may follow what.
pub trait Lifecycle: Copy + Eq + Debug + Display + Hash + VariantArray + 'static {
    /// What the machine is about, in one lower-case word; errors and logs start with it.
    const MACHINE: &'static str;

    /// The state in which everything new begins.
    const INITIAL: Self;

    /// The states that may follow this one; none when it is final.
    fn next(self) -> &'static [Self];

    /// Whether nothing follows this state.
    fn is_final(self) -> bool {
        self.next().is_empty()
    }

    /// Whether the table has the step from this state to `to`.
    fn may_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }

    /// Takes the step to `to` and returns it.
    ///
    /// # Errors
    /// [`InvalidTransition`] when the table lacks the step; it lists those that exist.
    fn go(self, to: Self) -> Result<Self, InvalidTransition<Self>> {
        if self.may_become(to) { Ok(to) } else { Err(InvalidTransition { from: self, to }) }
    }
}

/// A commanded step that the table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: cannot go from `{from}` to `{to}` ({})", S::MACHINE, Follow(from.next()))]
pub struct InvalidTransition<S: Lifecycle> {
    /// The present state.
    pub from: S,
    /// The state that was asked for.
    pub to: S,
}

impl<S: Lifecycle> InvalidTransition<S> {
    /// The states that could have been asked for.
    pub fn valid(&self) -> &'static [S] {
        self.from.next()
    }
}

/// [`InvalidTransition`] of any machine, as plain text for stores and wires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{machine}: cannot go from `{from}` to `{to}` ({})", Follow(valid))]
pub struct TransitionError {
    /// The machine's name, [`Lifecycle::MACHINE`].
    pub machine: String,
    /// The present state.
    pub from: String,
    /// The state that was asked for.
    pub to: String,
    /// The states that could have been asked for.
    pub valid: Vec<String>,
}

impl<S: Lifecycle> From<InvalidTransition<S>> for TransitionError {
    fn from(error: InvalidTransition<S>) -> Self {
        Self {
            machine: S::MACHINE.to_owned(),
            from: error.from.to_string(),
            to: error.to.to_string(),
            valid: error.valid().iter().map(S::to_string).collect(),
        }
    }
}

/// Shows what may follow, for the end of an error message.
struct Follow<'a, T>(&'a [T]);

impl<T: Display> Display for Follow<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("it is final") };
        write!(f, "valid: {first}")?;
        rest.iter().try_for_each(|state| write!(f, ", {state}"))
    }
}
