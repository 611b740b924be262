//! Takes in how an effect on a link ended.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::{LinkRecord, ParkedEnd};
use lifecycle_core::name::HostName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkReport};
use lifecycle_core::policy::enforcement::Spent;
use lifecycle_core::policy::link::Side;
use lifecycle_core::time::Deadline;
use lifecycle_core::topology::Admin;

use super::super::effect::{Action, Done, Effect, EndPlan, Outcome, Subject};
use super::super::planted::Bug;
use super::super::{Cx, Why, World, passes};
use super::{LinkPhase, handover, lost_its_place, mend, nodes_run, ours, refresh_oper, span, strict, to_pending, void};

/// Takes in how an effect on a link ended.
pub(in super::super) fn take(cx: &mut Cx<'_>, id: LinkId, asked: &Effect, outcome: Outcome) {
    let Some(work) = cx.world.link_work.get_mut(&id).filter(|work| work.effect == Some(asked.id)) else {
        return cx.world.touch_link(id);
    };
    work.effect = None;
    if let Some((host, action)) = work.second.take().filter(|_| outcome.is_ok()) {
        return half_answered(cx, id, outcome.ok(), host, action);
    }
    let (phase, first) = (work.phase, work.first.take());
    work.phase = LinkPhase::Idle;
    if outcome.as_ref().is_err_and(|error| error.kind().is_unreachable()) {
        passes::lose_backend(cx, &asked.host, &asked.plugin);
    }
    match (phase, outcome) {
        (LinkPhase::Connect, Ok(Done::Connected(identity))) => connected(cx, id, *identity, first),
        (LinkPhase::Connect, Ok(_)) => not_connected(cx, id, &unanswered("connect"), first.is_some()),
        (LinkPhase::Connect, Err(error)) => not_connected(cx, id, &error, first.is_some()),
        (LinkPhase::HandOver, Ok(Done::Connected(identity))) => handover::handed_over(cx, id, *identity),
        (LinkPhase::HandOver, Ok(_)) => handover::not_handed_over(cx, id, &unanswered("connect")),
        (LinkPhase::HandOver, Err(error)) => handover::not_handed_over(cx, id, &error),
        (LinkPhase::Mend, Ok(Done::Connected(identity))) => mend::mended(cx, id, *identity, first),
        (LinkPhase::Mend, Ok(_)) => mend::not_mended(cx, id, &unanswered("connect")),
        (LinkPhase::Mend, Err(error)) => mend::not_mended(cx, id, &error),
        (LinkPhase::Disconnect, Ok(_)) => {
            // That it is gone is read back, since what is left of it would be in the way of what comes next.
            super::ask(cx, id, LinkPhase::Confirm, Action::Verify);
        }
        (LinkPhase::Confirm, Ok(Done::Report(report))) => confirmed(cx, id, &report, first),
        (LinkPhase::Disconnect | LinkPhase::Confirm, Err(error)) => removal_failed(cx, id, &error),
        (LinkPhase::SetParams, Ok(_)) => {
            let Action::SetParams { attrs, .. } = asked.action else { return };
            cx.change_link(id, |link| {
                link.applied = Some(attrs);
                link.carrier = match attrs.admin {
                    // Whether an end whose carrier had been taken got it back is up to the backend.
                    Admin::Up => link.carrier.map(|carrier| carrier.filter(|up| *up)),
                    Admin::Down => [Some(false); 2],
                };
            });
            super::doubt_proof(cx.world, id);
        }
        (LinkPhase::SetCarrier(side, up), Ok(_)) => {
            cx.change_link(id, |link| link.carrier[side.index()] = Some(up));
            super::doubt_proof(cx.world, id);
            wake_nodes(cx, id);
        }
        (LinkPhase::Redirect(side), Ok(Done::Connected(identity))) => {
            cx.change_link(id, |link| match (side, &mut link.span) {
                (Side::B, Some(span)) => span.identity = Some(*identity),
                _ => link.identity = Some(*identity),
            });
            super::doubt_proof(cx.world, id);
        }
        (LinkPhase::Redirect(_), Ok(_)) => not_changed(cx, id, &unanswered("redirect")),
        (LinkPhase::SetParams | LinkPhase::SetCarrier(..) | LinkPhase::Redirect(_), Err(error)) => {
            not_changed(cx, id, &error);
        }
        (LinkPhase::Verify, Ok(Done::Report(report))) => match first {
            Some(Done::Report(near)) => verified(cx, id, *near, Some(*report)),
            _ => verified(cx, id, *report, None),
        },
        (LinkPhase::Verify, Ok(_)) => return unproved(cx, id, &unanswered("verify")),
        (LinkPhase::Verify, Err(error)) => return unproved(cx, id, &error),
        (LinkPhase::Confirm, Ok(_)) => removal_failed(cx, id, &unanswered("verify")),
        (LinkPhase::Idle, _) => {}
    }
    cx.world.touch_link(id);
}

