//! Bridges: made when they are missing, and removed with their last port when they are ours.

use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;
use lifecycle_crash::crash_point;
use lifecycle_linux::wiring::bridge::{drop_if_empty, find_or_make, is_ours, set_up};
use lifecycle_linux::wiring::{Outcome, Place};

use crate::detail::first_side;
use crate::worker::Worker;

impl Worker {
    /// The index of the bridge called `name`, made now if there is none. One that is not ours is used and not changed.
    pub(crate) fn ensure_bridge(&mut self, place: &Place, name: &IfName) -> Outcome<u32> {
        let (found, made) = find_or_make(place, self.controller, name)?;
        if made {
            crash_point("bridge-made");
        }
        if made || (is_ours(&found, self.controller) && !found.admin_up) {
            set_up(place, self.controller, &found)?;
        }
        Ok(found.index)
    }

    /// Removes the bridge that `point` is at when it is ours and has no port. Failing to is no failure of what was asked
    /// for: the bridge is marked, and [`Worker::drop_empty_bridges`] comes by again.
    pub(crate) fn drop_empty_bridge(&mut self, point: &AttachPoint, place: &Place) {
        if let AttachKind::Bridge { bridge } = &point.place
            && let Err(failure) = drop_if_empty(place, self.controller, |link| link.name == bridge.as_str())
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
                drop_if_empty(&place, self.controller, |link| link.name == bridge.as_str())?;
            }
        }
        Ok(())
    }

    /// Removes all bridges of ours that have no port.
    pub(crate) fn drop_empty_bridges(&mut self) -> Outcome<()> {
        for place in self.places.sites()? {
            drop_if_empty(&place, self.controller, |_| true)?;
        }
        Ok(())
    }
}
