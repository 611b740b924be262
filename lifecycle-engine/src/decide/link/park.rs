//! Ends that go from one link to another while they stand, as when a running lab is cabled anew.
//!
//! Where a link is removed and another one is to end at the same interface of a node, its backend parks the end: the node keeps
//! the interface, without carrier, under the mark of the link that comes, which takes it over in place when it is built. The
//! row of that link tells from before the first step on what is parked for it, so that it is nobody's leftover. An end that
//! could not be parked is removed and made again.

use lifecycle_core::id::LinkId;
use lifecycle_core::model::{LinkRecord, ParkedEnd};
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::{EndIdentity, EndMark};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkSpec;

use super::super::effect::Action;
use super::super::planted::Bug;
use super::super::{Cx, World, node};
use super::{Wish, backend_answers, connect, is_lost};

const SIDES: [Side; 2] = [Side::A, Side::B];

/// The end of another link that an end goes to.
type Heir = (LinkId, Side);

/// Who takes over the ends of a link.
pub(super) type Heirs = [Option<Heir>; 2];

/// Who takes over the ends of a link that is being removed.
pub(super) fn heirs(world: &World, link: &LinkRecord) -> Heirs {
    // Once something went wrong, whatever is left of it has to go.
    let goes = link.deleting && link.budget.last_error.is_none();
    SIDES.map(|side| if goes { heir(world, link, side) } else { None })
}

fn heir(world: &World, link: &LinkRecord, side: Side) -> Option<Heir> {
    let (end, interface) = (parkable(world, link, side)?, link.interface(side)?);
    let comers = world.links_at(interface.0).filter(|other| other.id != link.id && !other.deleting);
    comers.filter(|other| other.identity.is_none() && other.applied.is_none()).find_map(|other| {
        let at = other.side_at(interface)?;
        let by = connect::chosen(world, other, Wish::of(world, other)).ok();
        takes(&other.spec, at, end, by.as_ref().unwrap_or(likely(Wish::of(world, other))), link)
            .then_some((other.id, at))
    })
}

/// Whether an end of a link stays in place when the link is removed and another one, for which `wish` is, ends there.
pub(in super::super) fn stays(world: &World, link: &LinkRecord, side: Side, other: &LinkSpec, wish: Wish<'_>) -> bool {
    let Some(end) = parkable(world, link, side) else { return false };
    let at = link.spec.ends()[side.index()].as_node().and_then(|end| other.side_at(&end.node, &end.ifname));
    at.is_some_and(|at| takes(other, at, end, likely(wish), link))
}

/// The backend that builds a link, as far as can be told before its nodes have a place.
const fn likely<'a>(wish: Wish<'a>) -> &'a PluginName {
    let (Wish::Binding(name) | Wish::Preferred(name)) = wish;
    name
}

/// Whether a link that `backend` will build can have an end of an old one: no other address is wanted of it.
fn takes(spec: &LinkSpec, at: Side, end: &EndIdentity, backend: &PluginName, old: &LinkRecord) -> bool {
    let address = spec.ends()[at.index()].as_node().and_then(|wanted| wanted.mac);
    address.is_none_or(|address| address == end.point.mac) && *backend == old.backend
}

/// An end that stands at a node and can be parked by the backend that built it.
fn parkable<'a>(world: &World, link: &'a LinkRecord, side: Side) -> Option<&'a EndIdentity> {
    let built = link.identity.as_ref().filter(|built| built.incarnation == link.incarnation)?;
    let (end, (node, _)) = (built.end(side)?, link.interface(side)?);
    let parks = &world.backend(link.host.as_ref()?, &link.backend)?.capabilities.parks;
    let instance = &world.nodes.get(&node)?.instance.as_ref()?.reference;
    let stands = node::is_attachable(world, node) && instance.incarnation == end.point.incarnation;
    let whole = link.span.is_none() && link.leaves().is_none();
    (whole && stands && parks.contains(&end.point.place.name())).then_some(end)
}

/// Records what is to be parked of a link for others, and asks for it. None when nothing is.
pub(super) fn park(cx: &mut Cx<'_>, id: LinkId, heirs: Heirs) -> Option<Action> {
    let link = cx.world.links.get(&id)?;
    let identity = link.identity.clone()?;
    let (host, backend, attrs) = (link.host.clone(), link.backend.clone(), link.applied.unwrap_or(link.attrs()));
    let unrecorded = cx.world.has_bug(Bug::ParksWithoutARecord);
    let mut marks = [None; 2];
    for (side, heir) in SIDES.into_iter().zip(heirs) {
        let (Some((heir, at)), Some(end)) = (heir, identity.end(side).cloned()) else { continue };
        cx.change_link(heir, |link| {
            if !unrecorded {
                link.park(at, ParkedEnd { end, attrs });
            }
            (link.host, link.backend) = (host.clone(), backend.clone());
            marks[side.index()] = Some(EndMark { link: heir, incarnation: link.incarnation, side: at });
        });
    }
    let any = marks.iter().any(Option::is_some);
    any.then(|| Action::Park { identity: Box::new(identity), heirs: marks })
}

/// Whether a link that is being removed still has the interface of one of a link's ends, and can be removed.
pub(super) fn waits_for_another(world: &World, link: &LinkRecord) -> bool {
    let may_stand = |other: &LinkRecord| other.identity.is_some() || other.applied.is_some();
    let lost = |other: &LinkRecord| other.hosts().any(|host| is_lost(world, host, &other.backend));
    let in_reach = |other: &LinkRecord| !lost(other) && backend_answers(world, other);
    SIDES.into_iter().filter_map(|side| link.interface(side)).any(|interface| {
        let mut others = world.links_at(interface.0).filter(|other| other.id != link.id && other.deleting);
        others.any(|other| other.side_at(interface).is_some() && may_stand(other) && in_reach(other))
    })
}
