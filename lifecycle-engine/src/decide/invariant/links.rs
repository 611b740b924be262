//! Invariants about links that hold at every moment, or once everything is settled.

use std::collections::BTreeMap;

use lifecycle_core::attach::Tunnel;
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::{LinkIntent, LinkState, NodeState};
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::HostName;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::{EndOwner, LinkEnd, LinkKey};

use super::nodes::is_cut_off;
use super::{Census, Violation};
use crate::decide::{LinkPhase, World};

/// I4 for links: everything with the mark of a link belongs to its present incarnation or is on the list of what is to be
/// removed.
pub fn i4_every_interface_has_an_owner(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = Vec::new();
    for it in &census.links {
        let row = world.links.get(&it.seen.link);
        let owned = row.is_some_and(|row| {
            let known = row.applied.is_some() || row.has_parked() || row.halves().any(|(host, _)| *host == it.host);
            known && it.seen.incarnation.is_none_or(|n| n == row.incarnation)
        });
        let backend = world.hosts.get(&it.host).and_then(|host| host.backends.get(&it.backend));
        let listed = backend.is_some_and(|backend| backend.orphans.contains_key(&it.seen.link));
        if !owned && !listed {
            found.push(Violation::new(
                "I4",
                it.seen.link,
                format!("on {} it belongs to nobody: {:?}", it.host, it.seen),
            ));
        }
    }
    found
}

/// I9 against the world: what is recorded as up is there, with the identity that was recorded.
pub fn i9_up_links_stand(world: &World, census: &Census) -> Vec<Violation> {
    let up = world.links.values().filter(|link| link.actual == LinkState::Up);
    let fallen = up.filter(|link| !stands(link, census));
    fallen.map(|link| Violation::new("I9", &link.key, "it is recorded as up and is not there")).collect()
}

/// I9 within the rows: what is recorded as up is between nodes that are recorded as running.
pub fn i9_up_links_join_running_nodes(world: &World) -> Vec<Violation> {
    let runs = |id| world.nodes.get(id).is_some_and(|node| node.actual == NodeState::Running);
    let up = world.links.values().filter(|link| link.actual == LinkState::Up);
    let idle = up.filter(|link| !link.nodes.iter().flatten().all(runs));
    idle.map(|link| Violation::new("I9", &link.key, "it is recorded as up and a node at its end does not run"))
        .collect()
}

pub(super) fn stands(link: &LinkRecord, census: &Census) -> bool {
    let built = link.halves().count() == link.hosts().count();
    built && link.halves().all(|(host, half)| half_stands(host, half, census)) && meet(link)
}

fn half_stands(host: &HostName, half: &LinkIdentity, census: &Census) -> bool {
    let mut here = census.links.iter().filter(|it| it.host == *host && it.seen.link == half.link);
    let Some(found) = here.find(|it| it.seen.incarnation == Some(half.incarnation)) else { return false };
    half.ends().all(|end| {
        found.seen.interfaces.iter().any(|(namespace, index, _)| (*namespace, *index) == (end.namespace, end.ifindex))
    })
}

/// Whether the tunnels of the halves of a link lead to each other.
fn meet(link: &LinkRecord) -> bool {
    let tunnels: Vec<&Tunnel> = link.halves().filter_map(|(_, half)| half.tunnel()).collect();
    match (&link.span, &tunnels[..]) {
        (None, _) => true,
        (Some(span), [near, far]) => {
            let faces = |a: &Tunnel, b: &Tunnel| a.local == Some(b.remote) && (a.vni, a.port) == (span.vni, b.port);
            faces(near, far) && faces(far, near)
        }
        (Some(_), _) => false,
    }
}

/// I9 within the rows: what is recorded as up can be read back.
pub fn i9_up_links_are_in_reach(world: &World) -> Vec<Violation> {
    let lost = |link: &LinkRecord, host: &HostName| world.backend(host, &link.backend).is_none_or(|it| it.unreachable);
    let up = world.links.values().filter(|link| link.actual == LinkState::Up);
    let unknown = up.filter(|link| link.hosts().any(|host| lost(link, host)));
    unknown
        .map(|link| Violation::new("I9", &link.key, "it is recorded as up and its backend cannot be reached"))
        .collect()
}

