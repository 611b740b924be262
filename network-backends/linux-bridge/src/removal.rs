//! Removing links: what is left of them is marked first, and what is marked is deleted in one go.

use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, NsRef};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndMark, LinkIdentity, ObservedLink};
use lifecycle_core::policy::naming::OurName;
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Link, Which};
use lifecycle_linux::wiring::label::{Label, Owner, link_bridge, nameless, owner, port_link, port_owner};
use lifecycle_linux::wiring::seen::{goes_with, oldest};
use lifecycle_linux::wiring::{Outcome, Parkable, Place, Site, doomed};

use crate::stand::{Stand, ends_of, is_own_port};
use crate::worker::Worker;

/// What a part of a link was found to be.
pub(crate) struct Found {
    pub(crate) link: LinkId,
    pub(crate) incarnation: Option<u64>,
}

impl Worker {
    /// Marks what is left of a link, but for the ends that it has heirs for, which are parked; returns where, if something
    /// is marked.
    pub(crate) fn doom(&mut self, identity: &LinkIdentity, heirs: [Option<EndMark>; 2]) -> Outcome<Option<Site>> {
        self.known.remove(&identity.link);
        let mut stand = self.stand(identity)?;
        for (place, link) in stand.ends.iter().flatten() {
            self.news.forget((place.cookie, link.index));
        }
        let Some(switch) = stand.switch.clone() else { return Ok(None) };
        for (side, heir) in heirs.into_iter().enumerate() {
            let Some(heir) = heir.map(|mark| Label::of(self.controller, mark)) else { continue };
            self.park(&mut stand, identity, side, &heir)?;
            crash_point("link-end-parked");
        }
        let parts: Vec<&Link> = stand.bridge.iter().chain(stand.ports.iter().flatten()).collect();
        for part in &parts {
            self.doom_part(&switch, part)?;
        }
        // The port of an end that was moved away by hand may be gone, and the end is no use without it.
        let ends = ends_of(identity)?;
        for ((place, link), end) in stand.ends.iter().zip(ends).filter_map(|(found, end)| Some((found.as_ref()?, end)))
        {
            let goes_along = stand.ports.iter().flatten().any(|port| link.lower == Some(port.index));
            if !goes_along && !is_own_port(&end.point.place) {
                self.doom_part(place, link)?;
                doomed::sweep(place)?;
            }
        }
        crash_point("link-doomed");
        Ok((!parts.is_empty()).then(|| switch.site().clone()))
    }

    /// Parks an end that stands for another link, and takes it out of what stands.
    fn park(&mut self, stand: &mut Stand, identity: &LinkIdentity, side: usize, heir: &Label) -> Outcome<()> {
        let (Some(switch), Some((place, node))) = (&stand.switch, &stand.ends[side]) else { return Ok(()) };
        let is_its = |owner: Owner| owner.may_be_of(identity.link, identity.incarnation);
        let port = stand.segment.ports[side];
        let node = (!is_own_port(&ends_of(identity)?[side].point.place)).then_some((&**place, node));
        if let Some(end) = Parkable::find(node, switch, port, is_its, heir)? {
            self.news.forget((switch.cookie, port));
            end.park(heir, Some(0))?;
            (stand.ends[side], stand.ports[side]) = (None, None);
        }
        Ok(())
    }

    /// Marks the bridge of a link; returns where. Its ports are free once it is gone, and what they lead to stays.
    pub(crate) fn release(&mut self, identity: &LinkIdentity) -> Outcome<Option<Site>> {
        self.known.remove(&identity.link);
        let stand = self.stand(identity)?;
        let ends = stand.ends.iter().flatten().map(|(place, link)| (place.cookie, link.index));
        ends.for_each(|key| self.news.forget(key));
        let Some(switch) = stand.switch else { return Ok(None) };
        for port in stand.ports.iter().flatten() {
            self.news.forget((switch.cookie, port.index));
        }
        // It may be another one than was recorded, if it was just made anew.
        let bridge = switch.link(Which::Name(&OurName::LinkBridge { link: identity.link }.ifname()))?;
        let is_its = |found: &Link| {
            link_bridge(found, self.controller).is_some_and(|(_, n)| n.is_none_or(|n| n == identity.incarnation))
        };
        if let Some(bridge) = bridge.filter(is_its) {
            self.doom_part(&switch, &bridge)?;
        }
        crash_point("link-bridge-doomed");
        Ok(Some(switch.site().clone()))
    }

