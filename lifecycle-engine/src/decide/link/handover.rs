//! Links that go to another backend while they stand.
//!
//! Two backends that attach ends the same way hand a link over: the one that has it removes what is its own and leaves the
//! ends, and the other connects the link under the same mark, which takes the ends over as they are. The row tells from
//! before the first step to after the last where the link goes, and its identity where it comes from. While the two
//! differ, both steps are asked for, as often as it takes and by whichever controller: each is idempotent. Between any
//! other two backends a link is removed and built anew.

use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::topology::{Admin, LinkSpec, Topology};

use super::super::effect::Action;
use super::super::planted::Bug;
use super::super::{Cx, Why, World};
use super::connect::{self, Obstacle};
use super::outcome::{count_failure, give_up, look_at_nodes, to_error, wait};
use super::{LinkPhase, begin, doubt_proof, is_early, is_lost, mend, refresh_oper};

/// What is wished of the backend of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Wish<'a> {
    /// This one and no other.
    Binding(&'a PluginName),
    /// This one, where it can.
    Preferred(&'a PluginName),
}

impl<'a> Wish<'a> {
    /// By the link itself, its lab, and what the controller prefers, in that order.
    pub(in super::super) fn new(link: &'a LinkSpec, lab: Option<&'a Topology>, otherwise: &'a PluginName) -> Self {
        let preferred = || lab.and_then(|lab| lab.settings.backend.as_ref()).unwrap_or(otherwise);
        link.backend.as_ref().map_or_else(|| Self::Preferred(preferred()), Self::Binding)
    }

    /// By what is recorded.
    pub(in super::super) fn of(world: &'a World, link: &'a LinkRecord) -> Self {
        let lab = world.labs.get(&link.lab).map(|lab| &*lab.topology);
        Self::new(&link.spec, lab, &world.settings.backend)
    }
}

/// What another wish means for a link that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct BackendChange {
    /// The backend that has it.
    pub(in super::super) from: PluginName,
    /// The backend that it goes to.
    pub(in super::super) to: PluginName,
    /// Its ends stay as they are.
    pub(in super::super) keeps_ends: bool,
}

impl BackendChange {
    /// What a wish means for a link; nothing when it stays where it is, or is not built.
    ///
    /// # Errors
    /// Why the wish cannot be had.
    pub(in super::super) fn by(world: &World, link: &LinkRecord, wish: Wish<'_>) -> Result<Option<Self>, String> {
        if link.identity.is_none() {
            return Ok(None);
        }
        match connect::chosen(world, link, wish) {
            Err(Obstacle::For(reason)) => Err(reason),
            Ok(to) if to != link.backend => {
                // On the way between two backends it cannot go to a third.
                let keeps_ends = link.leaves().is_none() && can_hand_over(world, link, &to);
                let from = link.backend.clone();
                Ok(Some(Self { from, to, keeps_ends }))
            }
            Ok(_) | Err(Obstacle::NotYet) => Ok(None),
        }
    }

    /// In words, with what becomes of the ends.
    pub(in super::super) fn describe(&self, link: &LinkSpec) -> String {
        let Self { from, to, keeps_ends } = self;
        if *keeps_ends {
            return format!("from {from} to {to}, with its interfaces in place");
        }
        let ends: Vec<String> =
            link.ends().iter().filter(|end| end.as_node().is_some()).map(ToString::to_string).collect();
        format!("from {from} to {to}: {} made anew, without addresses and with another index", ends.join(" and "))
    }
}

/// Whether a link that stands can be handed over to another backend with its ends in place. A half of a link between two
/// hosts cannot, since its tunnel is no interface that both know.
fn can_hand_over(world: &World, link: &LinkRecord, to: &PluginName) -> bool {
    let capabilities = |name| Some(&world.backend(link.host.as_ref()?, name)?.capabilities);
    let Ok(places) = connect::places(world, link) else { return false };
    let whole = link.span.is_none() && link.identity.as_ref().is_some_and(|it| it.incarnation == link.incarnation);
    let both = capabilities(&link.backend).zip(capabilities(to));
    whole && both.is_some_and(|(from, to)| from.can_hand_over(to, places))
}

/// Does the next thing about a link that goes to another backend. False when there is nothing to do about that.
pub(super) fn hand_over(cx: &mut Cx<'_>, id: LinkId) -> bool {
    let Some(link) = cx.world.links.get(&id) else { return false };
    if link.leaves().is_some() {
        go_on(cx, id);
        return true;
    }
    let Some(to) = link.next_backend.clone().filter(|to| *to != link.backend) else { return false };
    if [&to, &link.backend].into_iter().any(|name| link.hosts().any(|host| is_lost(cx.world, host, name))) {
        // It is better off where it is.
        return false;
    }
    if !can_hand_over(cx.world, link, &to) {
        cx.change_link(id, |link| (link.rebuild, link.next_backend) = (true, None));
        cx.world.touch_link(id);
        return true;
    }
    if link.actual == LinkState::Up && !cx.world.has_bug(Bug::StaysUpWhileHandedOver) {
        cx.link_becomes(id, LinkState::Down, Why::enforcement().because(format!("it is handed over to {to}")));
    }
    cx.change_link(id, |link| (link.backend, link.next_backend) = (to, None));
    go_on(cx, id);
    true
}

/// Asks for both steps, or waits for the time to do so.
pub(super) fn go_on(cx: &mut Cx<'_>, id: LinkId) {
    let Some(link) = cx.world.links.get(&id) else { return };
    if link.next_backend.is_some() {
        // Something else is wished for before this came to an end, and nobody knows how far it came.
        cx.change_link(id, |link| (link.rebuild, link.next_backend) = (true, None));
        return cx.world.touch_link(id);
    }
    if link.budget.given_up_at.is_some() {
        return refresh_oper(cx, id, None);
    }
    let steps = link.host.clone().zip(link.identity.clone()).zip(connect::plan_elsewhere(cx.world, link));
    let Some(((host, built), connect)) = steps else {
        cx.change_link(id, |link| link.rebuild = true);
        return cx.world.touch_link(id);
    };
    let up = link.attrs().admin == Admin::Up;
    if is_early(cx, id) {
        return;
    }
    let release = (!cx.world.has_bug(Bug::TakesWithoutAsking)).then(|| (host, Action::Release(Box::new(built))));
    cx.change_link(id, |link| link.carrier = [Some(up); 2]);
    begin(cx, id, LinkPhase::HandOver, release.into_iter().chain(connect).collect());
}

/// Another backend has it now; whether it stands there is read back.
pub(super) fn handed_over(cx: &mut Cx<'_>, id: LinkId, built: LinkIdentity) {
    // What its user changed meanwhile may take more.
    let rebuild = cx.world.links.get(&id).is_some_and(|link| link.rebuild);
    mend::mended(cx, id, built, None);
    cx.change_link(id, |link| link.rebuild |= rebuild);
}

/// Either backend may have parts of it, and both steps are asked for again.
pub(super) fn not_handed_over(cx: &mut Cx<'_>, id: LinkId, error: &Error) {
    doubt_proof(cx.world, id);
    match error.kind() {
        ErrorKind::Unreachable => {}
        ErrorKind::NotFound => {
            look_at_nodes(cx, id);
            wait(cx, id);
        }
        kind if kind.may_pass() || kind.is_unknown() => count_failure(cx, id, error),
        _ => give_up(cx, id, &error.chain()),
    }
    if cx.world.links.get(&id).is_some_and(|link| link.budget.given_up_at.is_some()) {
        to_error(cx, id, &error.chain());
    }
}
