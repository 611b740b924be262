//! Parking ends of links: their ports stay on the bridge, each on a segment of its own, until one transaction puts them on
//! that of the link that they are parked for.

use std::rc::Rc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::plugin::network::{EndMark, LinkIdentity};
use lifecycle_core::policy::link::Side;
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::Link;
use lifecycle_linux::wiring::label::{Label, Owner};
use lifecycle_linux::wiring::{Outcome, Parkable, Place};

use crate::detail::{self, PortIdentity};
use crate::ovsdb::{Replica, Uuid};
use crate::removal::Doomed;
use crate::switch::{Bridge, Draft, Port};
use crate::worker::Worker;

/// An end that has an heir.
struct Heirloom {
    heir: Label,
    end: (Rc<Place>, Link),
    is_tap: bool,
    /// Index of its interface on the switch's side.
    host: u32,
    /// Its port's row.
    port: Uuid,
}

impl Worker {
    /// Removes a link but for the ends that have an heir.
    pub(crate) fn park(&mut self, identity: &LinkIdentity, heirs: [Option<EndMark>; 2]) -> Outcome<()> {
        self.news.busy([identity.link]);
        self.current_client()?;
        let mut parked = Vec::new();
        for (side, heir) in [Side::A, Side::B].into_iter().zip(heirs) {
            let Some((heir, end)) = heir.zip(identity.end(side)) else { continue };
            let heir = Label::of(self.controller, heir);
            let (port, is_tap) =
                (PortIdentity::read(identity, side), matches!(end.point.place, AttachKind::Tap { .. }));
            if let Some((end, port)) = self.standing_end(identity, end)?.zip(port) {
                parked.push(Heirloom { heir, end, is_tap, host: port.ifindex, port: port.uuid });
            }
        }
        self.isolate(identity, &parked)?;
        crash_point("switch-ports-parked");
        let switch = self.switch()?;
        for Heirloom { heir, end: (place, end), is_tap, host, .. } in &parked {
            let is_its = |owner: Owner| owner.may_be_of(identity.link, identity.incarnation);
            let node = (!is_tap).then_some((&**place, end));
            if let Some(parkable) = Parkable::find(node, &switch, *host, is_its, heir)? {
                self.news.forget((switch.cookie, *host));
                self.news.forget((place.cookie, end.index));
                parkable.park(heir, None)?;
            }
        }
        crash_point("switch-ends-parked");
        let mut rest = Doomed::default();
        self.doom(identity, &mut rest)?;
        self.known.remove(&identity.link);
        self.remove_all(rest, false)?;
        self.settle_removal()
    }

    /// Puts the ports of ends on segments of their own, under their heirs' labels, and waits until the switch has done so.
    fn isolate(&mut self, identity: &LinkIdentity, parked: &[Heirloom]) -> Outcome<()> {
        let Some(bridge) = identity.detail.get(detail::BRIDGE) else { return Ok(()) };
        let controller = self.controller;
        let still = |db: &Replica, it: &Heirloom| {
            let port = Port::by_uuid(db, &it.port, controller)?;
            port.label().filter(|label| label.is_of(identity.link, identity.incarnation)).map(|_| port)
        };
        let number = self.transact_with_tags("park ends of links", |db, pools| {
            let carried = Bridge::named(db, bridge, controller).map(|it| it.tags(db)).unwrap_or_default();
            let still: Vec<_> = parked.iter().filter_map(|it| Some((it, still(db, it)?))).collect();
            let fresh = pools.fresh(bridge, carried.into_keys(), still.len())?;
            let mut draft = Draft::default();
            for ((it, port), tag) in still.iter().zip(fresh) {
                draft.demand_free(bridge, tag);
                draft.park(db, &port.uuid, tag, &it.heir);
            }
            Ok(draft)
        })?;
        match number {
            Some(number) => self.await_switch(&*self.client()?, number),
            None => Ok(()),
        }
    }
}
