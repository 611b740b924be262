//! Changing links that stand.

use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::network::{LinkIdentity, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Change, Which, change_link};
use lifecycle_linux::wiring::shaping::slow_down;
use lifecycle_linux::wiring::{self, Failure, Outcome};

use crate::stand::{Standing, ends_of};
use crate::tunnel::sent_to;
use crate::worker::Worker;

impl Worker {
    /// Refuses what no link can do here, by name.
    pub(crate) fn refuse(&self, attrs: &LinkAttrs) -> Outcome<()> {
        wiring::refuse(crate::NAME, attrs, |attribute| self.facts.can_set(attribute))
    }

    /// Changes attributes of all interfaces, or of none.
    pub(crate) fn set_params(&mut self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Outcome<()> {
        self.refuse(attrs)?;
        let stand = self.stand(identity)?;
        let (Some(switch), [Some(port_a), Some(port_b)], [Some(end_a), Some(end_b)]) =
            (stand.switch, stand.ports, stand.ends)
        else {
            return Err(missing());
        };
        let ports = [(switch.clone(), port_a), (switch, port_b)];
        let all: Vec<&Standing> = ports.iter().chain([&end_a, &end_b]).collect();
        let wanted = Change { up: Some(attrs.admin == Admin::Up), mtu: Some(attrs.mtu), ..Change::default() };
        let mut outcome = Ok(());
        let mut done = 0;
        while outcome.is_ok() && done < all.len() {
            outcome = self.change(identity.link, all[done], &wanted);
            crash_point("link-part-changed");
            done += 1;
        }
        for ((place, port), end) in ports.iter().zip(ends_of(identity)?) {
            let sent = sent_to(&end.point.place, attrs);
            outcome = outcome.and_then(|()| slow_down(place, port.index, &sent));
            self.news.settle_shaping((place.cookie, port.index), Shaping::of(&sent));
        }
        if outcome.is_err() {
            for standing in &all[..done] {
                let link = &standing.1;
                let before = Change { up: Some(link.admin_up), mtu: Some(link.mtu), ..Change::default() };
                if let Err(failure) = self.change(identity.link, standing, &before) {
                    tracing::warn!(link = %identity.link, ?failure, "an end keeps attributes that were refused");
                }
            }
        }
        outcome
    }

    /// Gives or takes an end's carrier: the port of the *other* end goes up or down with it. Nothing is done to a tunnel,
    /// whose far end hears of it from its own host.
    pub(crate) fn set_carrier(&mut self, identity: &LinkIdentity, side: Side, up: bool) -> Outcome<()> {
        if ends_of(identity)?[side.other().index()].point.place.as_tunnel().is_some() {
            return Ok(());
        }
        let mut stand = self.stand(identity)?;
        let port = stand.switch.zip(stand.ports[side.other().index()].take()).ok_or_else(missing)?;
        self.change(identity.link, &port, &Change { up: Some(up), ..Change::default() })
    }

    fn change(&self, id: LinkId, (place, link): &Standing, change: &Change<'_>) -> Outcome<()> {
        let which = Which::Index(link.index);
        place.route(|route| route.run(change_link(which, change)))?;
        if let Some(now) = place.link(which)? {
            self.news.settle(id, (place.cookie, link.index), &now);
        }
        Ok(())
    }
}

fn missing() -> Failure {
    Failure::new(ErrorKind::NotFound, "the link does not stand as it was built")
}