/// The first half of a link between two hosts answered: the second is asked the same, unless that is no longer wanted.
fn half_answered(cx: &mut Cx<'_>, id: LinkId, answer: Option<Done>, host: HostName, action: Action) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let stands = |end: &EndPlan| match end {
        EndPlan::Place(_) => true,
        EndPlan::Port { instance, .. } => {
            let node = cx.world.nodes.get(&instance.node).and_then(|node| node.instance.as_ref());
            node.is_some_and(|node| node.reference == *instance)
        }
    };
    let wanted = match &action {
        Action::Connect(plan) => plan.incarnation == link.incarnation && plan.ends.iter().all(stands),
        Action::SetParams { attrs, .. } => *attrs == link.attrs(),
        _ => true,
    };
    let work = cx.world.link_work.entry(id).or_default();
    if wanted {
        work.first = answer;
        return super::ask_of(cx, id, host, action);
    }
    let handed_over = std::mem::replace(&mut work.phase, LinkPhase::Idle) == LinkPhase::HandOver;
    if let Action::Connect(plan) = action
        && !handed_over
    {
        cx.change_link(id, |link| {
            (link.applied, link.incarnation) = (None, link.incarnation.max(plan.incarnation + 1));
        });
        to_pending(cx, id, "something else is wanted by now");
        look_for_leftovers(cx.world, id);
    }
    cx.world.touch_link(id);
}

/// The answer was to another question.
pub(super) fn unanswered(operation: &'static str) -> Error {
    Error::new(ErrorKind::Failed, operation, "the plugin answered something else")
}

/// It is built: what was built last, after the half that was built first.
fn connected(cx: &mut Cx<'_>, id: LinkId, last: LinkIdentity, first: Option<Done>) {
    let as_they_were = cx.world.has_bug(Bug::TakesParkedEndsAsTheyWere);
    cx.change_link(id, |link| {
        let wanted = link.attrs();
        let differs = |parked: &ParkedEnd| parked.attrs != wanted && !as_they_were;
        if [Side::A, Side::B].into_iter().filter_map(|side| link.parked(side)).any(differs) {
            // An end that stood is left as it was set, and has to be set as this link wants it.
            link.applied = None;
        }
        record(link, last, first);
        link.parked = None;
    });
    let work = cx.world.link_work.entry(id).or_default();
    (work.unverified, work.again, work.proved, work.set_right) = (true, false, false, false);
    cx.link_becomes(id, LinkState::Down, Why::outcome().because("wired"));
    // That there was no interface is over.
    refresh_oper(cx, id, None);
    wake_nodes(cx, id);
}

/// Records what was built.
pub(super) fn record(link: &mut LinkRecord, last: LinkIdentity, first: Option<Done>) {
    // Whatever it says of itself, it is asked again by the name that it was asked by.
    let by = link.backend.clone();
    let last = LinkIdentity { backend: by.clone(), ..last };
    // Something else may have been wanted while it was being built.
    link.rebuild = last.incarnation != link.incarnation;
    match (first, &mut link.span) {
        (Some(Done::Connected(near)), Some(span)) => {
            (link.identity, span.identity) = (Some(LinkIdentity { backend: by, ..*near }), Some(last));
        }
        _ => link.identity = Some(last),
    }
}

/// It is not built, or nobody knows; of a link between two hosts, one half may stand.
fn not_connected(cx: &mut Cx<'_>, id: LinkId, error: &Error, half_stands: bool) {
    let kind = error.kind();
    if !kind.is_unknown() {
        // A link is built or nothing of it remains. Where nobody knows, it is safe to build it again: it is the same link
        // under the same mark.
        cx.change_link(id, |link| link.applied = None);
        if half_stands && !cx.world.has_bug(Bug::LeavesHalfALink) {
            // As one of an older incarnation it is replaced by the next attempt, or collected.
            cx.change_link(id, |link| link.incarnation += 1);
            look_for_leftovers(cx.world, id);
        }
    }
    if kind == ErrorKind::Conflict {
        // It may be its tunnel's identifier that something else has.
        span::release(cx, id);
    }
    match kind {
        ErrorKind::Unreachable => to_pending(cx, id, "its backend cannot be reached"),
        ErrorKind::NotFound => {
            look_at_nodes(cx, id);
            to_pending(cx, id, "an end was not there");
            wait(cx, id);
        }
        ErrorKind::Conflict => {
            look_for_leftovers(cx.world, id);
            count_failure(cx, id, error);
            to_error(cx, id, &error.chain());
        }
        kind if kind.may_pass() => {
            count_failure(cx, id, error);
            to_error(cx, id, &error.chain());
        }
        _ => {
            give_up(cx, id, &error.chain());
            to_error(cx, id, &error.chain());
        }
    }
    // What an attempt without answer may have left is in nobody's way any more, and would stay.
    if cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some()) {
        look_for_leftovers(cx.world, id);
    }
}

