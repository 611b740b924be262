//! Building links, many at once: each wholly or not at all.
//!
//! The interfaces are made first, then their ports in one transaction. What is left to be done about the interfaces is done,
//! and they are read back, while the switch attaches the ports; it is waited for once for all. What it could not attach is
//! taken back.

use std::collections::BTreeSet;
use std::time::Duration;

use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{Which, delete_link};
use lifecycle_linux::wiring::label::Owner;
use lifecycle_linux::wiring::{Failure, Outcome};

use crate::ovsdb::Replica;
use crate::plan::{End, ParkedPorts, Plan, parked_ports};
use crate::removal::{Doomed, commit};
use crate::switch::{Bridge, Draft, Port, hands_off};
use crate::tags::Pools;
use crate::worker::{PATIENCE, Worker};

/// After so long the switch has heard of what was committed, and has begun with it.
const BEGUN: Duration = Duration::from_micros(500);

impl Worker {
    /// Builds links, about which no two requests are the same, or finds that they stand already.
    pub(crate) fn connect_all(&mut self, requests: &[(LinkRequest, IfName)]) -> Vec<Outcome<LinkIdentity>> {
        self.news.busy(requests.iter().map(|(request, _)| request.link));
        let mut outcomes: Vec<Option<Outcome<LinkIdentity>>> = requests.iter().map(|_| None).collect();
        let mut plans = Vec::new();
        let mut doomed = Doomed::default();
        let (ends, parked) = match self.look(requests) {
            Ok(found) => found,
            Err(failure) => return requests.iter().map(|_| Err(failure.again())).collect(),
        };
        for (index, ((request, bridge), ends)) in requests.iter().zip(ends).enumerate() {
            match ends.and_then(|ends| self.plan(request, bridge, ends, &parked, &mut doomed)) {
                Ok(plan) => plans.push((index, plan)),
                Err(failure) => outcomes[index] = Some(Err(failure)),
            }
        }
        let cleared = self.remove_all(doomed, true).and_then(|()| self.settle_removal());
        if let Err(failure) = cleared {
            plans.drain(..).for_each(|(index, _)| outcomes[index] = Some(Err(failure.again())));
        }
        let all: Vec<_> = plans.iter().map(|(_, plan)| plan).collect();
        let mut wired = self.wire(&all);
        // While the switch is busy.
        let mut interfaces = self.interfaces(&all, &wired);
        let newest = wired.iter().filter_map(|wired| *wired.as_ref().ok()?).max();
        let attached = self.attach(&all, &mut wired, newest);
        crash_point("switch-ports-attached");
        for (at, ((index, plan), wired)) in plans.into_iter().zip(wired).enumerate() {
            let outcome = wired.and(attached.as_ref().map_err(Failure::again).copied());
            let outcome = outcome.and_then(|()| self.identity(&plan, [0, 1].map(|end| interfaces.remove(&(at, end)))));
            match &outcome {
                Ok(identity) => drop(self.known.insert(identity.link, identity.clone())),
                Err(_) => self.undo(&plan),
            }
            outcomes[index] = Some(outcome);
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| unreachable!("each request has an outcome")))
            .collect()
    }

    /// Looks at the ends of links while the replica catches up, and then for ports that are parked.
    fn look<'a>(
        &mut self,
        requests: &'a [(LinkRequest, IfName)],
    ) -> Outcome<(Vec<Outcome<[End<'a>; 2]>>, ParkedPorts)> {
        let client = self.client()?;
        let current = client.begin_to_catch_up()?;
        let ends = requests.iter().map(|(request, _)| self.ends(request)).collect();
        current.wait(PATIENCE)?;
        Ok((ends, client.read(|db| parked_ports(db, self.controller))))
    }

    /// Makes the interfaces of links and commits their ports, without waiting for the switch; see [`Worker::plug`]. All in one
    /// transaction: for each, the switch looks at all ports that it has.
    fn wire(&mut self, plans: &[&Plan<'_>]) -> Vec<Outcome<Option<i64>>> {
        let born = self.bear(plans);
        let whole: Vec<_> = plans.iter().zip(&born).filter(|(_, born)| born.is_ok()).map(|(plan, _)| *plan).collect();
        let mut plugged = self.plug(&whole).into_iter();
        let result = |born: Outcome<()>| born.and_then(|()| plugged.next().unwrap_or(Ok(None)));
        let mut wired: Vec<_> = born.into_iter().map(result).collect();
        self.finish(plans, &mut wired);
        wired
    }

    /// Waits until the switch has carried out the configuration with this number, and sets those ends on its side as they are
    /// wanted that stood before. It hears of that and looks at all its ports once more, which must not come first.
    fn attach<T>(&self, plans: &[&Plan<'_>], wired: &mut [Outcome<T>], newest: Option<i64>) -> Outcome<()> {
        let client = self.client()?;
        let is_done = newest.is_none_or(|newest| self.await_switch_within(&client, newest, BEGUN).is_ok());
        self.set_as_wanted(plans, wired);
        match newest {
            Some(newest) if !is_done => self.await_switch(&client, newest),
            _ => Ok(()),
        }
    }

    /// Commits the ports of links in one transaction. When it is refused, each link gets a transaction of its own, so that one
    /// cannot spoil the others. Each outcome has the number by which the switch will say that it has taken the ports; none
    /// when it has them already.
    fn plug(&mut self, plans: &[&Plan<'_>]) -> Vec<Outcome<Option<i64>>> {
        match self.commit_ports(plans) {
            Ok(number) => plans.iter().map(|_| Ok(number)).collect(),
            Err(failure) if plans.len() > 1 && failure.kind() != ErrorKind::Unreachable => {
                plans.iter().map(|plan| self.commit_ports(&[*plan])).collect()
            }
            Err(failure) => plans.iter().map(|_| Err(failure.again())).collect(),
        }
    }

    fn commit_ports(&mut self, plans: &[&Plan<'_>]) -> Outcome<Option<i64>> {
        if plans.is_empty() {
            return Ok(None);
        }
        let (controller, userspace) = (self.controller, self.userspace);
        let number =
            self.transact_with_tags("connect links", |db, pools| draft(db, plans, pools, controller, userspace))?;
        crash_point("switch-ports-committed");
        if number.is_some() || plans.iter().all(|plan| plan.plugged == [true; 2]) {
            return Ok(number);
        }
        // It was committed and the answer got lost, so that the number to wait for is not known.
        commit(&*self.client()?, &Draft::default().finish("settle")).map(Some)
    }

    /// Removes what was made of a link that could not be finished.
    fn undo(&mut self, plan: &Plan<'_>) {
        let undone = (|| {
            let (client, switch) = (self.client()?, self.switch()?);
            let mut doomed = Doomed::default();
            for end in &plan.ends {
                let name = &end.port_name;
                let port = client.read(|db| Port::named(db, name.as_str(), self.controller));
                doomed.ports.extend(port.filter(|port| port.owner == Owner::End(end.label)).map(|port| port.uuid));
                if let Some(host) = switch.link(Which::Name(end.interface()))?.filter(|host| end.is_ours(host)) {
                    self.doom_interface(&switch, &host, &mut doomed);
                }
            }
            self.remove_all(doomed, false)?;
            self.remove_empty_bridges()
        })();
        if let Err(failure) = undone {
            // It bears the mark, so that collection finds it; no end of it may stay in a node.
            tracing::warn!(link = %plan.request.link, ?failure, "half a link could not be removed at once");
            self.unsettled = true;
            let Ok(switch) = self.switch() else { return };
            for end in &plan.ends {
                let host = switch.link(Which::Name(end.interface())).ok().flatten();
                if let Some(host) = host.filter(|host| end.is_ours(host)) {
                    let _ = switch.route(|route| route.run(delete_link(Which::Index(host.index))));
                }
            }
        }
    }
}

/// Drafts what is still to be done in the database for links: missing bridges, missing ports, wrong tags.
fn draft(
    db: &Replica,
    plans: &[&Plan<'_>],
    pools: &mut Pools,
    controller: ControllerId,
    userspace: bool,
) -> Outcome<Draft> {
    let mut draft = Draft::default();
    let mut missing = BTreeSet::new();
    let names: BTreeSet<&IfName> = plans.iter().map(|plan| plan.bridge).collect();
    for name in names {
        let bridge = Bridge::named(db, name.as_str(), controller);
        if bridge.as_ref().is_some_and(|bridge| !bridge.ours) {
            let message = format!("a bridge {name} that is not ours stands in the way; rename or remove it");
            return Err(Failure::new(ErrorKind::Foreign, message));
        }
        let tags = bridge.as_ref().map(|bridge| bridge.tags(db)).unwrap_or_default();
        match &bridge {
            None => drop(missing.insert(name)),
            Some(bridge) if !bridge.passes_all => draft.pass_all(bridge),
            Some(_) => {}
        }
        let known = hands_off(db, name.as_str(), controller);
        let whole = |ports: &[Option<Port>; 2]| {
            let [Some(a), Some(b)] = ports else { return false };
            let kept_off = |port: &Port| port.tunnel.is_some() || port.qos == known;
            let in_place = |port: &Port| port.tag == a.tag && port.passes_all && kept_off(port);
            in_place(a) && in_place(b) && a.tag.is_some_and(|tag| tags.get(&tag) == Some(&2))
        };
        let here = plans.iter().filter(|plan| plan.bridge == name);
        let here = here
            .map(|plan| (plan, plan.ends.each_ref().map(|end| Port::named(db, end.port_name.as_str(), controller))));
        let undone: Vec<_> = here.filter(|(_, ports)| !whole(ports)).collect();
        if undone.is_empty() {
            continue;
        }
        let fresh = pools.fresh(name.as_str(), tags.keys().copied(), undone.len())?;
        // Before any port is added that would have to be looked at.
        fresh.iter().for_each(|tag| draft.demand_free(name.as_str(), *tag));
        let qos = draft.keep_hands_off(known.as_ref(), name, controller);
        for ((plan, ports), tag) in undone.iter().zip(fresh) {
            for (end, port) in plan.ends.iter().zip(ports) {
                match (port, end.tunnel()) {
                    // What leaves through a tunnel goes through no device of the kernel's.
                    (Some(port), tunnel) => draft.retag(&port.uuid, tag, tunnel.is_none().then_some(&qos)),
                    (None, None) => draft.add_port(name, (&end.port_name, &end.label), end.interface(), tag, &qos),
                    (None, Some(tunnel)) => draft.add_tunnel(db, name, &end.label, tag, tunnel)?,
                }
            }
        }
    }
    if !draft.is_empty() {
        missing.into_iter().for_each(|name| draft.add_bridge(name, controller, userspace));
    }
    Ok(draft)
}
