//! Removing links: rows of the database in one transaction, then the interfaces in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use lifecycle_core::attach::NsRef;
use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, ObservedLink};
use lifecycle_core::policy::link::Side;
use lifecycle_crash::crash_point;
use lifecycle_linux::ethtool::{Offloads, set_offloads};
use lifecycle_linux::netlink::{Link, Which};
use lifecycle_linux::wiring::label::{Label, Owner, owner, port_link, port_owner};
use lifecycle_linux::wiring::seen::goes_with;
use lifecycle_linux::wiring::{Failure, Outcome, Place, doomed};

use crate::detail::{PortIdentity, port_name};
use crate::ovsdb::{Client, Operation, Replica, Uuid};
use crate::switch::{Bridge, DATABASE, Draft, Port, carried_out, our_ports};
use crate::worker::Worker;

/// How long the database may take to answer a transaction.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the switch may take to carry out what was committed.
pub(crate) const CARRY_OUT: Duration = Duration::from_secs(5);
/// How much longer it may take for each port that it is to let go: the kernel has it wait for a grace period, some 20 ms, to
/// close what it opened for one in user space.
pub(crate) const LET_GO: Duration = Duration::from_millis(50);
/// How often a transaction is made again for what somebody else changed meanwhile.
pub(crate) const TRIES: usize = 4;

/// What is to be removed.
#[derive(Default)]
pub(crate) struct Doomed {
    pub(crate) ports: BTreeSet<Uuid>,
    pub(crate) interfaces: Vec<(Rc<Place>, Link)>,
}

impl Worker {
    /// Removes links, as far as they are there.
    pub(crate) fn disconnect_all(&mut self, identities: &[LinkIdentity]) -> Vec<Outcome<()>> {
        self.take_off(identities, Self::doom, |worker, doomed| worker.remove_all(doomed, false))
    }

    /// Takes links off the switch, as far as they are on it, and waits until it has let go of their interfaces, which stay.
    pub(crate) fn release_all(&mut self, identities: &[LinkIdentity]) -> Vec<Outcome<()>> {
        self.take_off(identities, Self::free, |worker, doomed| {
            // What is not in the database any more may have been taken out a moment ago.
            worker.unsettled |= doomed.ports.is_empty();
            worker.remove_all(doomed, false)?;
            worker.settle_removal()
        })
    }

    fn take_off(
        &mut self,
        identities: &[LinkIdentity],
        find: fn(&mut Self, &LinkIdentity, &mut Doomed) -> Outcome<()>,
        remove: fn(&mut Self, Doomed) -> Outcome<()>,
    ) -> Vec<Outcome<()>> {
        self.news.busy(identities.iter().map(|identity| identity.link));
        let mut doomed = Doomed::default();
        let mut outcomes: Vec<Outcome<()>> = Vec::new();
        let current = self.current_client();
        for identity in identities {
            outcomes.push(match &current {
                Ok(_) => find(self, identity, &mut doomed),
                Err(failure) => Err(failure.again()),
            });
        }
        let removed = remove(self, doomed);
        for (identity, outcome) in identities.iter().zip(&mut outcomes) {
            match (&removed, &outcome) {
                (Ok(()), Ok(())) => drop(self.known.remove(&identity.link)),
                (Err(failure), Ok(())) => *outcome = Err(failure.again()),
                (_, Err(_)) => {}
            }
        }
        outcomes
    }

    /// Finds what is left of a link.
    pub(crate) fn doom(&mut self, identity: &LinkIdentity, doomed: &mut Doomed) -> Outcome<()> {
        let controller = self.controller;
        let is_it = |label: Label| label.is_of(identity.link, identity.incarnation);
        let client = self.client()?;
        for side in [Side::A, Side::B] {
            let name = port_name(identity, side);
            let port = client.read(|db| Port::named(db, &name, controller));
            doomed.ports.extend(port.filter(|port| port.label().is_some_and(is_it)).map(|port| port.uuid));
            let switch = self.switch()?;
            if let Ok(name) = IfName::new(name)
                && let Some(link) = switch.link(Which::Name(&name))?
                && port_owner(&link, controller).may_be_of(identity.link, identity.incarnation)
            {
                self.doom_interface(&switch, &link, doomed);
            }
        }
        for end in [Some(&identity.a), identity.b.as_ref()].into_iter().flatten() {
            if let Some((place, link)) = self.standing_end(identity, end)? {
                self.doom_interface(&place, &link, doomed);
            }
        }
        Ok(())
    }

