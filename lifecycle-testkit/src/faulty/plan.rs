//! Which calls go wrong, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle_core::ErrorKind;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything was done.
    Fail(ErrorKind),
    /// It is made and its answer is lost: give a kind that [is unknown](ErrorKind::is_unknown).
    LoseAnswer(ErrorKind),
    /// It is made after a while.
    Delay(Duration),
    /// It is made twice.
    Twice,
}

/// Which calls go wrong. Calls are numbered from 1, over all plugins that share the plan.
///
/// Run once with [`Plan::none`] and count; then run once for every number and every fault.
pub struct Plan {
    state: Mutex<State>,
}

struct State {
    at: BTreeMap<usize, Fault>,
    chance: Option<Chance>,
    only: Option<Vec<&'static str>>,
    made: Vec<&'static str>,
}

struct Chance {
    rng: ChaCha8Rng,
    one_in: u32,
    faults: Vec<Fault>,
}

impl Plan {
    fn with(at: BTreeMap<usize, Fault>, chance: Option<Chance>) -> Self {
        Self { state: Mutex::new(State { at, chance, only: None, made: Vec::new() }) }
    }

    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::with(BTreeMap::new(), None)
    }

    /// The calls of these numbers go wrong.
    pub fn at(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        Self::with(faults.into_iter().collect(), None)
    }

    /// One call in `one_in` goes wrong, in one of the ways of `faults`; the same seed gives the same choices.
    pub fn seeded(seed: u64, one_in: u32, faults: impl IntoIterator<Item = Fault>) -> Self {
        let chance = Chance { rng: ChaCha8Rng::seed_from_u64(seed), one_in, faults: faults.into_iter().collect() };
        Self::with(BTreeMap::new(), Some(chance))
    }

    /// Counts, and lets go wrong, only calls of these operations, by the names of the traits' methods.
    #[must_use]
    pub fn only(self, operations: impl IntoIterator<Item = &'static str>) -> Self {
        self.lock().only = Some(operations.into_iter().collect());
        self
    }

    /// The calls that were counted, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock().made.clone()
    }

    /// Counts a call and says what becomes of it.
    pub(super) fn next(&self, operation: &'static str) -> Option<Fault> {
        let mut state = self.lock();
        if state.only.as_ref().is_some_and(|only| !only.contains(&operation)) {
            return None;
        }
        state.made.push(operation);
        let number = state.made.len();
        state.at.get(&number).copied().or_else(|| state.chance.as_mut()?.draw())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chance {
    fn draw(&mut self) -> Option<Fault> {
        let (hit, which) = (self.rng.next_u32(), self.rng.next_u32() as usize);
        let hit = self.one_in != 0 && hit % self.one_in == 0;
        self.faults.get(which.checked_rem(self.faults.len())?).copied().filter(|_| hit)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("calls", &self.lock().made.len()).finish_non_exhaustive()
    }
}