/// I12: two links never share the identifier of a tunnel on a host.
pub fn i12_tunnels_are_told_apart(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut owners: BTreeMap<(&HostName, u32), LinkId> = BTreeMap::new();
    for link in world.links.values() {
        for (host, span) in link.hosts().filter_map(|host| Some((host, link.span.as_ref()?))) {
            if let Some(other) = owners.insert((host, span.vni), link.id) {
                let text = format!("links {other} and {} both have it on {host}", link.id);
                found.push(Violation::new("I12", format!("VNI {}", span.vni), text));
            }
        }
    }
    found
}

/// I13, once settled: what carries a link is on a host only where a half of it stands, so that a tunnel is there if and
/// only if a link between two hosts needs it.
pub fn i13_tunnels_are_needed(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = Vec::new();
    for it in &census.links {
        let Some(row) = world.links.get(&it.seen.link) else { continue };
        let given_up = row.actual == LinkState::Error && row.budget.given_up_at.is_some();
        if row.identity.is_some() && !given_up && !row.halves().any(|(host, _)| *host == it.host) {
            let text =
                format!("it is built on {:?} and there is something on {}", row.hosts().collect::<Vec<_>>(), it.host);
            found.push(Violation::new("I13", &row.key, text));
        }
    }
    found
}

/// I10: once settled, no link has one end attached, unless a hand left it so while it is in error for another reason, such
/// as an MTU that does not fit, and the link says so.
pub fn i10_no_half_links(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = Vec::new();
    for it in &census.links {
        let row = world.links.get(&it.seen.link);
        let says_so = row.is_some_and(|row| row.actual == LinkState::Error);
        let half = row.and_then(|row| row.halves().find(|(host, _)| **host == it.host));
        // What is parked waits for the other end.
        let parked = || row.filter(|row| row.has_parked()).map(|_| it.seen.interfaces.len());
        let ends = half.map(|(_, half)| half.ends().count()).or_else(parked).unwrap_or(2);
        if it.seen.interfaces.len() != ends && !says_so {
            found.push(Violation::new("I10", it.seen.link, format!("half of it is there: {:?}", it.seen)));
        }
    }
    found
}

/// I11: two links never share an end, and keys are unique and without direction.
pub fn i11_ends_are_exclusive(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut ends: BTreeMap<&LinkEnd, LinkId> = BTreeMap::new();
    for link in world.links.values() {
        let [low, high] = link.key.ends();
        if LinkKey::new(high.clone(), low.clone()).as_ref() != Ok(&link.key) {
            found.push(Violation::new("I11", &link.key, "its key has a direction"));
        }
        // An interface of a host is shared out by its backend, since links of several hosts may name it.
        for end in link.key.ends().into_iter().filter(|end| matches!(end.owner, EndOwner::Node(_)) && !link.deleting) {
            if let Some(other) = ends.insert(end, link.id) {
                found.push(Violation::new("I11", end, format!("links {other} and {} both end here", link.id)));
            }
        }
    }
    found
}

/// L1 for links, once nothing happens any more: each is up where it can be, and says why where it cannot.
pub fn l1_links_are_settled(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    for link in world.links.values() {
        let mut fail = |what: &str| {
            let text = format!("{what}: `{}`, {:?}, {:?}", link.actual, link.budget, world.link_work.get(&link.id));
            found.push(Violation::new("L1", &link.key, text));
        };
        let nodes = || link.nodes.iter().flatten().filter_map(|id| world.nodes.get(id));
        let run = nodes().all(|node| node.actual == NodeState::Running && node.stale_since.is_none());
        let explained = link.oper.iter().any(|end| end.reason.is_some());
        if link.deleting && !is_cut_off(world, link) {
            fail("still to be removed");
        } else if link.deleting {
            // What is on a host that cannot be reached is removed when it can.
        } else if world.link_work.get(&link.id).is_some_and(|it| it.effect.is_some() && it.phase != LinkPhase::Verify) {
            fail("still worked on");
        } else if link.actual == LinkState::Up && !run && nodes().all(|node| node.stale_since.is_none()) {
            fail("up without its nodes");
        } else if run && link.desired == LinkIntent::Up && link.actual != LinkState::Up {
            let given_up = link.actual == LinkState::Error && link.budget.last_error.is_some();
            // What a node does to its own interface is its own affair.
            let down = link.actual == LinkState::Down
                && link.identity.is_some()
                && !link.rebuild
                && link.leaves().is_none()
                && explained;
            if !given_up && !down {
                fail("not up");
            }
        }
    }
    found
}