    /// Marks an interface. What becomes of it is no news.
    pub(crate) fn doom_part(&mut self, place: &Place, link: &Link) -> Outcome<()> {
        self.news.forget((place.cookie, link.index));
        doomed::doom(place, link)
    }

    /// Deletes all that is marked at a site.
    pub(crate) fn sweep(&mut self, site: Option<Site>) -> Outcome<()> {
        match site.map(|site| self.places.site(&site)) {
            Some(Ok(place)) => doomed::sweep(&place),
            Some(Err(failure)) => Err(failure),
            None => Ok(()),
        }
    }

    /// Deletes all that is marked, wherever it is.
    pub(crate) fn sweep_all(&mut self) -> Outcome<()> {
        self.places.sites()?.iter().try_for_each(|place| doomed::sweep(place))
    }

    /// Opens the namespaces in which bridges and ports can be.
    pub(crate) fn switches(&mut self, namespaces: &[NsRef]) -> Outcome<Vec<Rc<Place>>> {
        self.places.learn(namespaces);
        self.places.sites()
    }

    /// What an interface in such a namespace is, if it is of a link of this controller.
    pub(crate) fn part(&self, link: &Link) -> Option<Found> {
        if let Some((link, incarnation)) = link_bridge(link, self.controller) {
            return Some(Found { link, incarnation });
        }
        if link.kind.as_deref() == Some("tun") {
            return match owner(link, self.controller) {
                Owner::End(label) => Some(Found { link: label.link, incarnation: Some(label.incarnation) }),
                Owner::Unlabelled => Some(Found { link: nameless(link)?, incarnation: None }),
                Owner::Foreign | Owner::Bridge => None,
            };
        }
        match port_owner(link, self.controller) {
            Owner::End(label) => Some(Found { link: label.link, incarnation: Some(label.incarnation) }),
            Owner::Unlabelled => Some(Found { link: port_link(link)?, incarnation: None }),
            Owner::Foreign | Owner::Bridge => None,
        }
    }

    /// Finds everything that is of links of this controller. Their parts in nodes go with those that are not, so that no
    /// node need be looked into.
    pub(crate) fn observe(&mut self, namespaces: &[NsRef]) -> Outcome<Vec<ObservedLink>> {
        let mut parts = Vec::new();
        for switch in self.switches(namespaces)? {
            for link in switch.route(|route| route.links())? {
                let (Some(part), Ok(name)) = (self.part(&link), IfName::new(&link.name)) else { continue };
                parts.push((part.link, part.incarnation, Some((switch.cookie, link.index, name))));
            }
        }
        Ok(oldest(parts))
    }

    /// Removes what was observed of a link.
    pub(crate) fn remove(&mut self, observed: &ObservedLink, namespaces: &[NsRef]) -> Outcome<()> {
        self.known.remove(&observed.link);
        for switch in self.switches(namespaces)? {
            for (_, index, _) in observed.interfaces.iter().filter(|(cookie, ..)| *cookie == switch.cookie) {
                let Some(link) = switch.link(Which::Index(*index))? else { continue };
                let is_it = |part: Found| part.link == observed.link && goes_with(part.incarnation, observed);
                if self.part(&link).is_some_and(is_it) {
                    self.doom_part(&switch, &link)?;
                }
            }
            doomed::sweep(&switch)?;
        }
        Ok(())
    }

    /// Removes what is left of a link whose node's namespace has gone: a cable with one end is none.
    pub(crate) fn mourn(&mut self, link: LinkId) {
        let Some(identity) = self.known.get(&link).cloned() else { return };
        let Ok(ends) = ends_of(&identity) else { return };
        let gone = ends.into_iter().any(|end| match &end.point.place {
            AttachKind::Namespace(ns) => self.places.namespace(ns).is_err_and(|failure| failure.is_gone()),
            _ => false,
        });
        if gone && let Err(failure) = self.doom(&identity, [None; 2]).and_then(|site| self.sweep(site)) {
            tracing::warn!(%link, ?failure, "half a link could not be removed at once");
        }
    }
}