    /// Finds the ports of a link, and has the kernel do again for the ends at them what it does for a new interface, and what
    /// it must not do where a switch in user space is.
    fn free(&mut self, identity: &LinkIdentity, doomed: &mut Doomed) -> Outcome<()> {
        let (controller, client, switch) = (self.controller, self.client()?, self.switch()?);
        for (end, side) in identity.ends().zip([Side::A, Side::B]) {
            let name = port_name(identity, side);
            let port = client.read(|db| Port::named(db, &name, controller));
            let is_it = |label: Label| label.is_of(identity.link, identity.incarnation);
            let port = port.filter(|port| port.label().is_some_and(is_it));
            let is_plugged = port.is_some();
            doomed.ports.extend(port.map(|port| port.uuid));
            if let Some(port) = PortIdentity::read(identity, side) {
                self.news.forget((switch.cookie, port.ifindex));
            }
            if let Some((place, node)) = self.standing_end(identity, end)? {
                self.news.forget((place.cookie, node.index));
                if self.userspace && is_plugged {
                    place.route(|route| set_offloads(&*route, &end.point.ifname, Offloads::ALL))?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn doom_interface(&mut self, place: &Rc<Place>, link: &Link, doomed: &mut Doomed) {
        self.news.forget((place.cookie, link.index));
        doomed.interfaces.push((Rc::clone(place), link.clone()));
    }

    /// Finds an end of a link that stands, going by its identity.
    pub(crate) fn standing_end(
        &mut self,
        identity: &LinkIdentity,
        end: &EndIdentity,
    ) -> Outcome<Option<(Rc<Place>, Link)>> {
        // A tunnel has no interface in the kernel.
        if identity.boot != self.boot || end.point.place.as_tunnel().is_some() {
            return Ok(None);
        }
        self.places.end(self.controller, identity, end, None)
    }

    /// Removes whatever bears the mark of a link.
    pub(crate) fn remove(&mut self, observed: &ObservedLink, namespaces: &[NsRef]) -> Outcome<()> {
        let (controller, link) = (self.controller, observed.link);
        self.news.busy([link]);
        let is_it = |label: Label| label.link == link && goes_with(Some(label.incarnation), observed);
        let mut doomed = Doomed::default();
        if !self.is_without_switch() {
            let ports = self.current_client()?.read(|db| our_ports(db, controller));
            let ports = ports.into_iter().filter(|port| port.label().is_some_and(is_it));
            doomed.ports.extend(ports.map(|port| port.uuid));
        }
        let switch = self.switch()?;
        let is = |owner: Owner, unlabelled: bool| match owner {
            Owner::End(label) => is_it(label),
            Owner::Unlabelled => unlabelled,
            Owner::Foreign | Owner::Bridge => false,
        };
        for found in switch.route(|route| route.links())? {
            // A tap is an end itself.
            let is_port = is(port_owner(&found, controller), port_link(&found) == Some(link));
            if is_port || is(owner(&found, controller), false) {
                self.doom_interface(&switch, &found, &mut doomed);
            }
        }
        for ns in namespaces {
            let place = match self.namespace(ns) {
                Err(failure) if failure.is_gone() => continue,
                place => place?,
            };
            for (_, index, _) in observed.interfaces.iter().filter(|(cookie, ..)| *cookie == place.cookie) {
                if let Some(found) = place.link(Which::Index(*index))?
                    && is(owner(&found, controller), false)
                {
                    self.doom_interface(&place, &found, &mut doomed);
                }
            }
        }
        self.known.remove(&link);
        self.remove_all(doomed, false)
    }

    /// Removes bridges of this controller to which nothing is attached any more.
    pub(crate) fn remove_empty_bridges(&mut self) -> Outcome<()> {
        if self.is_without_switch() {
            return Ok(());
        }
        let controller = self.controller;
        let empty = |db: &Replica| {
            let mut bridges = Bridge::ours(db, controller);
            bridges.retain(|bridge| bridge.is_empty_without(db, &BTreeSet::new()));
            bridges
        };
        self.transact_again("remove empty bridges", |db| {
            let mut draft = Draft::default();
            empty(db).iter().for_each(|bridge| draft.remove_bridge(db, bridge, controller));
            draft
        })
        .map(drop)
    }

    /// Removes all of it; bridges that are left empty as well, unless they are about to be used again.
    pub(crate) fn remove_all(&mut self, doomed: Doomed, keep_bridges: bool) -> Outcome<()> {
        let Doomed { ports, interfaces } = doomed;
        // A database that was killed may have lost what it committed and the switch has carried out already.
        self.unsettled |= !interfaces.is_empty();
        if !ports.is_empty() {
            self.leaving = self.leaving.saturating_add(ports.len().try_into().unwrap_or(u32::MAX));
            let controller = self.controller;
            let number = self.transact_again("remove links", |db| {
                let mut leaving: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
                let mut bridges = BTreeMap::new();
                for (uuid, row) in db.rows("Bridge") {
                    let here = db.referred(row, "ports", "Port").map(|(port, _)| port);
                    let here: BTreeSet<Uuid> = here.filter(|port| ports.contains(*port)).cloned().collect();
                    let name = row.text("name").unwrap_or_default();
                    if let Some(bridge) = Bridge::named(db, name, controller).filter(|_| !here.is_empty()) {
                        leaving.insert(uuid.clone(), here);
                        bridges.insert(uuid.clone(), bridge);
                    }
                }
                let mut draft = Draft::default();
                for (uuid, here) in leaving {
                    let bridge = &bridges[&uuid];
                    if !keep_bridges && bridge.ours && bridge.is_empty_without(db, &here) {
                        draft.remove_bridge(db, bridge, controller);
                    } else {
                        draft.remove_ports(&uuid, here);
                    }
                }
                draft
            })?;
            self.unsettled &= number.is_none();
            self.removal = number.or(self.removal);
            crash_point("switch-ports-removed");
        }
        if !interfaces.is_empty() {
            delete_all(&interfaces)?;
            crash_point("switch-swept");
        }
        // A switch that is not there has nothing attached; when it comes back it finds the database as it is now.
        if let Err(failure) = self.settle_removal() {
            tracing::warn!(?failure, "the switch has not yet let go of removed ports");
        }
        Ok(())
    }

    /// Waits until the switch has carried out earlier removals. A port that came back under its name in between would keep
    /// what the switch had opened for the old one, and pass nothing.
    pub(crate) fn settle_removal(&mut self) -> Outcome<()> {
        if self.unsettled {
            self.removal = Some(commit(&*self.client()?, &Draft::default().finish("settle"))?);
            self.unsettled = false;
        }
        if let Some(number) = self.removal {
            let patience = CARRY_OUT + LET_GO * self.leaving;
            self.await_switch_within(&*self.client()?, number, patience)?;
            (self.removal, self.leaving) = (None, 0);
        }
        Ok(())
    }

    pub(crate) fn await_switch(&self, client: &Client, number: i64) -> Outcome<()> {
        self.await_switch_within(client, number, CARRY_OUT)
    }

    pub(crate) fn await_switch_within(&self, client: &Client, number: i64, patience: Duration) -> Outcome<()> {
        let done = client.wait(patience, |db| carried_out(db).filter(|done| *done >= number));
        done.map(drop).ok_or_else(|| {
            let message = format!("ovs-vswitchd has not taken up a change within {patience:?}; is it running?");
            Failure::new(lifecycle_core::error::ErrorKind::Unreachable, message)
        })
    }

    /// Drafts a transaction after what the database holds, and commits it; again when somebody else changed what it relied
    /// on, or when it is not known what came of it. So the draft must hold only what is still to be done. Returns the number
    /// by which the switch will say that it has carried it out; none when there was nothing to do.
    pub(crate) fn transact_again(
        &mut self,
        comment: &str,
        mut draft: impl FnMut(&Replica) -> Draft,
    ) -> Outcome<Option<i64>> {
        let client = self.client()?;
        let mut tries = TRIES;
        loop {
            tries -= 1;
            client.ready(CARRY_OUT)?;
            let drafted = client.read(&mut draft);
            if drafted.is_empty() {
                return Ok(None);
            }
            match commit(&client, &drafted.finish(comment)) {
                Err(failure) if tries > 0 && (failure.kind().is_unknown() || failure.is_conflict()) => {}
                result => return result.map(Some),
            }
        }
    }

    /// What a link's interfaces in the switch's namespace are, for [`Worker::observe`].
    pub(crate) fn port_of(&self, link: &Link) -> Option<(LinkId, Option<u64>)> {
        match port_owner(link, self.controller) {
            Owner::End(label) => Some((label.link, Some(label.incarnation))),
            Owner::Unlabelled => port_link(link).map(|link| (link, None)),
            Owner::Foreign | Owner::Bridge => None,
        }
    }
}

/// Commits operations that a draft ended with; returns the number by which the switch will say that it has carried them
/// out.
pub(crate) fn commit(client: &Client, operations: &[Operation]) -> Outcome<i64> {
    let done = client.transact(DATABASE, operations, ANSWER)?;
    let number = done.last().and_then(|done| done.rows.first()?.integer("next_cfg"));
    number.ok_or_else(|| {
        Failure::new(lifecycle_core::error::ErrorKind::Failed, "the database does not tell the configuration's number")
    })
}

/// Deletes interfaces, those of one namespace all at once; what is not there is fine.
fn delete_all(interfaces: &[(Rc<Place>, Link)]) -> Outcome<()> {
    let (switch, nodes): (Vec<_>, Vec<_>) = interfaces.iter().partition(|(place, _)| place.is_host());
    for (place, link) in &switch {
        doomed::doom(place, link)?;
    }
    if let Some((place, _)) = switch.first() {
        doomed::sweep(place)?;
    }
    // Nodes' ends went with their peers; one whose peer was not there is left.
    for (place, link) in nodes {
        if place.link(Which::Index(link.index))?.is_some() {
            doomed::doom(place, link)?;
            doomed::sweep(place)?;
        }
    }
    Ok(())
}
