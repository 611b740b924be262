//! Bridges: made when they are missing, and removed with their last port when they are ours.

use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Change, Link, NewLink, Which, change_link, create_bridge};

use crate::detail::first_side;
use crate::failure::{Failure, Outcome};
use crate::label::{Owner, bridge_alias, bridge_mac, owner};
use crate::place::Place;
use crate::worker::Worker;

impl Worker {
    /// The index of the bridge called `name`, made now if there is none. One that is not ours is used and not changed.
    pub(crate) fn ensure_bridge(&mut self, place: &Place, name: &IfName) -> Outcome<u32> {
        let (found, made) = match place.link(Which::Name(name))? {
            Some(found) => (found, false),
            None => {
                let new =
                    NewLink { mac: Some(bridge_mac(self.controller, name)), group: LINK_GROUP, ..NewLink::new(name) };
                match place.route(|route| route.run(create_bridge(&new))) {
                    Err(error) if !error.is_exists() => return Err(error.into()),
                    result => {
                        let vanished = || Failure::new(ErrorKind::Conflict, format!("bridge {name} vanished"));
                        (place.link(Which::Name(name))?.ok_or_else(vanished)?, result.is_ok())
                    }
                }
            }
        };
        if found.kind.as_deref() != Some("bridge") {
            let message = format!("the interface {name} on the host is not a bridge; rename or remove it");
            return Err(Failure::new(ErrorKind::Foreign, message));
        }
        if made {
            crash_point("bridge-made");
        }
        if made || (self.is_our_bridge(&found, name) && !found.admin_up) {
            // The host has no business on a segment of a lab. A kernel without IPv6 refuses, and needs it not.
            let quiet = Change { link_local: Some(false), ..Change::default() };
            let _ = place.route(|route| route.run(change_link(Which::Index(found.index), &quiet)));
            let alias = bridge_alias(self.controller);
            let change = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
            place.route(|route| route.run(change_link(Which::Index(found.index), &change)))?;
        }
        Ok(found.index)
    }

    fn is_our_bridge(&self, link: &Link, name: &IfName) -> bool {
        link.kind.as_deref() == Some("bridge")
            && match owner(link, self.controller) {
                Owner::Bridge => true,
                Owner::Unlabelled => link.mac == Some(bridge_mac(self.controller, name)),
                Owner::Foreign | Owner::End(_) => false,
            }
    }

    /// Removes the bridge that `point` is at when it is ours and has no port. Failing to is no failure of what was asked
    /// for: the bridge is marked, and [`Worker::drop_empty_bridges`] comes by again.
    pub(crate) fn drop_empty_bridge(&mut self, point: &AttachPoint, place: &Place) {
        if let AttachKind::Bridge { bridge } = &point.place
            && let Err(failure) = self.drop_if_empty(place, |link| link.name == bridge.as_str())
        {
            tracing::warn!(%bridge, ?failure, "an empty bridge could not be removed");
        }
    }

    /// Removes the bridges that a link was at, if they are ours and have no port any more.
    pub(crate) fn drop_bridges_of(&mut self, identity: &LinkIdentity) -> Outcome<()> {
        let sides = [(first_side(identity), Some(&identity.a)), (Side::B, identity.b.as_ref())];
        for (side, end) in sides {
            if let Some(end) = end
                && let AttachKind::Bridge { bridge } = &end.point.place
                && let Some(place) = self.end_place(identity, side)?
            {
                self.drop_if_empty(&place, |link| link.name == bridge.as_str())?;
            }
        }
        Ok(())
    }

    /// Removes all bridges of ours that have no port.
    pub(crate) fn drop_empty_bridges(&mut self) -> Outcome<()> {
        for (_, place) in self.sites()? {
            self.drop_if_empty(&place, |_| true)?;
        }
        Ok(())
    }

    fn drop_if_empty(&mut self, place: &Place, which: impl Fn(&Link) -> bool) -> Outcome<()> {
        let links = place.route(|route| route.links())?;
        for bridge in links.iter().filter(|link| which(link)) {
            let Ok(name) = IfName::new(&bridge.name) else { continue };
            let used = links.iter().any(|link| link.master == Some(bridge.index));
            if !used && self.is_our_bridge(bridge, &name) {
                self.delete(place, bridge.index)?;
            }
        }
        Ok(())
    }
}
