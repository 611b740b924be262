//! A thousand nodes with two thousand links, up and verified; then one node started again.

use std::time::Instant;

use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_engine::NodeAction;

use super::Row;
use crate::lab::{self, Bench};
use crate::measure::{Result, Sample, millis};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "thousand", about: "1,000 nodes and 2,000 links up and verified; one node restarted", measure };

pub(super) const NODES: usize = 1000;
const RUNS: usize = 3;
const RESTARTS: usize = 9;

fn measure() -> Result<Vec<Line>> {
    let (mut ups, mut downs, mut restarts) = (Vec::new(), Vec::new(), Vec::new());
    lab::with(async |bench| {
        for run in 0..RUNS {
            ups.push(bench.up(lab::mesh(NODES)?).await? / 1e3);
            if run == 0 {
                for number in 0..RESTARTS {
                    restarts.push(restart(bench, number * 100).await?);
                }
            }
            downs.push(bench.down(&lab::name()?).await? / 1e3);
        }
        Ok(())
    })?;
    Ok(vec![
        Line::new("1,000 nodes, 2,000 links: up and verified", "s", Sample::of(ups)).goal(Goal::AtMost(5.0)),
        Line::new("  one of them restarted, links verified", "ms", Sample::of(restarts)).goal(Goal::AtMost(50.0)),
        Line::new("  down", "s", Sample::of(downs)),
    ])
}

/// Restarts a node; milliseconds until it runs again and its links were verified again.
async fn restart(bench: &Bench, number: usize) -> Result<f64> {
    let (lab, name) = (lab::name()?, lab::node_name(number)?);
    let (_, id) = bench.controller.node_id(&lab, &name).await?.ok_or("there is no such node")?;
    let started = move |world: &lifecycle_engine::decide::World| {
        world.nodes.get(&id).and_then(|node| Some((node.times.boot_started_at?, node.actual)))
    };
    let before = bench.controller.read(started).await?;
    let begin = Instant::now();
    bench.controller.node("bench", lab, name, NodeAction::Restart).await?;
    let again = move |world: &lifecycle_engine::decide::World| {
        let now = started(world);
        now.is_some_and(|(_, state)| state == NodeState::Running)
            && now != before
            && world.links_at(id).all(|link| link.actual == LinkState::Up)
    };
    bench.until("the node is back", again).await?;
    Ok(millis(begin))
}
