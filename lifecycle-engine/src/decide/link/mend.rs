//! The ladder of repairs: what is no longer what was built is mended in place first, and built anew when that did not help.
//!
//! Mending is connecting once more under the same mark. A backend puts right what is its own, so that the nodes keep their
//! interfaces, and what is on them, wherever that can be.

use lifecycle_core::error::Error;
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::topology::Admin;

use super::super::Cx;
use super::super::effect::Done;
use super::outcome::{record, wake_nodes};
use super::{LinkPhase, begin, connect, doubt_proof, is_attachable, is_early, remove};

/// Does the next thing about a link that is no longer what was built.
pub(super) fn repair(cx: &mut Cx<'_>, id: LinkId) {
    if !mend(cx, id) {
        cx.world.link_work.entry(id).or_default().mend = false;
        remove::rebuild(cx, id);
    }
}

/// Asks for a link to be mended, or waits for the time to do so. False when it has to be built anew.
fn mend(cx: &mut Cx<'_>, id: LinkId) -> bool {
    let Some(link) = cx.world.links.get(&id) else { return false };
    let wanted = cx.world.link_work.get(&id).is_some_and(|work| work.mend)
        && link.budget.given_up_at.is_none()
        && link.leaves().is_none()
        && link.applied == Some(link.attrs())
        && link.halves().all(|(_, half)| half.incarnation == link.incarnation)
        && is_attachable(cx.world, link);
    if !wanted {
        return false;
    }
    let Some(plans) = connect::plan_again(cx.world, link) else { return false };
    let up = link.attrs().admin == Admin::Up;
    if !is_early(cx, id) {
        cx.change_link(id, |link| link.carrier = [Some(up); 2]);
        begin(cx, id, LinkPhase::Mend, plans);
    }
    true
}

/// It was connected once more; whether that helped is read back.
pub(super) fn mended(cx: &mut Cx<'_>, id: LinkId, last: LinkIdentity, first: Option<Done>) {
    cx.change_link(id, |link| record(link, last, first));
    let work = cx.world.link_work.entry(id).or_default();
    (work.unverified, work.again, work.proved, work.mend) = (true, false, false, false);
    wake_nodes(cx, id);
}

/// It could not be mended, or nobody knows: it is built anew. While its backend cannot be reached, mending still comes first.
pub(super) fn not_mended(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    doubt_proof(cx.world, id);
    cx.world.link_work.entry(id).or_default().mend = error.kind().is_unreachable();
}
