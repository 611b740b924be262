//! A hundred namespace nodes in a row: wired, and the whole lab up and down, beside Mininet.

use std::time::Instant;

use lifecycle_core::attach::AttachKind;
use lifecycle_linux::namespace::NamespaceAccess;

use super::{Row, as_root};
use crate::canary::Canary;
use crate::lab::{self, Bench};
use crate::measure::{Result, Sample, millis, sample};
use crate::mininet;
use crate::raw::Space;
use crate::table::{Cell, Goal, Line};
use crate::wiring::{self, Ours};

pub(super) const ROW: Row =
    Row { name: "linear", about: "100 namespace nodes in a row: wired, up and down, beside Mininet", measure };

const NODES: usize = 100;
const RUNS: usize = 5;
/// Runs of the peer, which takes its time.
const PEER_RUNS: usize = 3;

fn measure() -> Result<Vec<Line>> {
    let wiring_floor = as_root(|| sample(RUNS, || wiring::raw(NODES - 1, wiring::born_in_place)))?;
    let wiring = as_root(|| {
        let ours = Ours::new()?;
        sample(RUNS, || ours.at_once(NODES - 1))
    })?;
    let (floor_up, floor_down) = floor()?;
    let (up, down, gone) = ours()?;
    let (bridged_up, bridged_down) = mininet::measure("lxbr", NODES, PEER_RUNS);
    let (chain_up, chain_down) = mininet::measure("chain", NODES, PEER_RUNS);
    let what = |text: &str| format!("linear lab of {NODES}, {text}");
    Ok(vec![
        Line::new(what("wiring"), "ms", wiring).floor(wiring_floor).goal(Goal::TimesFloor(3.0)),
        Line::new(what("up"), "ms", up.clone()).floor(floor_up).peer(bridged_up).goal(Goal::FasterThanPeer(10.0)),
        Line::new(what("up; peer without bridges"), "ms", up).peer(chain_up),
        Line::new(what("down"), "ms", down.clone()).peer(bridged_down).goal(Goal::FasterThanPeer(10.0)),
        Line::new(what("down; peer without bridges"), "ms", down).peer(chain_down),
        Line::new(what("down, until the kernel is done"), "ms", gone).floor(floor_down),
    ])
}

/// Namespaces and links by raw netlink, made and let go.
fn floor() -> Result<(Cell, Cell)> {
    let mut downs = Vec::new();
    let ups = as_root(|| {
        sample(RUNS, || {
            let begin = Instant::now();
            let spaces = Space::many(NODES)?;
            for pair in spaces.windows(2) {
                wiring::born_in_place(&pair[0], &pair[0], &pair[1])?;
            }
            let up = millis(begin);
            let mut canary = Canary::new()?;
            [0, NODES - 1].iter().try_for_each(|at| canary.watch(&spaces[*at]))?;
            let begin = Instant::now();
            drop(spaces);
            canary.wait()?;
            downs.push(millis(begin));
            Ok(up)
        })
    })?;
    let downs = if downs.is_empty() { ups.clone() } else { Sample::of(downs).into() };
    Ok((ups, downs))
}

/// The whole controller: up, down until nothing is recorded, and down until the kernel is done as well.
fn ours() -> Result<(Sample, Sample, Cell)> {
    let (mut ups, mut downs, mut gones) = (Vec::new(), Vec::new(), Vec::new());
    lab::with(async |bench| {
        for _ in 0..RUNS {
            ups.push(bench.up(lab::chain(NODES)?).await?);
            let canary = if nix::unistd::geteuid().is_root() { Some(canary(bench).await?) } else { None };
            let begin = Instant::now();
            downs.push(bench.down(&lab::name()?).await?);
            if let Some(canary) = canary {
                tokio::task::spawn_blocking(move || canary.wait()).await??;
                gones.push(millis(begin));
            }
        }
        Ok(())
    })?;
    let gone = if gones.is_empty() { as_root(|| Ok(Cell::None))? } else { Sample::of(gones).into() };
    Ok((Sample::of(ups), Sample::of(downs), gone))
}

/// Watches the namespaces of the first and the last link.
async fn canary(bench: &Bench) -> Result<Canary> {
    let places = bench.controller.read(|world| {
        let ends =
            world.links.values().filter_map(|link| link.identity.as_ref()).map(|link| link.a.point.place.clone());
        ends.collect::<Vec<_>>()
    });
    let places = places.await?;
    let mut canary = Canary::new()?;
    for place in places.first().into_iter().chain(places.last()) {
        if let AttachKind::Namespace(namespace) = place {
            canary.watch(&Space::open(&NamespaceAccess::new(), namespace)?)?;
        }
    }
    Ok(canary)
}
