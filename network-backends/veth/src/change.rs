//! Changing links that stand.

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{LinkIdentity, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Change, Link, Which, change_link};
use lifecycle_linux::wiring::shaping::slow_down;
use lifecycle_linux::wiring::{self, Failure, Outcome, Place};

use crate::worker::Worker;

impl Worker {
    /// Refuses what no link can do here, by name.
    pub(crate) fn refuse(&self, attrs: &LinkAttrs) -> Outcome<()> {
        wiring::refuse(crate::NAME, attrs, |attribute| self.facts.can_set(attribute))
    }

    /// Changes attributes at both ends, or at none.
    pub(crate) fn set_params(&mut self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Outcome<()> {
        self.refuse(attrs)?;
        let ends = self.all_ends(identity)?;
        let mut mtu = attrs.mtu;
        for (_, _, link) in &ends {
            if link.kind.as_deref() == Some("macvlan")
                && let Some(parent) = link.lower
            {
                // A child carries no larger frames than its parent.
                let parent = self.place(&AttachKind::HostNet, None)?.link(Which::Index(parent))?;
                mtu = mtu.min(parent.map_or(mtu, |parent| parent.mtu));
            }
        }
        let wanted = Change { up: Some(attrs.admin == Admin::Up), mtu: Some(mtu), ..Change::default() };
        for (done, (_, place, link)) in ends.iter().enumerate() {
            let changed = self.change(identity, place, link, &wanted).and_then(|()| {
                self.news.settle_shaping((place.cookie, link.index), Shaping::of(attrs));
                slow_down(place, link.index, attrs)
            });
            if let Err(failure) = changed {
                for (_, place, link) in &ends[..done] {
                    let before = Change { up: Some(link.admin_up), mtu: Some(link.mtu), ..Change::default() };
                    if let Err(failure) = self.change(identity, place, link, &before) {
                        tracing::warn!(link = %identity.link, ?failure, "an end keeps attributes that were refused");
                    }
                }
                return Err(failure);
            }
            crash_point("end-changed");
        }
        Ok(())
    }

    /// Sets an end up or down, so that the other one has carrier or not.
    pub(crate) fn set_carrier(&mut self, identity: &LinkIdentity, side: Side, up: bool) -> Outcome<()> {
        let ends = self.standing_ends(identity)?;
        let Some((_, place, link)) = ends.iter().find(|(found, ..)| *found == side) else {
            if identity.b.is_none() && side != crate::detail::first_side(identity) {
                return Err(Failure::unsupported("nothing of ours is at that end of the link"));
            }
            return Err(Failure::new(ErrorKind::NotFound, "the end does not stand as it was built"));
        };
        self.change(identity, place, link, &Change { up: Some(up), ..Change::default() })
    }

    fn change(&self, identity: &LinkIdentity, place: &Place, link: &Link, change: &Change<'_>) -> Outcome<()> {
        let which = Which::Index(link.index);
        place.route(|route| route.run(change_link(which, change)))?;
        if let Some(now) = place.link(which)? {
            self.news.settle(identity.link, (place.cookie, link.index), &now);
        }
        Ok(())
    }
}
