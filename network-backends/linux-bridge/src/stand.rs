//! What stands of a link, found by its identity.

use std::rc::Rc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_linux::netlink::{Link, Which};
use lifecycle_linux::wiring::label::{link_bridge, owner, port_owner};
use lifecycle_linux::wiring::{Failure, Outcome, Place};

use crate::detail::Segment;
use crate::worker::Worker;

/// An interface with its namespace.
pub(crate) type Standing = (Rc<Place>, Link);

/// What stands of a link.
pub(crate) struct Stand {
    /// The namespace of bridge and ports; none when it does not exist any more.
    pub(crate) switch: Option<Rc<Place>>,
    pub(crate) bridge: Option<Link>,
    pub(crate) ports: [Option<Link>; 2],
    /// Interfaces at the link's ends; taps and tunnels are their own ports.
    pub(crate) ends: [Option<Standing>; 2],
    /// What was recorded.
    pub(crate) segment: Segment,
}

/// The two ends of an identity of ours.
pub(crate) fn ends_of(identity: &LinkIdentity) -> Outcome<[&EndIdentity; 2]> {
    let foreign = || Failure::new(ErrorKind::InvalidInput, "the identity is not one that this backend gave");
    Ok([&identity.a, identity.b.as_ref().ok_or_else(foreign)?])
}

/// Whether the interface at a place is a port of the bridge itself, and not the far end of one.
pub(crate) fn is_own_port(place: &AttachKind) -> bool {
    matches!(place, AttachKind::Tap { .. } | AttachKind::Tunnel(_))
}

impl Worker {
    /// Looks at all parts of a link.
    pub(crate) fn stand(&mut self, identity: &LinkIdentity) -> Outcome<Stand> {
        let ends = ends_of(identity)?;
        let segment = Segment::read(identity).ok_or_else(|| {
            Failure::new(ErrorKind::InvalidInput, "the identity does not say which bridge the link was built with")
        })?;
        let mut stand = Stand { switch: None, bridge: None, ports: [None, None], ends: [None, None], segment };
        if identity.boot != self.boot {
            return Ok(stand);
        }
        match self.switch(&ends[0].point.place, &ends[1].point.place) {
            // A broker that was started anew may live in another namespace than the one that the bridge was in.
            Ok(switch) if switch.cookie == segment.switch => stand.switch = Some(switch),
            Ok(_) => {}
            Err(failure) if failure.is_gone() => {}
            Err(failure) => return Err(failure),
        }
        let (id, incarnation) = (identity.link, identity.incarnation);
        if let Some(switch) = &stand.switch {
            let bridge = switch.link(Which::Index(segment.bridge))?;
            stand.bridge = bridge.filter(|bridge| {
                bridge.group == LINK_GROUP
                    && link_bridge(bridge, self.controller)
                        .is_some_and(|(link, of)| link == id && of.is_none_or(|of| of == incarnation))
            });
        }
        for side in [Side::A, Side::B] {
            let end = ends[side.index()];
            let port = match &stand.switch {
                Some(switch) => switch.link(Which::Index(segment.ports[side.index()]))?,
                None => None,
            };
            let place = &end.point.place;
            let whose = |link: &Link| match place {
                AttachKind::Tap { .. } => owner(link, self.controller),
                _ => port_owner(link, self.controller),
            };
            let port = port.filter(|link| link.group == LINK_GROUP && whose(link).may_be_of(id, incarnation));
            stand.ends[side.index()] = if is_own_port(place) {
                stand.switch.clone().zip(port.clone())
            } else {
                self.places.end(self.controller, identity, end, None)?
            };
            stand.ports[side.index()] = port;
        }
        Ok(stand)
    }
}
