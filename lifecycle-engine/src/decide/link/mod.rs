//! Links: built when both ends can be attached to, verified before they are called up, repaired when they break, and
//! removed without a trace.
//!
//! A link is *wired* once it is built; it is *up* once both its nodes run and it was read back after the last change of
//! either end. What a node does to its own interface is reported and left alone.

mod connect;
mod handover;
mod keep;
mod mend;
mod ours;
mod outcome;
mod park;
mod remove;
mod report;
mod span;
mod strict;

use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::machine::{LinkIntent, LinkState, NodeState};
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::enforcement;
use lifecycle_core::policy::link::Side;
use lifecycle_core::time::BootInstant;
use lifecycle_core::topology::Admin;

use super::effect::{Action, Done, EffectId, Subject};
use super::node;
use super::planted::Bug;
use super::{Cx, Ledger, Why, World};

pub(super) use handover::{BackendChange, Wish};
pub(super) use outcome::take as take_outcome;
pub(super) use park::stays;
pub(super) use remove::lose_end;
pub(super) use report::refresh_oper;
pub(super) use span::underlay_read;

/// What is being done about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPhase {
    /// Nothing.
    Idle,
    /// It is being built.
    Connect,
    /// What was built is being put right in place.
    Mend,
    /// What was built goes from one backend to another, with its ends in place.
    HandOver,
    /// It is being removed.
    Disconnect,
    /// It was removed, and whether nothing is left is being read.
    Confirm,
    /// It is being read back.
    Verify,
    /// Its attributes are being changed.
    SetParams,
    /// An end is being given or taken its carrier.
    SetCarrier(Side, bool),
    /// The tunnel of the half at a side is being led elsewhere.
    Redirect(Side),
}

/// What is under way or due for a link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkWork {
    /// What is being done.
    pub phase: LinkPhase,
    /// The effect that does it.
    pub effect: Option<EffectId>,
    /// Of a link between two hosts: what is asked of the second once the first has answered.
    pub second: Option<(HostName, Action)>,
    /// What the first answered.
    pub first: Option<Done>,
    /// It has to be read back: something about it may have changed.
    pub unverified: bool,
    /// Something changed while it was being read back.
    pub again: bool,
    /// What was built was found to be right at least once.
    pub proved: bool,
    /// When news came in that something about it may have changed.
    pub doubted: Option<BootInstant>,
    /// What was set by hand at an end is being put back.
    pub put_back: bool,
    /// What was built is no longer what it was, and mending it in place comes before building it anew.
    pub mend: bool,
    /// It stood and was set otherwise, was set right, and was not found to be right since.
    pub set_right: bool,
}

impl Default for LinkWork {
    fn default() -> Self {
        Self {
            phase: LinkPhase::Idle,
            effect: None,
            second: None,
            first: None,
            unverified: true,
            again: false,
            proved: false,
            doubted: None,
            put_back: false,
            mend: false,
            set_right: false,
        }
    }
}

/// Looks at a link and does the next thing that it needs.
pub(super) fn advance(cx: &mut Cx<'_>, id: LinkId) {
    let Some(link) = cx.world.links.get(&id) else { return };
    if link.actual == LinkState::Up && !nodes_run(cx.world, link) {
        cx.link_becomes(id, LinkState::Down, Why::enforcement().because("a node at its end does not run"));
    }
    if cx.world.is_busy(Subject::Link(id)) {
        return;
    }
    let Some(link) = cx.world.links.get(&id) else { return };
    if link.deleting {
        return remove::remove(cx, id);
    }
    if !backend_answers(cx.world, link) {
        return refresh_oper(cx, id, None);
    }
    if lost_its_place(cx.world, link) {
        if link.span.is_some() {
            // The other half stands, on its own host.
            return remove::remove_halves(cx, id);
        }
        void(cx, id, "the place that it was attached to is gone");
    } else if link.identity.is_some() && link.rebuild {
        return mend::repair(cx, id);
    }
    let Some(link) = cx.world.links.get(&id) else { return };
    if !is_attachable(cx.world, link) {
        if link.identity.is_none() && link.applied.is_some() {
            // What an attempt without answer may have left is not built upon any more: it is a leftover from now on.
            cx.change_link(id, |link| (link.incarnation, link.applied) = (link.incarnation + 1, None));
            outcome::look_for_leftovers(cx.world, id);
        }
        refresh_oper(cx, id, None);
        return;
    }
    if link.identity.is_none() {
        return build(cx, id);
    }
    if !handover::hand_over(cx, id) {
        keep::keep(cx, id);
    }
}

