//! One veth link between two namespaces, made and set up.

use super::{Row, as_root};
use crate::measure::{Result, Sample, sample};
use crate::table::{Goal, Line};
use crate::wiring::{self, Ours};

pub(super) const ROW: Row =
    Row { name: "link", about: "one veth link between two namespaces, made and set up", measure };

const RUNS: usize = 9;
/// Links in one run.
const LINKS: usize = 100;
/// Links in one run of the peer, which takes its time.
const PEER_LINKS: usize = 20;

fn measure() -> Result<Vec<Line>> {
    let mut floors = Vec::new();
    let ours = as_root(|| {
        let ours = Ours::new()?;
        // In turns, so that a busy machine is busy for both.
        sample(RUNS, || {
            floors.push(wiring::raw(LINKS, wiring::born_in_place)? / LINKS as f64);
            Ok(ours.one_by_one(LINKS)? / LINKS as f64)
        })
    })?;
    let floor = if floors.is_empty() { ours.clone() } else { Sample::of(floors).into() };
    let peer = as_root(|| sample(3, || Ok(wiring::raw(PEER_LINKS, wiring::moved)? / PEER_LINKS as f64)))?;
    let line = Line::new("veth link up", "ms", ours).floor(floor).peer(peer);
    Ok(vec![line.goal(Goal::TimesFloor(1.5)).goal(Goal::FasterThanPeer(20.0))])
}