/// It is not its own fault: it is tried again before long, and no attempt is counted.
pub(super) fn wait(cx: &mut Cx<'_>, id: LinkId) {
    let (now, wait) = (cx.now.boot, cx.world.settings.limits.reconnect);
    cx.change_link(id, |link| link.budget.next_attempt = Some(Deadline::after(now, wait)));
    cx.wake_after(wait, Subject::Link(id));
}

/// The providers of its nodes are asked what is there.
pub(super) fn look_at_nodes(cx: &mut Cx<'_>, id: LinkId) {
    let nodes = cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default();
    for node in nodes.into_iter().flatten() {
        let Some(row) = cx.world.nodes.get(&node) else { continue };
        let (Some(host), provider) = (row.host.clone(), row.provider.clone()) else { continue };
        if let Some(provider) = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&provider)) {
            provider.list_again = true;
        }
    }
}

/// Something of ours may be there that is not this link: it is looked for, so that it can be collected.
pub(super) fn look_for_leftovers(world: &mut World, id: LinkId) {
    let Some(link) = world.links.get(&id) else { return };
    for host in link.hosts() {
        for name in link.backends() {
            if let Some(backend) = world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(name)) {
                backend.next_observation = None;
            }
        }
    }
}

/// A link that is gone while it was being handed over may have left something with the other backend, and one that was never
/// built what was parked for it.
pub(super) fn look_behind(world: &mut World, id: LinkId) {
    if world.links.get(&id).is_some_and(|link| link.leaves().is_some() || link.has_parked()) {
        look_for_leftovers(world, id);
    }
}

fn confirmed(cx: &mut Cx<'_>, id: LinkId, report: &LinkReport, first: Option<Done>) {
    let left = |report: &LinkReport| report.a.intact || report.b.as_ref().is_some_and(|b| b.intact);
    let first_left = matches!(first, Some(Done::Report(first)) if left(&first));
    if first_left || left(report) {
        let error = Error::new(ErrorKind::Failed, "disconnect", "it was reported as removed and is still there");
        return removal_failed(cx, id, &error);
    }
    void(cx, id, "removed");
}

fn removal_failed(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    if error.kind().is_unreachable() {
        return;
    }
    count_failure(cx, id, error);
    if cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some() && !link.deleting) {
        let message = cx.world.links.get(&id).map(|link| link.budget.give_up_message()).unwrap_or_default();
        to_error(cx, id, &message);
    }
}

/// An attribute, the carrier or the far end of a tunnel could not be changed.
fn not_changed(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    // What was built may have changed under us; reading it back decides.
    super::doubt_proof(cx.world, id);
    let given_up = cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some());
    match error.kind() {
        ErrorKind::NotFound => broken(cx, id, &error.chain(), false),
        ErrorKind::Unreachable => {}
        // There is nothing left to give up, and what follows nodes and hosts has to be tried again some time.
        _ if given_up => {
            let next = Deadline::after(cx.now.boot, cx.world.settings.repair.cap);
            cx.change_link(id, |link| link.budget.next_attempt = Some(next));
        }
        kind if kind.may_pass() => count_failure(cx, id, error),
        _ => give_up(cx, id, &error.chain()),
    }
}

/// A link that could not be read back is not known to be up.
fn unproved(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    let text = error.chain();
    if cx.world.links.get(&id).is_some_and(|link| link.budget.last_error.as_ref() != Some(&text)) {
        cx.change_link(id, |link| link.budget.last_error = Some(text.clone()));
    }
    if cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up) {
        cx.link_becomes(id, LinkState::Down, Why::sync().error(text));
    }
    cx.wake_after(cx.world.settings.limits.reconnect, Subject::Link(id));
}

