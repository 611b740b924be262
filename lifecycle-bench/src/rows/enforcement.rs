//! A pass of enforcement's decision over the facts of a million nodes in memory.

use std::hint::black_box;
use std::time::Instant;

use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::policy::enforcement::{EnforcementAction, EnforcementFacts, decide};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::Row;
use crate::fixture;
use crate::measure::{Result, millis, sample};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "enforcement", about: "enforcement's decision over the facts of a million nodes", measure };

const NODES: usize = 1_000_000;
const RUNS: usize = 21;
const NOW: u64 = 1_000_000;

const STEADY: EnforcementFacts = EnforcementFacts {
    state: NodeState::Running,
    intent: NodeIntent::Running,
    instance_exists: true,
    live_job: None,
    blocked: false,
    stale: false,
    given_up: false,
    due_millis: 0,
};

fn measure() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (what, limit, facts) in [("steady", 5.0, vec![STEADY; NODES]), ("mixed", 15.0, mixed())] {
        // To look at each node at all costs this much.
        let floor = sample(RUNS, || {
            let begin = Instant::now();
            black_box(black_box(&facts).iter().filter(|facts| facts.state == NodeState::Running).count());
            Ok(millis(begin))
        })?;
        let ours = sample(RUNS, || {
            let (begin, now) = (Instant::now(), fixture::now(NOW).boot);
            let acts = |facts: &&EnforcementFacts| {
                let nothing =
                    matches!(decide(facts, now), EnforcementAction::None { .. } | EnforcementAction::WaitUntil { .. });
                !nothing
            };
            black_box(black_box(&facts).iter().filter(acts).count());
            Ok(millis(begin))
        })?;
        let line = Line::new(format!("enforcement over 1 M nodes, {what}"), "ms", ours);
        lines.push(line.floor(floor).goal(Goal::AtMost(limit)));
    }
    Ok(lines)
}

/// Seven of ten are as wanted; of the others each has another reason to be left alone, or is to be acted upon.
fn mixed() -> Vec<EnforcementFacts> {
    let mut rng = ChaCha8Rng::from_seed([7; 32]);
    let error = EnforcementFacts { state: NodeState::Error, ..STEADY };
    let one = |chance: u64| match chance % 20 {
        0 => EnforcementFacts { due_millis: NOW + 1, ..error },
        1 => EnforcementFacts { given_up: true, ..error },
        2 => EnforcementFacts { blocked: true, ..error },
        3 => EnforcementFacts { stale: true, state: NodeState::Exited, ..STEADY },
        4 => EnforcementFacts { state: NodeState::Starting, due_millis: NOW + 1, ..STEADY },
        5 => EnforcementFacts { state: NodeState::Undeployed, instance_exists: false, ..STEADY },
        6..10 => EnforcementFacts { state: NodeState::Stopped, intent: NodeIntent::Stopped, ..STEADY },
        _ => STEADY,
    };
    (0..NODES).map(|_| one(rng.next_u64())).collect()
}
