//! Keeps a link that was built as it is wanted: attributes, carrier, and proof.

use std::time::Duration;

use lifecycle_core::id::LinkId;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::Admin;

use super::super::effect::{Action, Subject};
use super::super::{Cx, node};
use super::{LinkPhase, ask, ask_at, is_early, nodes_run, refresh_oper, span};

/// Time that news about a link of a node that does not run is left to settle.
const SETTLING: Duration = Duration::from_millis(250);

/// Does the next thing that a link needs that was built.
pub(super) fn keep(cx: &mut Cx<'_>, id: LinkId) {
    let fits = span::follow_path(cx, id);
    if change(cx, id) || !fits {
        return;
    }
    let Some(link) = cx.world.links.get(&id) else { return };
    let run = nodes_run(cx.world, link);
    let work = cx.world.link_work.entry(id).or_default();
    if !work.unverified {
        return refresh_oper(cx, id, None);
    }
    // While a node is still to start, what is heard of its links is mostly of our own making, and they are read back
    // anyway once it runs.
    if !run && let Some(doubted) = work.doubted {
        let ready = doubted.after(SETTLING);
        if ready.millis > cx.now.boot.millis {
            cx.world.wake(ready, Subject::Link(id));
            return refresh_oper(cx, id, None);
        }
    } else if !run {
        return refresh_oper(cx, id, None);
    }
    cx.world.link_work.entry(id).or_default().doubted = None;
    ask(cx, id, LinkPhase::Verify, Action::Verify);
}

/// Asks for a change that the link needs. True when something was asked for.
fn change(cx: &mut Cx<'_>, id: LinkId) -> bool {
    let Some(link) = cx.world.links.get(&id) else { return false };
    let attrs = link.attrs();
    let carrier = [Side::A, Side::B].into_iter().find_map(|side| {
        let up = attrs.admin == Admin::Up && node::wants_carrier(cx.world, link.nodes[side.index()]?);
        (link.carrier[side.index()] != Some(up)).then_some((side, up))
    });
    // Attributes that cannot be had are given up; the link's carrier and its tunnel follow its nodes and hosts all the same.
    let params = link.applied != Some(attrs) && link.budget.given_up_at.is_none();
    let astray = span::astray(cx.world, link);
    let other_family = astray.as_ref().is_some_and(|(_, to)| span::is_of_another_family(link, to));
    if !params && carrier.is_none() && astray.is_none() || is_early(cx, id) {
        return false;
    }
    if other_family {
        // It cannot be led there while it stands.
        cx.change_link(id, |link| link.rebuild = true);
        cx.world.touch_link(id);
        return true;
    }
    if let Some((side, to)) = astray {
        ask_at(cx, id, side, LinkPhase::Redirect(side), |identity| Action::Redirect { identity, to: to.clone() });
        return true;
    }
    match carrier.filter(|_| !params) {
        // Until the answer is there, nobody knows what is; a controller that finds it so asks again.
        None => {
            cx.change_link(id, |link| link.applied = None);
            ask(cx, id, LinkPhase::SetParams, |identity| Action::SetParams { identity, attrs });
        }
        Some((side, up)) => {
            cx.change_link(id, |link| link.carrier[side.index()] = None);
            // Without its carrier it is the other end that sees nobody there.
            let at = side.other();
            ask_at(cx, id, at, LinkPhase::SetCarrier(side, up), |identity| Action::SetCarrier { identity, side, up });
        }
    }
    true
}