/// Whether the providers of its nodes answer, so that it is known which instances are there.
fn backend_answers(world: &World, link: &LinkRecord) -> bool {
    let mut nodes = link.nodes.iter().flatten().map(|id| world.nodes.get(id));
    nodes.all(|node| node.is_some_and(|node| node::provider_answers(world, node)))
}

/// Whether both ends can be attached to.
fn is_attachable(world: &World, link: &LinkRecord) -> bool {
    link.nodes.iter().flatten().all(|node| node::is_attachable(world, *node))
}

/// Whether an end was attached to an instance that is there no longer: then nothing of the link is left on its host.
fn lost_its_place(world: &World, link: &LinkRecord) -> bool {
    link.halves().flat_map(|(_, identity)| identity.ends()).any(|end| {
        let Some(node) = end.point.node else { return false };
        let current = world.nodes.get(&node).and_then(|node| node.instance.as_ref());
        current.is_none_or(|instance| instance.reference.incarnation != end.point.incarnation)
    })
}

/// Forgets what was built, since nothing of it is left.
pub(super) fn void(ledger: &mut Ledger<'_>, id: LinkId, reason: &str) {
    let step = u64::from(!ledger.world.has_bug(Bug::ReusesALinkIncarnation));
    outcome::look_behind(ledger.world, id);
    ledger.change_link(id, |link| {
        link.identity = None;
        if let Some(span) = &mut link.span {
            span.identity = None;
        }
        link.applied = None;
        link.rebuild = false;
        link.incarnation += step;
    });
    ledger.world.link_work.remove(&id);
    let Some(link) = ledger.world.links.get(&id) else { return };
    if link.budget.given_up_at.is_none() {
        return to_pending(ledger, id, reason);
    }
    // A link that was given up stays so until its user wants it again.
    let (state, message) = (link.actual, link.budget.give_up_message());
    if state == LinkState::Up {
        ledger.link_becomes(id, LinkState::Down, Why::enforcement().because(reason));
    }
    if state != LinkState::Error {
        ledger.link_becomes(id, LinkState::Error, Why::enforcement().error(message));
    }
}

/// Takes a link back to where it waits to be built.
fn to_pending(ledger: &mut Ledger<'_>, id: LinkId, reason: &str) {
    let Some(state) = ledger.world.links.get(&id).map(|link| link.actual) else { return };
    let why = || Why::enforcement().because(reason);
    match state {
        LinkState::Up => {
            ledger.link_becomes(id, LinkState::Down, why());
            ledger.link_becomes(id, LinkState::Pending, why());
        }
        LinkState::Pending => {}
        LinkState::Unknown | LinkState::Creating | LinkState::Down | LinkState::Error => {
            ledger.link_becomes(id, LinkState::Pending, why());
        }
    }
}

/// Builds a link, when its budget allows it.
fn build(cx: &mut Cx<'_>, id: LinkId) {
    let Some(link) = cx.world.links.get(&id) else { return };
    if link.budget.given_up_at.is_some() {
        return refresh_oper(cx, id, None);
    }
    if park::waits_for_another(cx.world, link) {
        return refresh_oper(cx, id, None);
    }
    if is_early(cx, id) {
        return;
    }
    connect::connect(cx, id);
}

/// Whether the next attempt is not due yet; then the link is looked at again when it is.
fn is_early(cx: &mut Cx<'_>, id: LinkId) -> bool {
    let due = cx.world.links.get(&id).map_or(0, |link| enforcement::due_millis(link.budget.next_attempt, cx.now.boot));
    let early = due > cx.now.boot.millis;
    if early {
        cx.wake_after(std::time::Duration::from_millis(due - cx.now.boot.millis), Subject::Link(id));
    }
    early
}

/// Whether the nodes at both ends run.
fn nodes_run(world: &World, link: &LinkRecord) -> bool {
    let mut run =
        link.nodes.iter().flatten().map(|id| world.nodes.get(id).is_some_and(|node| node.actual == NodeState::Running));
    if world.has_bug(Bug::UpWithOneNode) { run.any(|runs| runs) } else { run.all(|runs| runs) }
}

/// Asks for an effect on what was built, on both halves of a link between two hosts.
fn ask(cx: &mut Cx<'_>, id: LinkId, phase: LinkPhase, action: impl Fn(Box<LinkIdentity>) -> Action) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let halves = link.halves().map(|(host, identity)| (host.clone(), action(Box::new(identity.clone()))));
    begin(cx, id, phase, halves.collect());
}

