//! Changing links that stand.

use std::rc::Rc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{LinkIdentity, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Change, Link, Which, change_link};
use lifecycle_linux::wiring::label::port_owner;
use lifecycle_linux::wiring::{self, Failure, Outcome, Place, shaping};

use crate::detail::PortIdentity;
use crate::worker::Worker;

/// An interface of a link.
type Standing = (Rc<Place>, Link);

impl Worker {
    /// Refuses what no link can do here, by name.
    pub(crate) fn refuse(&self, attrs: &LinkAttrs) -> Outcome<()> {
        wiring::refuse("ovs", attrs, |attribute| shaping::can_set(&self.missing, attribute))
    }

    /// Changes attributes of all interfaces in the kernel, or of none.
    pub(crate) fn set_params(&mut self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Outcome<()> {
        self.refuse(attrs)?;
        let mut all = Vec::new();
        for side in [Side::A, Side::B].into_iter().filter(|side| !is_tunnel(identity, *side)) {
            if !is_tap(identity, side) {
                all.push((self.node_side(identity, side)?, false));
            }
            all.push((self.switch_side(identity, side)?, true));
        }
        let wanted = Change { up: Some(attrs.admin == Admin::Up), mtu: Some(attrs.mtu), ..Change::default() };
        for (done, (standing, is_port)) in all.iter().enumerate() {
            let mut changed = self.change(identity, standing, &wanted);
            if let (Ok(()), true, (place, host)) = (&changed, is_port, standing) {
                self.news.settle_shaping((place.cookie, host.index), Shaping::of(attrs));
                changed = shaping::slow_down(place, host.index, attrs);
            }
            if let Err(failure) = changed {
                for (standing, _) in &all[..done] {
                    let link = &standing.1;
                    let before = Change { up: Some(link.admin_up), mtu: Some(link.mtu), ..Change::default() };
                    if let Err(failure) = self.change(identity, standing, &before) {
                        tracing::warn!(link = %identity.link, ?failure, "an end keeps attributes that were refused");
                    }
                }
                return Err(failure);
            }
            crash_point("switch-part-changed");
        }
        Ok(())
    }

    /// Gives or takes an end's carrier: the interface on the switch's side of the *other* end goes up or down with it.
    /// Nothing is done to a tunnel, whose far end hears of it from its own host.
    pub(crate) fn set_carrier(&mut self, identity: &LinkIdentity, side: Side, up: bool) -> Outcome<()> {
        if is_tunnel(identity, side.other()) {
            return Ok(());
        }
        let standing = self.switch_side(identity, side.other())?;
        self.change(identity, &standing, &Change { up: Some(up), ..Change::default() })
    }

    fn node_side(&mut self, identity: &LinkIdentity, side: Side) -> Outcome<Standing> {
        let end = identity.end(side).ok_or_else(missing)?;
        self.standing_end(identity, end)?.ok_or_else(missing)
    }

    /// The interface on the switch's side, which is the end itself where that is a tap.
    fn switch_side(&mut self, identity: &LinkIdentity, side: Side) -> Outcome<Standing> {
        if is_tap(identity, side) {
            return self.node_side(identity, side);
        }
        let port = PortIdentity::read(identity, side).filter(|_| identity.boot == self.boot).ok_or_else(missing)?;
        let switch = self.switch()?;
        let link = switch.link(Which::Index(port.ifindex))?;
        let ours = |link: &Link| port_owner(link, self.controller).may_be_of(identity.link, identity.incarnation);
        let link = link.filter(ours);
        link.map(|link| (switch, link)).ok_or_else(missing)
    }

    fn change(&self, identity: &LinkIdentity, (place, link): &Standing, change: &Change<'_>) -> Outcome<()> {
        let which = Which::Index(link.index);
        place.route(|route| route.run(change_link(which, change)))?;
        if let Some(now) = place.link(which)? {
            self.news.settle(identity.link, (place.cookie, link.index), &now);
        }
        Ok(())
    }
}

fn is_tunnel(identity: &LinkIdentity, side: Side) -> bool {
    identity.end(side).is_some_and(|end| end.point.place.as_tunnel().is_some())
}

fn is_tap(identity: &LinkIdentity, side: Side) -> bool {
    identity.end(side).is_some_and(|end| matches!(end.point.place, AttachKind::Tap { .. }))
}

fn missing() -> Failure {
    Failure::new(ErrorKind::NotFound, "the link does not stand as it was built")
}
