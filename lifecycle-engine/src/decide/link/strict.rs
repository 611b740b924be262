//! Links whose ends stay as the topology says, also where a node sets them otherwise: `manage: strict`.

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::plugin::network::{LinkIdentity, LinkReport, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, Manage};

use super::super::{Cx, Why};
use super::outcome::count_failure;
use super::report::end_report;

/// Has what somebody set by hand at an end of a strict link put back. True when there was something.
pub(super) fn put_back(cx: &mut Cx<'_>, id: LinkId, report: &LinkReport) -> bool {
    let Some(link) = cx.world.links.get(&id) else { return false };
    let differs = differences(link, report);
    let was_tried = std::mem::replace(&mut cx.world.link_work.entry(id).or_default().put_back, !differs.is_empty());
    if differs.is_empty() {
        return false;
    }
    let text = differs.join("; ");
    if cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up) {
        cx.link_becomes(id, LinkState::Down, Why::drift().because(text));
    } else if was_tried {
        count_failure(cx, id, &Error::new(ErrorKind::Failed, "put back what was set by hand", text));
    }
    cx.change_link(id, |link| link.applied = None);
    true
}

/// What is otherwise than the topology says, in words; nothing for a link that leaves its ends to the nodes.
fn differences(link: &LinkRecord, report: &LinkReport) -> Vec<String> {
    let attrs = link.attrs();
    // What was given up is left until its user wants it again.
    if link.spec.manage != Manage::Strict
        || link.budget.given_up_at.is_some()
        || link.applied.is_some_and(|applied| applied != attrs)
    {
        return Vec::new();
    }
    // The parent has a say in what a macvlan carries.
    let has_mtu = !link
        .identity
        .iter()
        .flat_map(LinkIdentity::ends)
        .any(|end| matches!(end.point.place, AttachKind::Macvlan { .. }));
    let mut found = Vec::new();
    for side in [Side::A, Side::B] {
        let Some(end) = end_report(report, side).filter(|end| end.intact) else { continue };
        let name = link.spec.ends()[side.index()].to_string();
        let up = attrs.admin == Admin::Up && link.carrier[side.index()] == Some(true);
        if end.admin_up != up {
            found.push(format!("{name} was set {}", if end.admin_up { "up" } else { "down" }));
        }
        if has_mtu && end.mtu != attrs.mtu {
            found.push(format!("the MTU of {name} was set to {} instead of {}", end.mtu, attrs.mtu));
        }
        if end.shaping.is_some_and(|now| !now.is_like(&Shaping::of(&attrs))) {
            found.push(format!("what slows down {name} was changed"));
        }
    }
    found
}