/// Asks for an effect on what was built at a side.
fn ask_at(cx: &mut Cx<'_>, id: LinkId, side: Side, phase: LinkPhase, action: impl Fn(Box<LinkIdentity>) -> Action) {
    let Some(link) = cx.world.links.get(&id) else { return };
    let Some((host, identity)) = span::half(link, side) else { return };
    let asked = (host.clone(), action(Box::new(identity.clone())));
    begin(cx, id, phase, vec![asked]);
}

/// Whether a backend could not be reached the last time; its links are looked at again when it can.
fn is_lost(world: &World, host: &HostName, backend: &PluginName) -> bool {
    world.backend(host, backend).is_some_and(|backend| backend.unreachable)
}

/// Asks for an effect on each host: of the second once the first has answered.
fn begin(cx: &mut Cx<'_>, id: LinkId, phase: LinkPhase, asked: Vec<(HostName, Action)>) {
    let Some(link) = cx.world.links.get(&id) else { return };
    if asked.iter().any(|(host, action)| is_lost(cx.world, host, action.backend(link))) {
        return refresh_oper(cx, id, None);
    }
    let mut asked = asked.into_iter();
    let Some((host, action)) = asked.next() else { return };
    if phase == LinkPhase::Verify && cx.world.has_bug(Bug::TrustsOneHalf) {
        asked.by_ref().for_each(drop);
    }
    if action.is_mutating() && link.budget.next_attempt.is_some() {
        // This is the attempt that was waited for: a reboot in the middle of it starts no wait again.
        cx.change_link(id, |link| link.budget.next_attempt = None);
    }
    let work = cx.world.link_work.entry(id).or_default();
    (work.phase, work.second, work.first) = (phase, asked.next(), None);
    ask_of(cx, id, host, action);
}

/// Asks for an effect on one host.
fn ask_of(cx: &mut Cx<'_>, id: LinkId, host: HostName, action: Action) {
    let Some(backend) = cx.world.links.get(&id).map(|link| action.backend(link).clone()) else { return };
    let limits = &cx.world.settings.limits;
    let timeout = if action.is_mutating() { limits.connecting } else { limits.reading };
    let effect = cx.ask(host, backend, Subject::Link(id), action, timeout);
    cx.world.link_work.entry(id).or_default().effect = Some(effect);
}

/// Whether every link at a node that can be there is there, so that its process finds its interfaces.
pub(super) fn are_wired(world: &World, id: NodeId) -> bool {
    world.links_at(id).all(|link| {
        if link.deleting || link.actual == LinkState::Error || link.budget.given_up_at.is_some() {
            return true;
        }
        let far = link.nodes.iter().flatten().find(|node| **node != id);
        if far.is_some_and(|far| world.nodes.get(far).is_some_and(|node| node.stale_since.is_some())) {
            return true;
        }
        if far.is_some_and(|far| !node::is_attachable(world, *far)) {
            // Worth waiting for only when the far node is on its way by itself.
            return !far.is_some_and(|far| node::is_coming(world, *far));
        }
        let sides = link.nodes.iter().zip(link.carrier).filter(|(node, _)| **node == Some(id));
        let has_carrier = sides.into_iter().all(|(_, carrier)| carrier == Some(true));
        link.identity.is_some()
            && !link.rebuild
            && link.leaves().is_none()
            && (has_carrier || link.spec.attrs.admin == Admin::Down)
    })
}

/// Has a link read back, since something about it may have changed.
pub(super) fn doubt(world: &mut World, id: LinkId, now: BootInstant) {
    if world.links.get(&id).is_none_or(|link| link.identity.is_none()) {
        return;
    }
    doubt_proof(world, id);
    world.link_work.entry(id).or_default().doubted.get_or_insert(now);
    world.touch_link(id);
}

/// What was read of the links of a node proves nothing any more, since the node started or ended.
pub(super) fn doubt_proofs_at(world: &mut World, node: NodeId) {
    let links: Vec<LinkId> = world.links_at(node).filter(|link| link.identity.is_some()).map(|link| link.id).collect();
    links.into_iter().for_each(|id| doubt_proof(world, id));
}

/// What was read of a link, or is just being read, proves nothing any more.
fn doubt_proof(world: &mut World, id: LinkId) {
    let work = world.link_work.entry(id).or_default();
    work.again |= work.effect.is_some() && work.phase == LinkPhase::Verify;
    work.unverified = true;
}

/// What its user wants of a link with these attributes.
pub(super) fn intent(admin: Admin) -> LinkIntent {
    match admin {
        Admin::Up => LinkIntent::Up,
        Admin::Down => LinkIntent::Down,
    }
}
