//! A pass of the whole engine over a world of a million nodes: what its periodic look costs.

use std::time::Instant;

use lifecycle_core::machine::NodeState;
use lifecycle_core::model::{NodeRecord, Snapshot};
use lifecycle_core::plugin::provider::{InstanceState, ObservedNode};
use lifecycle_core::time::Deadline;
use lifecycle_engine::decide::{Action, Done, Effect, Input, World, step};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::Row;
use crate::fixture;
use crate::measure::{Result, Sample, millis};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "pass", about: "the engine's periodic pass over a world of a million nodes", measure };

const LABS: usize = 1000;
const NODES: usize = 1000;
const PASSES: usize = 7;
/// Kilobytes of memory that a world of this size and its making take.
const MEMORY: u64 = 8 << 20;

fn measure() -> Result<Vec<Line>> {
    let what = |what: &str| format!("the engine's pass over 1 M nodes, {what}");
    if available()? < MEMORY {
        let why = format!("{} GB of memory are needed", MEMORY >> 20);
        return Ok([what("steady"), what("one of ten failed")].map(|what| Line::skipped(what, why.clone())).to_vec());
    }
    let steady = Line::new(what("steady"), "ms", passes(|_, _| {})?).goal(Goal::AtMost(5.0));
    let mixed = Line::new(what("one of ten failed"), "ms", passes(fail_one_of_ten)?).goal(Goal::AtMost(15.0));
    Ok(vec![steady, mixed])
}

fn available() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("the kernel does not tell it")?.parse()?)
}

/// One of ten has failed; half of these wait for their next attempt, for the other half enforcement gave up.
fn fail_one_of_ten(number: usize, row: &mut NodeRecord) {
    if number.is_multiple_of(10) {
        row.actual = NodeState::Error;
        row.budget.attempts = 3;
        match number % 20 {
            0 => row.budget.given_up_at = Some(row.state_since),
            _ => row.budget.next_attempt = Some(Deadline { from: fixture::now(0).boot, wait_millis: 1 << 40 }),
        }
    }
}

/// Milliseconds of passes in which nothing is due but the look at every node that is not as wanted.
fn passes(change: fn(usize, &mut NodeRecord)) -> Result<Sample> {
    let (labs, mut nodes) = fixture::labs(LABS, NODES)?;
    nodes.iter_mut().enumerate().for_each(|(number, row)| change(number, row));
    let found: Vec<ObservedNode> = nodes.iter().filter_map(observed).collect();
    let snapshot =
        Snapshot { head: fixture::head(), labs, nodes, links: Vec::new(), jobs: Vec::new(), hosts: Vec::new() };
    let mut world = fixture::world(snapshot)?;
    let mut rng = ChaCha8Rng::from_seed([7; 32]);
    let asked = step(&mut world, [], fixture::now(1), &mut rng).effects;
    let outcome = Box::new(Ok(Done::Nodes(found)));
    let listed = Input::Outcome { effect: list_among(&asked)?, outcome };
    step(&mut world, [listed], fixture::now(2), &mut rng);
    let pass = world.settings.limits.enforcement_pass.as_millis() as u64;
    let one = |world: &mut World, number: usize, rng: &mut ChaCha8Rng| -> Result<f64> {
        let (now, begin) = (fixture::now(1000 + pass * number as u64), Instant::now());
        let decided = step(world, [], now, rng);
        let took = millis(begin);
        if decided.effects.is_empty() && decided.batch.is_empty() {
            Ok(took)
        } else {
            Err("a pass changed something".into())
        }
    };
    // The first one still ends what the list began.
    step(&mut world, [], fixture::now(500), &mut rng);
    let runs = (1..=PASSES).map(|number| one(&mut world, number, &mut rng)).collect::<Result<_>>()?;
    Ok(Sample::of(runs))
}

fn list_among(effects: &[Effect]) -> Result<lifecycle_engine::decide::EffectId> {
    let list = effects.iter().find(|effect| effect.action == Action::ListNodes);
    Ok(list.ok_or("the engine did not ask for a list")?.id)
}

fn observed(row: &NodeRecord) -> Option<ObservedNode> {
    let instance = row.instance.as_ref()?;
    let state = match row.actual {
        NodeState::Running => InstanceState::Running,
        _ => InstanceState::Created,
    };
    Some(ObservedNode {
        instance: instance.reference.clone(),
        lab: row.lab,
        state,
        started_at: None,
        management: instance.management,
        namespace: None,
    })
}
