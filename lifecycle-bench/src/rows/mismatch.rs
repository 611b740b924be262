//! Ten thousand nodes that are not as wanted, in a hundred labs: decided and recorded in the store.

use std::time::Instant;

use lifecycle_core::machine::NodeState;
use lifecycle_core::plugin::StateStore;
use lifecycle_engine::decide::{Action, Done, Input, step};
use lifecycle_store_sqlite::SqliteStore;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::Row;
use crate::fixture;
use crate::measure::{Result, millis, sample};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "mismatch", about: "10,000 nodes in 100 labs that are not as wanted, decided and stored", measure };

const LABS: usize = 100;
const NODES: usize = 100;
const RUNS: usize = 5;

fn measure() -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut decided, mut stored) = (Vec::new(), Vec::new());
    let whole = sample(RUNS, || {
        let (deciding, storing) = runtime.block_on(one_run())?;
        decided.push(deciding);
        stored.push(storing);
        Ok((deciding + storing) / 1e3)
    })?;
    let part = |what: &str, runs| Line::new(format!("  of these {what}"), "ms", crate::measure::Sample::of(runs));
    Ok(vec![
        Line::new("10,000 mismatched nodes in 100 labs, with store", "s", whole).goal(Goal::AtMost(0.2)),
        part("deciding", decided),
        part("committing", stored),
    ])
}

/// Milliseconds of deciding and of committing, from the list that shows that no node is there to the requests that make
/// them all.
async fn one_run() -> Result<(f64, f64)> {
    let directory = tempfile::tempdir()?;
    let store = SqliteStore::open(directory.path(), lifecycle_store_sqlite::Settings::default())?;
    let head = store.take_over("bench").await?;
    let (labs, mut nodes) = fixture::labs(LABS, NODES)?;
    for row in &mut nodes {
        (row.actual, row.instance, row.running_since) = (NodeState::Undeployed, None, None);
    }
    store.commit(&fixture::first_batch(&head, &labs, &nodes)).await?;
    let mut world = fixture::world(store.load().await?)?;
    let mut rng = ChaCha8Rng::from_seed([7; 32]);
    let first = step(&mut world, [], fixture::now(1), &mut rng);
    store.commit(&first.batch).await?;
    let list = first.effects.iter().find(|effect| effect.action == Action::ListNodes);
    let effect = list.ok_or("the engine did not ask for a list")?.id;

    let begin = Instant::now();
    let listed = Input::Outcome { effect, outcome: Box::new(Ok(Done::Nodes(Vec::new()))) };
    let step = step(&mut world, [listed], fixture::now(2), &mut rng);
    let deciding = millis(begin);
    let begin = Instant::now();
    store.commit(&step.batch).await?;
    let storing = millis(begin);
    let made = step.effects.iter().filter(|effect| matches!(effect.action, Action::CreateNode(_))).count();
    if made < LABS * NODES {
        return Err(format!("only {made} nodes were asked for").into());
    }
    Ok((deciding, storing))
}
