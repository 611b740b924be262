//! Takes in how an effect on a link ended.

use lifecycle_core::error::Error;
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::plugin::network::LinkReport;
use lifecycle_core::policy::enforcement::Spent;
use lifecycle_core::time::Deadline;

use super::super::effect::{Done, EffectId, Outcome, Subject};
use super::super::{Cx, Why};
use super::{LinkPhase, nodes_run, refresh_oper, to_pending, void};

/// Takes in how an effect on a link ended.
pub(in super::super) fn take(cx: &mut Cx<'_>, id: LinkId, effect: EffectId, outcome: Outcome) {
    let Some(work) = cx.world.link_work.get_mut(&id).filter(|work| work.effect == Some(effect)) else {
        return cx.world.touch_link(id);
    };
    let phase = work.phase;
    work.effect = None;
    work.phase = LinkPhase::Idle;
    match (phase, outcome) {
        (LinkPhase::Connect, Ok(Done::Connected(identity))) => {
            cx.change_link(id, |link| {
                link.applied = Some(link.spec.attrs);
                link.carrier = [true, true];
                link.identity = Some(*identity);
            });
            let work = cx.world.link_work.entry(id).or_default();
            (work.unverified, work.again, work.proved) = (true, false, false);
            cx.link_becomes(id, LinkState::Down, Why::outcome().because("wired"));
            let nodes = cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default();
            nodes.into_iter().flatten().for_each(|node| cx.world.touch_node(node));
        }
        // Building again is safe whether it was built or not: it is the same link under the same mark.
        (LinkPhase::Connect, Err(error)) => failed(cx, id, &error),
        (LinkPhase::Disconnect, Ok(_)) => void(cx, id, "removed"),
        (LinkPhase::Disconnect, Err(error)) => count_failure(cx, id, &error),
        (LinkPhase::SetParams, Ok(_)) => {
            cx.change_link(id, |link| link.applied = Some(link.spec.attrs));
            doubt(cx, id);
        }
        (LinkPhase::SetCarrier(side, up), Ok(_)) => {
            cx.change_link(id, |link| link.carrier[side.index()] = up);
            doubt(cx, id);
            let nodes = cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default();
            nodes.into_iter().flatten().for_each(|node| cx.world.touch_node(node));
        }
        (LinkPhase::SetParams | LinkPhase::SetCarrier(..), Err(error)) => {
            // What was built may have changed under us; reading it back decides.
            count_failure(cx, id, &error);
            doubt(cx, id);
            return cx.wake_after(RETRY, Subject::Link(id));
        }
        (LinkPhase::Verify, Ok(Done::Report(report))) => verified(cx, id, &report),
        (LinkPhase::Verify, Err(error)) => {
            unproved(cx, id, &error);
            return cx.wake_after(RETRY, Subject::Link(id));
        }
        _ => {}
    }
    cx.world.touch_link(id);
}

/// Time before what could not be read is read again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

fn doubt(cx: &mut Cx<'_>, id: LinkId) {
    cx.world.link_work.entry(id).or_default().unverified = true;
}

/// A link that could not be read back is not known to be up.
fn unproved(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    let text = error.chain();
    cx.change_link(id, |link| link.budget.last_error = Some(text.clone()));
    if cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up) {
        cx.link_becomes(id, LinkState::Down, Why::sync().error(text));
    }
}

/// A link was read back.
fn verified(cx: &mut Cx<'_>, id: LinkId, report: &LinkReport) {
    let work = cx.world.link_work.entry(id).or_default();
    let again = std::mem::take(&mut work.again);
    work.unverified = again;
    if !report.is_intact() {
        return broken(cx, id, report);
    }
    cx.world.link_work.entry(id).or_default().proved = true;
    let Some(link) = cx.world.links.get(&id) else { return };
    let (state, run) = (link.actual, nodes_run(cx.world, link));
    if again {
        return refresh_oper(cx, id, Some(report));
    }
    if report.is_up() && run {
        let wall = cx.now.wall;
        let clean = link.budget == Default::default();
        if state != LinkState::Up || !clean {
            cx.change_link(id, |link| {
                link.verified_at = Some(wall);
                link.budget = Default::default();
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

/// What was built is no longer what it was: it is built again. What was never right is a failed attempt.
fn broken(cx: &mut Cx<'_>, id: LinkId, report: &LinkReport) {
    let problems = if report.problems.is_empty() { "it is not intact".to_owned() } else { report.problems.join("; ") };
    let proved = cx.world.link_work.get(&id).is_none_or(|work| work.proved);
    let was_up = cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up);
    if proved || was_up {
        cx.link_is(id, LinkState::Down, Why::drift().because(problems));
    } else {
        let error = Error::new(lifecycle_core::error::ErrorKind::Failed, "verify link", problems);
        count_failure(cx, id, &error);
    }
    cx.change_link(id, |link| link.rebuild = true);
    if cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some()) {
        let message = cx.world.links.get(&id).map(|link| link.budget.give_up_message()).unwrap_or_default();
        cx.link_becomes(id, LinkState::Error, Why::enforcement().error(message));
    }
    refresh_oper(cx, id, Some(report));
}

/// Building failed: it counts, and the next attempt waits its time.
fn failed(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    if error.kind().is_unreachable() {
        to_pending(cx, id, "its host cannot be reached");
        return cx.wake_after(cx.world.settings.limits.reconnect, Subject::Link(id));
    }
    if !error.kind().may_pass() {
        return impossible(cx, id, &error.chain());
    }
    count_failure(cx, id, error);
    cx.link_becomes(id, LinkState::Error, Why::outcome().error(error.chain()));
    wake_nodes(cx, id);
}

/// Nothing that is done by itself can build the link.
pub(super) fn impossible(cx: &mut Cx<'_>, id: LinkId, reason: &str) {
    let wall = cx.now.wall;
    cx.change_link(id, |link| {
        link.budget.first_error.get_or_insert_with(|| reason.to_owned());
        link.budget.last_error = Some(reason.to_owned());
        link.budget.given_up_at = Some(wall);
    });
    cx.link_becomes(id, LinkState::Error, Why::enforcement().error(reason));
    wake_nodes(cx, id);
}

fn wake_nodes(cx: &mut Cx<'_>, id: LinkId) {
    let nodes = cx.world.links.get(&id).map(|link| link.nodes).unwrap_or_default();
    nodes.into_iter().flatten().for_each(|node| cx.world.touch_node(node));
}

fn count_failure(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    let (policy, now) = (cx.world.settings.repair, cx.now);
    let Some(mut budget) = cx.world.links.get(&id).map(|link| link.budget.clone()) else { return };
    let spent = budget.failed(error.chain(), &policy, now, cx.rng);
    // What is to be removed is tried for ever, at the longest interval.
    if spent == Spent::GiveUp && cx.world.links.get(&id).is_some_and(|link| link.deleting) {
        budget.next_attempt = Some(Deadline::after(now.boot, policy.cap));
    }
    cx.change_link(id, |link| link.budget = budget);
}
