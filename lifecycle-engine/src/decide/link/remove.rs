//! Removes links: first what was built, then, for one that is no longer wanted, its row.

use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::{AuditAction, LinkRecord, SubjectKind};
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;

use super::super::effect::Action;
use super::super::ledger::Entry;
use super::super::planted::Bug;
use super::super::{Cx, Ledger, Why, World, apply, node};
use super::park::Heirs;
use super::{LinkPhase, ask, begin, connect, handover, is_attachable, is_early, lost_its_place, outcome, park, span};

/// Removes what was built, so that it can be built anew.
pub(super) fn rebuild(cx: &mut Cx<'_>, id: LinkId) {
    let given_up = cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some());
    if given_up {
        return super::refresh_oper(cx, id, None);
    }
    disconnect(cx, id, Heirs::default());
}

/// Removes what is left of a link between two hosts that lost the place of one of its ends.
pub(super) fn remove_halves(cx: &mut Cx<'_>, id: LinkId) {
    if cx.world.links.get(&id).is_some_and(|link| !link.rebuild) {
        cx.change_link(id, |link| link.rebuild = true);
    }
    disconnect(cx, id, Heirs::default());
}

/// Removes what was built; ends that other links take over stay.
fn disconnect(cx: &mut Cx<'_>, id: LinkId, heirs: Heirs) {
    if is_early(cx, id) {
        return;
    }
    if cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up) {
        cx.link_becomes(id, LinkState::Down, Why::enforcement().because("it is being removed"));
    }
    let host = cx.world.links.get(&id).and_then(|link| link.host.clone());
    match host.zip(park::park(cx, id, heirs)) {
        Some(parking) => begin(cx, id, LinkPhase::Disconnect, vec![parking]),
        None => ask(cx, id, LinkPhase::Disconnect, Action::Disconnect),
    }
}

/// Removes a link that is no longer wanted.
pub(super) fn remove(cx: &mut Cx<'_>, id: LinkId) {
    let Some(link) = cx.world.links.get(&id) else { return };
    if cx.world.has_bug(Bug::DropsALinkBeforeItIsGone) {
        return forget(cx, id);
    }
    if lost_its_place(cx.world, link) {
        // A switch outlives the namespaces of its ports; the backend sees to it when it is told that a port is gone.
        let switched = link.span.is_some() || has_bridge(link) || is_switched(cx.world, link);
        if !switched {
            return forget(cx, id);
        }
        let heirs = park::heirs(cx.world, link);
        return disconnect(cx, id, heirs);
    }
    if link.identity.is_none() {
        let may_be_there = link.applied.is_some() && is_attachable(cx.world, link);
        if !may_be_there {
            return forget(cx, id);
        }
        // Nobody knows whether it was built. Building it again tells what there is to be removed.
        if !is_early(cx, id) {
            connect::connect(cx, id);
        }
        return;
    }
    if link.leaves().is_some() && !link.rebuild && link.budget.given_up_at.is_none() && is_attachable(cx.world, link) {
        // Either backend may have parts of it. Once the other one has it all, it is known what there is to be removed.
        return handover::go_on(cx, id);
    }
    // A namespace that goes takes its links along, which is much faster than removing them one by one.
    let going = link.nodes.iter().flatten().any(|node| !node::is_attachable(cx.world, *node));
    let heirs = park::heirs(cx.world, link);
    if !going || heirs.iter().any(Option::is_some) {
        disconnect(cx, id, heirs);
    }
}

fn has_bridge(link: &LinkRecord) -> bool {
    let mut ends = link.identity.iter().flat_map(LinkIdentity::ends);
    ends.any(|end| matches!(end.point.place, AttachKind::Bridge { .. }))
}

fn is_switched(world: &World, link: &LinkRecord) -> bool {
    let built_by = link.leaves().unwrap_or(&link.backend);
    let backend = link.host.as_ref().and_then(|host| world.backend(host, built_by));
    backend.is_some_and(|backend| backend.capabilities.switched)
}

/// Removes the row of a link of which nothing is left.
pub(super) fn forget(cx: &mut Cx<'_>, id: LinkId) {
    span::release(cx, id);
    outcome::look_behind(cx.world, id);
    let Some(link) = cx.world.links.remove(&id) else { return };
    cx.world.link_work.remove(&id);
    cx.world.link_keys.remove(&link.key);
    if let Some(links) = cx.world.lab_links.get_mut(&link.lab) {
        links.remove(&id);
    }
    for node in link.nodes.into_iter().flatten() {
        if let Some(links) = cx.world.node_links.get_mut(&node) {
            links.remove(&id);
        }
        cx.world.touch_node(node);
    }
    for (node, ifname) in [Side::A, Side::B].into_iter().filter_map(|side| link.interface(side)) {
        // Another link may wait for its interface.
        let waiting = cx.world.links_at(node).filter(|other| other.side_at((node, ifname)).is_some());
        let waiting: Vec<LinkId> = waiting.map(|other| other.id).collect();
        waiting.into_iter().for_each(|other| cx.world.touch_link(other));
    }
    let entry = Entry::new(AuditAction::Deleted, Why::enforcement()).states(Some(link.actual.to_string()), None);
    cx.record(SubjectKind::Link, id.to_string(), link.spec.to_string(), Some(link.lab), entry);
    apply::forget_lab_if_empty(cx, link.lab);
}

/// An instance is gone, and with it whatever was attached to it: what may have been built there is not there any more.
pub(in super::super) fn lose_end(ledger: &mut Ledger<'_>, node: NodeId) {
    let unknown: Vec<LinkId> = ledger
        .world
        .links_at(node)
        .filter(|link| link.identity.is_none() && (link.applied.is_some() || link.has_parked()))
        .map(|link| link.id)
        .collect();
    for id in unknown {
        // One that is just being built finds no place.
        if !ledger.world.is_busy(super::Subject::Link(id)) {
            let parked = ledger.world.links.get(&id).is_some_and(LinkRecord::has_parked);
            ledger.change_link(id, |link| {
                link.applied = None;
                link.incarnation += 1;
            });
            // What stands on another host, or in a switch, is not gone with it.
            if parked || ledger.world.links.get(&id).is_some_and(|link| link.span.is_some()) {
                outcome::look_for_leftovers(ledger.world, id);
            }
        }
    }
    ledger.world.touch_links_at(node);
}
