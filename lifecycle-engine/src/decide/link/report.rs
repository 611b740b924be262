//! The operational state of the ends of a link, with the first cause that keeps each from carrying frames.

use lifecycle_core::id::LinkId;
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::plugin::network::{EndReport, LinkReport};
use lifecycle_core::policy::link::{EndFacts, OperReason, Side, Transport, oper_reason};
use lifecycle_core::topology::Admin;

use super::super::Cx;

/// Brings the operational state of both ends up to date, with what was just read of them if anything was.
pub(in super::super) fn refresh_oper(cx: &mut Cx<'_>, id: LinkId, report: Option<&LinkReport>) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let up = link.actual == LinkState::Up;
    let was_read = cx.world.link_work.get(&id).is_some_and(|work| work.proved);
    let facts = |side: Side| {
        let node = link.nodes[side.index()].and_then(|node| cx.world.nodes.get(&node));
        let read = report.and_then(|report| end_report(report, side));
        // Without a fresh reading the last one stands, as far as it was about the interface. Before there was one, the interface
        // is taken to be as it was made.
        let was_down = was_read && link.oper[side.index()].reason == Some(OperReason::LocalInterfaceDown);
        EndFacts {
            host_online: node.is_none_or(|node| node.stale_since.is_none()),
            node_running: node.is_none_or(|node| node.actual == NodeState::Running),
            interface_up: match read {
                Some(read) => read.intact && read.admin_up && read.carrier,
                None => up || link.identity.is_some() && !was_down,
            },
        }
    };
    let (a, b) = (facts(Side::A), facts(Side::B));
    let admin_up = link.spec.attrs.admin == Admin::Up;
    let transport = if up { Transport::Up } else { Transport::Down };
    let reasons = [oper_reason(admin_up, a, b, transport), oper_reason(admin_up, b, a, transport)];
    let mut oper = link.oper;
    let changed = [oper[0].update(reasons[0]), oper[1].update(reasons[1])];
    if changed.contains(&true) {
        cx.change_link(id, |link| link.oper = oper);
    }
}

pub(super) fn end_report(report: &LinkReport, side: Side) -> Option<&EndReport> {
    match side {
        Side::A => Some(&report.a),
        Side::B => report.b.as_ref(),
    }
}
