//! Making the interfaces of links, those of many links in as few messages as can be.
//!
//! The switch looks at all its ports whenever an interface of its namespace changes, on a processor that is needed here. So
//! what is done in its namespace is done in one go.

use std::os::fd::AsFd;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_core::topology::Admin;
use lifecycle_crash::crash_point;
use lifecycle_linux::ethtool::{Offloads, set_offloads};
use lifecycle_linux::netlink::{Change, NewLink, Request, Veth, Which, change_link, create_veth};
use lifecycle_linux::wiring::bridge::quiet;
use lifecycle_linux::wiring::label::port_mac;
use lifecycle_linux::wiring::{Outcome, TapRequest};

use crate::plan::{At, End, Plan, ends};
use crate::worker::Worker;

impl Worker {
    /// Makes the pairs of interfaces that do not stand, each in its final places, and sets up those on the switch's side.
    pub(crate) fn bear(&self, plans: &[&Plan<'_>]) -> Vec<Outcome<()>> {
        let mut outcomes: Vec<Outcome<()>> = plans.iter().map(|_| Ok(())).collect();
        let ends = ends(plans);
        let missing = ends.iter().filter(|(plan, end)| !plans[*plan].pairs[*end]);
        let (taps, veths): (Vec<At>, Vec<At>) = missing.partition(|(plan, end)| plans[*plan].ends[*end].is_tap());
        for (plan, end) in taps {
            if outcomes[plan].is_ok() {
                outcomes[plan] = self.bear_tap(plans[plan], &plans[plan].ends[end]);
            }
        }
        let veths = veths.into_iter().map(|at| (at, self.pair(plans, at))).collect();
        self.run_on_switch(plans, veths, &mut outcomes);
        crash_point("switch-pairs-made");
        let new = ends.into_iter().filter(|(plan, end)| !plans[*plan].was_set_up(*end));
        let new = new.map(|at| (at, set_up_port(plans, at))).collect();
        self.run_on_switch(plans, new, &mut outcomes);
        outcomes
    }

    /// Does what is left about the nodes' ends of links that are `wired`, once their ports are committed: work for the time in
    /// which the switch is busy. An end that was finished before is as its node wants it.
    pub(crate) fn finish<T>(&self, plans: &[&Plan<'_>], wired: &mut [Outcome<T>]) {
        for (plan, end) in ends(plans) {
            if wired[plan].is_ok()
                && let Err(failure) = self.finish_end(plans[plan], end)
            {
                wired[plan] = Err(failure);
            }
        }
    }

    /// Sets those ends on the switch's side as they are wanted that stood before.
    pub(crate) fn set_as_wanted<T>(&self, plans: &[&Plan<'_>], wired: &mut [Outcome<T>]) {
        let stood = ends(plans).into_iter().filter(|(plan, end)| plans[*plan].was_set_up(*end));
        let stood = stood.filter_map(|at| Some((at, vec![as_wanted(plans, at)?]))).collect();
        self.run_on_switch(plans, stood, wired);
    }

    /// Carries out what is to be done about ends in the switch's namespace. Of several requests about one end the last
    /// one counts.
    fn run_on_switch<T>(&self, plans: &[&Plan<'_>], work: Vec<(At, Vec<Request>)>, outcomes: &mut [Outcome<T>]) {
        let (mut requests, mut last) = (Vec::new(), Vec::new());
        for ((plan, _), more) in work {
            if outcomes[plan].is_ok() {
                requests.extend(more);
                last.push((plan, requests.len() - 1));
            }
        }
        let Some(switch) = plans.first().map(|plan| &plan.switch) else { return };
        let mut results = switch.route(|route| route.run_all(&requests)).into_iter().enumerate();
        for (plan, at) in last {
            if let Some((_, Err(error))) = results.find(|(index, _)| *index == at) {
                outcomes[plan] = Err(error.into());
            }
        }
    }

    fn bear_tap(&self, plan: &Plan<'_>, end: &End<'_>) -> Outcome<()> {
        let AttachKind::Tap { name, owner, flags } = &end.point.place else { return Ok(()) };
        let (label, mtu) = (&end.label, plan.request.attrs.mtu);
        let tap = TapRequest { name, owner: *owner, flags: *flags, label, mtu, master: None };
        self.places.make_tap(&plan.switch, &tap)
    }

    fn pair(&self, plans: &[&Plan<'_>], (plan, end): At) -> Vec<Request> {
        let mtu = plans[plan].request.attrs.mtu;
        let end = &plans[plan].ends[end];
        let name = &end.port_name;
        let new = |name, mac| NewLink { mac: Some(mac), mtu: Some(mtu), group: LINK_GROUP, ..NewLink::new(name) };
        let host = new(name, port_mac(self.controller, name.as_str()));
        let node = NewLink { ns: Some(end.place.ns.as_fd()), ..new(&end.point.ifname, end.point.mac) };
        vec![create_veth(&Veth { a: host, b: node })]
    }

    /// Labels an interface at a link's end and sets it up.
    fn finish_end(&self, plan: &Plan<'_>, index: usize) -> Outcome<()> {
        let end = &plan.ends[index];
        if end.is_tap() {
            return Ok(());
        }
        if self.userspace {
            end.place.route(|route| set_offloads(&*route, &end.point.ifname, Offloads::NONE))?;
        }
        if !plan.is_left_to_its_node(index) {
            let alias = end.label.to_string();
            let change = Change { alias: Some(&alias), ..change(plan, index) };
            end.place.route(|route| route.run(change_link(Which::Name(&end.point.ifname), &change)))?;
            crash_point("switch-end-finished");
        }
        Ok(())
    }
}

/// What both interfaces of an end are set to.
fn change(plan: &Plan<'_>, index: usize) -> Change<'static> {
    let attrs = &plan.request.attrs;
    // What stands already may have been set otherwise.
    let mtu = plan.pairs[index].then_some(attrs.mtu);
    Change { up: Some(attrs.admin == Admin::Up), mtu, ..Change::default() }
}

/// Has the kernel send nothing of its own through a port, labels it and sets it up.
fn set_up_port(plans: &[&Plan<'_>], (plan, index): At) -> Vec<Request> {
    let end = &plans[plan].ends[index];
    let (name, alias) = (end.interface(), if end.is_tap() { end.label.to_string() } else { end.label.of_port() });
    let change = Change { alias: Some(&alias), ..change(plans[plan], index) };
    vec![quiet(Which::Name(name)), change_link(Which::Name(name), &change)]
}

/// Sets a port that stood before to what is wanted, unless it is.
fn as_wanted(plans: &[&Plan<'_>], (plan, index): At) -> Option<Request> {
    let (end, attrs) = (&plans[plan].ends[index], &plans[plan].request.attrs);
    let host = end.host.as_ref()?;
    let up = attrs.admin == Admin::Up;
    let change = Change {
        up: Some(up).filter(|up| *up != host.admin_up),
        mtu: Some(attrs.mtu).filter(|mtu| *mtu != host.mtu),
        ..Change::default()
    };
    let differs = change.up.is_some() || change.mtu.is_some();
    differs.then(|| change_link(Which::Index(host.index), &change))
}
