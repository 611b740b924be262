//! Reading links back: verifying one, and finding all.

use std::collections::BTreeMap;
use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, NsRef};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndIdentity, EndReport, LinkIdentity, LinkReport, ObservedLink, ProbeResult};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_linux::netlink::{BRIDGE_PORT_FORWARD_ALL, Link, Which};
use lifecycle_linux::wiring::bridge::is_ours;
use lifecycle_linux::wiring::label::{Owner, nameless, owner};
use lifecycle_linux::wiring::{Failure, Outcome, Place, are_peers, note_own_changes, report, shaping};

use crate::detail::{first_side, recorded_bridge};
use crate::worker::Worker;

/// An end as it was found.
type Found = Option<(Rc<Place>, Link)>;

impl Worker {
    /// Opens the place of an end; none when it does not exist any more, and the end neither.
    pub(crate) fn end_place(&mut self, identity: &LinkIdentity, side: Side) -> Outcome<Option<Rc<Place>>> {
        let (end, other) = match (side == first_side(identity), &identity.b) {
            (true, other) => (&identity.a, other.as_ref()),
            (false, Some(end)) => (end, Some(&identity.a)),
            (false, None) => return Ok(None),
        };
        if identity.boot != self.boot {
            return Ok(None);
        }
        match self.place(&end.point.place, other.map(|other| &other.point.place)) {
            // A broker that was started anew may live in another namespace than the one that the bridge was in.
            Ok(place) => Ok((place.cookie == end.namespace).then_some(place)),
            Err(failure) if failure.is_gone() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Compares a link with its identity. Changes nothing.
    pub(crate) fn verify(&mut self, identity: &LinkIdentity) -> Outcome<LinkReport> {
        let mut problems = Vec::new();
        let first = first_side(identity);
        let a = self.find(identity, &identity.a, first, &mut problems)?;
        let (report_a, clean_a) = self.report(&a, &identity.a, &mut problems)?;
        let Some(end_b) = &identity.b else {
            let joined = report_a.intact && clean_a;
            return Ok(LinkReport { a: report_a, b: None, joined, probe: ProbeResult::NotNeeded, problems });
        };
        let b = self.find(identity, end_b, Side::B, &mut problems)?;
        let (report_b, clean_b) = self.report(&b, end_b, &mut problems)?;
        let mut joined = false;
        if let (Some((place_a, link_a)), Some((place_b, link_b))) = (&a, &b) {
            let peers = are_peers(place_a, link_a, place_b, link_b)?;
            joined = peers && clean_a && clean_b;
            if !peers {
                problems.push("the ends are not each other's peers".to_owned());
            }
        }
        for (side, found) in [(Side::A, &a), (Side::B, &b)] {
            if let (Some(bridge), Some((place, link))) = (recorded_bridge(identity, side), found) {
                joined &= self.is_port(place, link, bridge, &mut problems)?;
            }
        }
        Ok(LinkReport { a: report_a, b: Some(report_b), joined, probe: ProbeResult::NotNeeded, problems })
    }

    /// Finds an end by its recorded identity.
    fn find(
        &mut self,
        identity: &LinkIdentity,
        end: &EndIdentity,
        side: Side,
        problems: &mut Vec<String>,
    ) -> Outcome<Found> {
        let name = &end.point.ifname;
        let Some(place) = self.end_place(identity, side)? else {
            problems.push(format!("the network namespace of {name} does not exist any more"));
            return Ok(None);
        };
        let Some(link) = self.standing(&place, identity, end)? else {
            problems.push(format!("the interface {name} (index {}) is gone", end.ifindex));
            return Ok(None);
        };
        self.news.settle(identity.link, (place.cookie, link.index), &link);
        note_own_changes(end, &link, problems);
        Ok(Some((place, link)))
    }

    /// Finds an end in its place, going by index and marks.
    fn standing(&self, place: &Place, identity: &LinkIdentity, end: &EndIdentity) -> Outcome<Option<Link>> {
        let ours = |link: &Link| owner(link, self.controller).may_be_of(identity.link, identity.incarnation);
        Ok(place.link(Which::Index(end.ifindex))?.filter(ours))
    }

    /// Finds all ends of links of this controller.
    pub(crate) fn observe(&mut self, namespaces: &[NsRef]) -> Outcome<Vec<ObservedLink>> {
        let mut found: BTreeMap<LinkId, ObservedLink> = BTreeMap::new();
        for place in self.all_places(namespaces)? {
            for link in place.route(|route| route.links())? {
                if link.group != LINK_GROUP {
                    continue;
                }
                let (id, incarnation) = match owner(&link, self.controller) {
                    Owner::End(label) => (label.link, Some(label.incarnation)),
                    // On the host it may be another controller's that is just being made.
                    Owner::Unlabelled if !place.is_host() => match nameless(&link) {
                        Some(id) => (id, None),
                        None => continue,
                    },
                    Owner::Unlabelled | Owner::Foreign | Owner::Bridge => continue,
                };
                let Ok(name) = IfName::new(&link.name) else { continue };
                self.news.settle(id, (place.cookie, link.index), &link);
                let entry =
                    found.entry(id).or_insert_with(|| ObservedLink { link: id, incarnation, interfaces: Vec::new() });
                entry.interfaces.push((place.cookie, link.index, name));
                // Of two incarnations the older one is named: it is the one that is in the way.
                entry.incarnation = entry.incarnation.min(incarnation);
            }
        }
        for observed in found.values_mut() {
            observed.interfaces.sort();
        }
        Ok(found.into_values().collect())
    }

    /// Opens all namespaces in which ends can stand, each once.
    pub(crate) fn all_places(&mut self, namespaces: &[NsRef]) -> Outcome<Vec<Rc<Place>>> {
        let mut places: Vec<Rc<Place>> = Vec::new();
        for ns in namespaces {
            match self.places.namespace(ns) {
                Ok(place) => places.push(place),
                // What is gone holds nothing.
                Err(failure) if failure.is_gone() => {}
                Err(failure) => return Err(failure),
            }
        }
        for place in self.places.sites()? {
            if !places.iter().any(|known| known.cookie == place.cookie) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Finds the ends of a link that are there, for changing or removing them.
    pub(crate) fn standing_ends(&mut self, identity: &LinkIdentity) -> Outcome<Vec<(Side, Rc<Place>, Link)>> {
        let mut ends = Vec::new();
        let first = (first_side(identity), Some(&identity.a));
        for (side, end) in [first, (Side::B, identity.b.as_ref())] {
            let Some(end) = end else { continue };
            let Some(place) = self.end_place(identity, side)? else { continue };
            if let Some(link) = self.standing(&place, identity, end)? {
                ends.push((side, place, link));
            }
        }
        Ok(ends)
    }

    /// As [`Worker::standing_ends`], when all of them must stand.
    pub(crate) fn all_ends(&mut self, identity: &LinkIdentity) -> Outcome<Vec<(Side, Rc<Place>, Link)>> {
        let ends = self.standing_ends(identity)?;
        let wanted = 1 + usize::from(identity.b.is_some());
        if ends.len() == wanted {
            return Ok(ends);
        }
        Err(Failure::new(ErrorKind::NotFound, "the link does not stand as it was built"))
    }

    /// What was read of an end, and whether it is free of what others put there and would have to be taken away.
    fn report(&self, found: &Found, end: &EndIdentity, problems: &mut Vec<String>) -> Outcome<(EndReport, bool)> {
        let Some((place, link)) = found else { return Ok((EndReport::default(), true)) };
        let read = shaping::read(place, link.index, &link.name, problems)?;
        self.news.settle_shaping((place.cookie, link.index), read.unwrap_or_default());
        let is_nodes = matches!(end.point.place, AttachKind::Namespace(_));
        Ok((EndReport { shaping: read, ..report(Some(link)) }, is_nodes || read.is_some()))
    }

    /// Whether an end is still a port of the bridge with index `bridge`, and lets through what it should.
    fn is_port(&self, place: &Place, link: &Link, bridge: u32, problems: &mut Vec<String>) -> Outcome<bool> {
        let name = &link.name;
        if link.master != Some(bridge) {
            problems.push(format!("{name} is not a port of its bridge any more"));
            return Ok(false);
        }
        let port = link.port.unwrap_or_default();
        if port.group_fwd_mask != BRIDGE_PORT_FORWARD_ALL {
            problems.push(format!("{name} does not let all link-local frames through"));
            return Ok(false);
        }
        let bridge = place.link(Which::Index(bridge))?;
        if bridge.as_ref().is_none_or(|bridge| !bridge.admin_up) {
            problems.push(format!("the bridge of {name} is down"));
            // Somebody else's is as they want it.
            return Ok(!bridge.is_some_and(|bridge| is_ours(&bridge, self.controller)));
        }
        if link.carrier && !port.forwarding {
            problems.push(format!("the bridge of {name} does not forward what it receives"));
        }
        Ok(true)
    }
}