/// A link was read back, both halves of it if it has two.
fn verified(cx: &mut Cx<'_>, id: LinkId, near: LinkReport, far: Option<LinkReport>) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let read = link.halves().map(|(_, half)| half).zip([Some(&near), far.as_ref()].into_iter().flatten());
    let differs: Vec<String> = read.flat_map(|(half, report)| ours::differences(link, half, report)).collect();
    let report = match far {
        Some(far) => &span::join(near, far),
        None => &near,
    };
    let trusts = cx.world.has_bug(Bug::TrustsOldReadings);
    let work = cx.world.link_work.entry(id).or_default();
    let again = std::mem::take(&mut work.again) && !trusts;
    work.unverified = again;
    if !report.is_intact() {
        let problems = report.problems.join("; ");
        broken(cx, id, if problems.is_empty() { "it is not intact" } else { &problems }, false);
        return refresh_oper(cx, id, Some(report));
    }
    if !differs.is_empty() {
        broken(cx, id, &differs.join("; "), true);
        return refresh_oper(cx, id, Some(report));
    }
    let work = cx.world.link_work.entry(id).or_default();
    (work.proved, work.set_right) = (true, false);
    let Some(link) = cx.world.links.get(&id) else { return };
    let (state, run) = (link.actual, nodes_run(cx.world, link));
    if again {
        return refresh_oper(cx, id, Some(report));
    }
    if run && strict::put_back(cx, id, report) {
        return refresh_oper(cx, id, Some(report));
    }
    let Some(link) = cx.world.links.get(&id) else { return };
    if report.is_up() && run {
        let wall = cx.now.wall;
        // A budget that was used up by what could not be changed is not given back by what could.
        let whole = link.applied == Some(link.attrs());
        let clean = link.budget == Default::default();
        if state != LinkState::Up || whole && !clean {
            cx.change_link(id, |link| {
                link.verified_at = Some(wall);
                if whole {
                    link.budget = Default::default();
                }
            });
        }
        match state {
            LinkState::Down | LinkState::Error | LinkState::Creating => {
                cx.link_becomes(id, LinkState::Up, Why::outcome().because("verified"));
            }
            LinkState::Up | LinkState::Pending | LinkState::Unknown => {}
        }
    } else if state == LinkState::Up {
        let problems = if run { report.problems.join("; ") } else { "a node at its end does not run".to_owned() };
        cx.link_becomes(id, LinkState::Down, Why::drift().because(problems));
    }
    refresh_oper(cx, id, Some(report));
}

/// What was built is no longer what it was: it is mended, or built again. What was never right is a failed attempt, unless
/// it stands and was only set otherwise, as libvirt does to a tap when a machine begins to hold it, for the first time.
fn broken(cx: &mut Cx<'_>, id: LinkId, problems: &str, stands: bool) {
    let drifted = cx.world.link_work.get(&id).is_some_and(|work| work.proved || stands && !work.set_right);
    let was_up = cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up);
    if drifted || was_up {
        cx.link_is(id, LinkState::Down, Why::drift().because(problems));
    } else {
        count_failure(cx, id, &Error::new(ErrorKind::Failed, "verify link", problems));
    }
    cx.change_link(id, |link| link.rebuild = true);
    let work = cx.world.link_work.entry(id).or_default();
    (work.mend, work.set_right) = (drifted || was_up, work.set_right || stands);
    if cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some()) {
        let message = cx.world.links.get(&id).map(|link| link.budget.give_up_message()).unwrap_or_default();
        to_error(cx, id, &message);
    }
}

pub(super) fn to_error(cx: &mut Cx<'_>, id: LinkId, reason: &str) {
    cx.link_becomes(id, LinkState::Error, Why::outcome().error(reason));
    wake_nodes(cx, id);
}

/// Nothing that is done by itself can do what is wanted.
pub(super) fn give_up(cx: &mut Cx<'_>, id: LinkId, reason: &str) {
    let wall = cx.now.wall;
    cx.change_link(id, |link| {
        link.budget.first_error.get_or_insert_with(|| reason.to_owned());
        link.budget.last_error = Some(reason.to_owned());
        link.budget.next_attempt = None;
        link.budget.given_up_at = Some(wall);
    });
}

pub(super) fn wake_nodes(cx: &mut Cx<'_>, id: LinkId) {
    let nodes = cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default();
    nodes.into_iter().flatten().for_each(|node| cx.world.touch_node(node));
}

pub(super) fn count_failure(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    let (policy, now) = (cx.world.settings.repair, cx.now);
    let Some(mut budget) = cx.world.links.get(&id).map(|link| link.budget.clone()) else { return };
    let spent = budget.failed(error.chain(), &policy, now, cx.rng);
    // What is to be removed is tried for ever, at the longest interval; so is what is left of a link on its other host.
    let is_to_go = |link: &LinkRecord| link.deleting || link.span.is_some() && lost_its_place(cx.world, link);
    if spent == Spent::GiveUp && cx.world.links.get(&id).is_some_and(is_to_go) {
        budget.next_attempt = Some(Deadline::after(now.boot, policy.cap));
    }
    cx.change_link(id, |link| link.budget = budget);
}
