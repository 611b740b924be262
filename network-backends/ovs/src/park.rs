//! Parking ends of links: their ports stay on the bridge, each on a segment of its own, until one transaction puts them on
//! that of the link that they are parked for.

use std::rc::Rc;

use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{EndMark, LinkIdentity};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::segment::{SegmentKind, SegmentPool};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::Link;
use lifecycle_linux::wiring::label::{Label, Owner};
use lifecycle_linux::wiring::{Failure, Outcome, Parkable, Place};

use crate::detail::{self, PortIdentity};
use crate::ovsdb::{Replica, Uuid};
use crate::removal::Doomed;
use crate::switch::{Bridge, Draft, Port};
use crate::worker::Worker;

/// An end that has an heir.
struct Heirloom {
    heir: Label,
    end: (Rc<Place>, Link),
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
            let port = PortIdentity::read(identity, side);
            if let Some((end, port)) = self.standing_end(identity, end)?.zip(port) {
                parked.push(Heirloom { heir, end, host: port.ifindex, port: port.uuid });
            }
        }
        self.isolate(identity, &parked)?;
        crash_point("switch-ports-parked");
        let switch = self.switch()?;
        for Heirloom { heir, end: (place, node), host, .. } in &parked {
            let is_its = |owner: Owner| owner.may_be_of(identity.link, identity.incarnation);
            if let Some(end) = Parkable::find(Some((place, node)), &switch, *host, is_its, heir)? {
                self.news.forget((switch.cookie, *host));
                self.news.forget((place.cookie, node.index));
                end.park(heir)?;
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
        let mut pools = std::mem::take(&mut self.pools);
        let pool = pools.entry(bridge.clone()).or_insert_with(|| SegmentPool::new(SegmentKind::Tag));
        let mut exhausted = None;
        let number = self.transact_again("park ends of links", |db| {
            let mut draft = Draft::default();
            pool.observe(Bridge::named(db, bridge, controller).iter().flat_map(|it| it.tags(db).into_keys()));
            let mut fresh = Vec::new();
            for it in parked {
                let Some(port) = still(db, it) else { continue };
                match pool.allocate() {
                    Ok(tag) => {
                        fresh.push(tag);
                        draft.demand_free(bridge, tag);
                        draft.park(db, &port.uuid, tag, &it.heir);
                    }
                    Err(error) => exhausted = Some(Failure::new(ErrorKind::Exhausted, error.to_string())),
                }
            }
            fresh.into_iter().for_each(|tag| pool.free(tag));
            if exhausted.is_some() { Draft::default() } else { draft }
        });
        self.pools = pools;
        if let Some(failure) = exhausted {
            return Err(failure);
        }
        match number? {
            Some(number) => self.await_switch(&*self.client()?, number),
            None => Ok(()),
        }
    }
}
