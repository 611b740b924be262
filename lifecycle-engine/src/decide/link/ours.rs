//! What of a link is ours and was set otherwise by hand: ports of switches, and ends that are not in a node.

use lifecycle_core::attach::AttachKind;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::plugin::network::{LinkIdentity, LinkReport, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::Admin;

use super::report::end_report;

/// What is otherwise than it was set, in words, by what was read of what was built. What a node does to its own interface
/// is not among it.
pub(super) fn differences(link: &LinkRecord, built: &LinkIdentity, report: &LinkReport) -> Vec<String> {
    let attrs = link.attrs();
    let mut found = Vec::new();
    // What is about to be set anyway, or was given up, is nobody's deed.
    if link.applied != Some(attrs) || link.budget.given_up_at.is_some() {
        return found;
    }
    for side in [Side::A, Side::B] {
        let Some(end) = end_report(report, side).filter(|end| end.intact) else { continue };
        let place = if side == Side::A { Some(&built.a) } else { built.b.as_ref() }.map(|end| &end.point.place);
        let tunnel = place.is_some_and(|place| place.as_tunnel().is_some());
        let name = if tunnel { "its tunnel".to_owned() } else { link.spec.ends()[side.index()].to_string() };
        let mut differs = |what: &str, admin_up: bool, mtu: u32, carrier: Option<bool>| {
            let up = carrier.map(|carrier| carrier && attrs.admin == Admin::Up);
            if up.is_some_and(|up| up != admin_up) {
                found.push(format!("{what} was set {}", if admin_up { "up" } else { "down" }));
            }
            if mtu != attrs.mtu {
                found.push(format!("the MTU of {what} was set to {mtu} instead of {}", attrs.mtu));
            }
        };
        let is_ours = matches!(place, Some(AttachKind::HostNet | AttachKind::Bridge { .. }));
        if let Some(port) = end.port {
            // An end hears of the other one through its own port, and nobody is at the end of a tunnel.
            let carrier = if tunnel { Some(true) } else { link.carrier[side.other().index()] };
            differs(&format!("the port of {name}"), port.admin_up, port.mtu, carrier);
        }
        if is_ours {
            let carrier = if end.port.is_some() { Some(true) } else { link.carrier[side.index()] };
            differs(&name, end.admin_up, end.mtu, carrier);
        }
        let shaped = end.shaping.filter(|_| is_ours || end.port.is_some());
        if shaped.is_some_and(|now| !now.is_like(&Shaping::of(&attrs))) {
            found.push(format!("what slows down {name} was changed"));
        }
    }
    found
}
