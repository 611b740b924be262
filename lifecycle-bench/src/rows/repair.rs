//! From a veth that somebody deleted by hand to the link that was verified again.

use std::time::Instant;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_linux::namespace::NamespaceAccess;

use super::{Row, as_root};
use crate::canary::Canary;
use crate::lab::{self, Bench};
use crate::measure::{Result, Sample, millis, sample};
use crate::raw::Space;
use crate::table::{Goal, Line};
use crate::wiring;

pub(super) const ROW: Row =
    Row { name: "repair", about: "from a veth deleted by hand to the link verified again", measure };

/// Links of the lab, each of which is deleted once, so that none is in the shadow of an earlier failure.
const LINKS: usize = 20;

fn measure() -> Result<Vec<Line>> {
    let floor = as_root(|| sample(LINKS, by_hand))?;
    let mut runs = Vec::new();
    lab::with(async |bench| {
        bench.up(lab::chain(LINKS + 1)?).await?;
        let links: Vec<LinkId> = bench.controller.read(|world| world.links.keys().copied().collect()).await?;
        for link in links {
            runs.push(break_one(bench, link).await?);
        }
        Ok(())
    })?;
    let line = Line::new("veth deleted by hand, until verified again", "ms", Sample::of(runs));
    Ok(vec![line.floor(floor).goal(Goal::AtMost(100.0))])
}

/// The same by raw netlink, by somebody who knows what is going to happen: deleted and made again.
fn by_hand() -> Result<f64> {
    let spaces = Space::many(2)?;
    wiring::born_in_place(&spaces[0], &spaces[0], &spaces[1])?;
    let begin = Instant::now();
    spaces[0].delete("eth1")?;
    wiring::born_in_place(&spaces[0], &spaces[0], &spaces[1])?;
    let took = millis(begin);
    Canary::release(spaces)?;
    Ok(took)
}

/// Milliseconds from the request that deletes the first end of a link, which the kernel itself takes a while for.
async fn break_one(bench: &Bench, link: LinkId) -> Result<f64> {
    let identity = bench.controller.read(move |world| world.links.get(&link)?.identity.clone()).await?;
    let identity = identity.ok_or("the link has no identity")?;
    let AttachKind::Namespace(namespace) = identity.a.point.place.clone() else { return Err("no namespace".into()) };
    let name = identity.a.point.ifname.clone();
    let delete = move || -> Result<Instant> {
        let space = Space::open(&NamespaceAccess::new(), &namespace)?;
        let begin = Instant::now();
        space.delete(name.as_str())?;
        Ok(begin)
    };
    let begin = tokio::task::spawn_blocking(delete).await??;
    let built_again = move |world: &lifecycle_engine::decide::World| {
        let link = world.links.get(&link);
        link.is_some_and(|link| link.actual == LinkState::Up && link.identity.as_ref() != Some(&identity))
    };
    bench.until("the link is back", built_again).await?;
    Ok(millis(begin))
}
