//! Planted bugs: mistakes that somebody could well make, of which the simulator has to find each.
//!
//! A simulator that finds nothing says little by itself. With the feature `planted-bugs`, which only tests turn on,
//! a [`World`] can be told to make one of these mistakes; without it [`World::has_bug`] is `false` at compile time and
//! nothing of them is left. Each bug names the invariants of which it breaks at least one, and
//! `lifecycle-testkit/tests/planted_bugs.rs` holds it to that.
//!
//! Where a bug is one condition, it stands as such where the mistake would be made. Where it takes more, the code is
//! here, so that the engine stays readable.

use lifecycle_core::error::Error;
use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::NodeRecord;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::provider::{InstanceState, ObservedNode};
use lifecycle_core::policy::enforcement::EnforcementFacts;

use super::effect::{Done, Outcome, Subject};
use super::node::Phase;
use super::{Ledger, Why, World, link};

/// A mistake that can be planted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumMessage, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub))]
pub enum Bug {
    /// A list is believed although something was done to the node since it was asked for. Easily forgotten, since lists
    /// and effects seldom cross.
    TrustsOldLists,
    /// Synchronisation that finds a stopped node running takes it that it is wanted so. It spares a stop, and overrides
    /// the user.
    SyncChangesDesired,
    /// An instance is adopted by its node's identifier alone, whichever incarnation it is of.
    AdoptsAnyIncarnation,
    /// A running node that is missing from a list is taken to be left out by mistake, so that one bad list does no harm.
    TakesAbsenceForAHiccup,
    /// A process that ends by itself is started again and not counted: it is not an operation of ours that failed.
    CrashesCostNothing,
    /// A node that moves is stopped as soon as its new host is chosen, before the image is there: it saves a wait.
    MovesBeforeTheTargetIsReady,
    /// A removal whose answer was lost is taken to have happened: it mostly did.
    BelievesALostDestroy,
    /// A removal that was reported as done is not read back before the node is made elsewhere.
    TrustsAReportedDestroy,
    /// A creation whose answer was lost is asked for again at once, without a look at what it came to.
    CreatesBlindlyAgain,
    /// A node whose host cannot be reached is started on another, though nobody knows whether it still runs on the first.
    FailsOverWithoutFencing,
    /// An attempt that fails keeps its place among the operations of its provider: one way out of many was forgotten.
    KeepsASlot,
    /// A stopped node reserves nothing, so that others take the room in which it would have to start again.
    StoppedNodesNeedNothing,
    /// Only instances that exist reserve anything: what is just being made is overlooked.
    ReservesOnlyWhatIsThere,
    /// The next attempt does not wait for its time.
    RetriesWithoutBackoff,
    /// That a node was given up does not keep enforcement from it.
    NeverGivesUp,
    /// Each failure overwrites the cause of the first.
    OverwritesTheFirstCause,
    /// After a reboot a wait still counts from a moment of the boot before.
    KeepsWaitsOfAnotherBoot,
    /// A start that ends late, after its user asked for a stop, takes the stop back.
    StartOverridesAStop,
    /// A restart takes the node's links for lost and builds them anew.
    RestartLosesLinks,
    /// A link that was read while something about it changed is taken to be read after the change.
    TrustsOldReadings,
    /// What was read of a link before its node ended is taken to hold for the node's next run.
    KeepsProofsOverARestart,
    /// A link is up although only one of its nodes runs.
    UpWithOneNode,
    /// The row of a link is removed before the backend has confirmed that the link is gone: it is quicker.
    DropsALinkBeforeItIsGone,
    /// The next instance of a node bears the mark of the one before.
    ReusesAnIncarnation,
    /// A link that is built again bears the mark of the one before.
    ReusesALinkIncarnation,
    /// News about a node that is just being created set off a second creation.
    NewsStartASecondCreate,
    /// The instance of a node that is not to run is taken to be left over.
    CollectsWhatIsStopped,
    /// Something that could not be removed stays marked as being removed, and is never tried again.
    ForgetsAFailedRemoval,
    /// A node whose process ended becomes `exited` without a row in the audit trail.
    LosesAnAuditRow,
    /// Followers of the feed are not told that a lab changes when one of its nodes is removed.
    FeedMissesARemoval,
    /// An effect is asked for in a step that commits nothing, so that a controller that was replaced still acts.
    ActsWithoutCommitting,
    /// The host that a user chose is passed over while it cannot be reached.
    ExplicitHostIsAWish,
    /// The answer to a bulk call leaves out the nodes that were in a transition.
    BulkOmitsTransitions,
    /// A transition that has lasted too long and that nobody works on is left alone.
    ForgetsLostWork,
    /// The ends of a link are given to another as soon as it is to be removed.
    FreesALinkKeyTooEarly,
    /// An index keeps an entry for a node that was removed: memory leaks.
    IndexKeepsTheDead,
    /// A job on many nodes is over when the first of them is there.
    JobEndsWithItsFirstNode,
    /// A job that another takes a node over from is not told, and stays open.
    LeavesAJobOpen,
    /// Nodes of a provider that cannot be reached are not marked stale.
    DoesNotMarkStale,
    /// A controller acts on what is stored before it has read what is true.
    ActsBeforeReading,
    /// One half of a link between two hosts cannot be built, and the other is forgotten: it never came to be, after all.
    LeavesHalfALink,
    /// A link between two hosts is up once the half on the first host was found to be right.
    TrustsOneHalf,
    /// Each link between two hosts takes the first identifier for its tunnel, since links have bridges of their own.
    SharesATunnel,
    /// A host that has another address is still sought at the old one.
    KeepsAnOldAddress,
    /// A link between two hosts keeps the MTU that fitted through its tunnel when it was built.
    KeepsAnOldMtu,
    /// Links whose backend cannot be reached stay up: their frames mostly pass.
    KeepsLinksOfALostBackend,
    /// The backend that a link is handed over from is not asked to let go of it: the next one takes the ends anyway.
    TakesWithoutAsking,
    /// A link that is handed over to another backend stays up meanwhile: it is but a moment.
    StaysUpWhileHandedOver,
    /// What is parked of one link for another is not noted with the other: it will find it when it is built.
    ParksWithoutARecord,
    /// A link takes over what was parked for it with the attributes of the link that had it before.
    TakesParkedEndsAsTheyWere,
    /// Effects are started before their batch is committed. It stands in the simulator's stand-in for the driver.
    ActsBeforeCommit,
}

#[cfg(feature = "planted-bugs")]
impl Bug {
    /// The invariants of which it breaks at least one.
    pub const fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::FailsOverWithoutFencing => &["I1", "I6"],
            Self::ExplicitHostIsAWish => &["I2"],
            Self::ActsWithoutCommitting => &["I3"],
            Self::DropsALinkBeforeItIsGone => &["I4"],
            Self::AdoptsAnyIncarnation => &["I4", "I23"],
            Self::MovesBeforeTheTargetIsReady => &["I5"],
            Self::BelievesALostDestroy | Self::TrustsAReportedDestroy | Self::CreatesBlindlyAgain => &["I6"],
            Self::TrustsOldLists | Self::TakesAbsenceForAHiccup => &["I7"],
            Self::DoesNotMarkStale => &["I7", "L1"],
            Self::LeavesHalfALink => &["I4"],
            Self::SharesATunnel => &["I12"],
            Self::KeepsAnOldAddress | Self::KeepsAnOldMtu | Self::TakesParkedEndsAsTheyWere => &["L1"],
            Self::TakesWithoutAsking => &["I13"],
            Self::TrustsOneHalf
            | Self::TrustsOldReadings
            | Self::KeepsProofsOverARestart
            | Self::UpWithOneNode
            | Self::KeepsLinksOfALostBackend
            | Self::StaysUpWhileHandedOver => &["I9"],
            Self::NeverGivesUp | Self::OverwritesTheFirstCause => &["I14"],
            Self::RetriesWithoutBackoff => &["I15"],
            Self::JobEndsWithItsFirstNode | Self::LeavesAJobOpen => &["I16"],
            Self::ForgetsAFailedRemoval | Self::IndexKeepsTheDead => &["I17"],
            Self::KeepsASlot => &["I17", "L1"],
            Self::FreesALinkKeyTooEarly => &["I11", "I19"],
            Self::ForgetsLostWork => &["I20"],
            Self::SyncChangesDesired | Self::StartOverridesAStop => &["I21"],
            Self::LosesAnAuditRow => &["I22"],
            Self::ActsBeforeCommit | Self::CollectsWhatIsStopped | Self::ParksWithoutARecord => &["I23"],
            Self::ActsBeforeReading => &["I6"],
            Self::BulkOmitsTransitions => &["I24"],
            Self::RestartLosesLinks | Self::NewsStartASecondCreate => &["I25"],
            Self::StoppedNodesNeedNothing | Self::ReservesOnlyWhatIsThere => &["I28"],
            Self::FeedMissesARemoval => &["I29"],
            Self::ReusesAnIncarnation | Self::ReusesALinkIncarnation => &["I30"],
            Self::CrashesCostNothing | Self::KeepsWaitsOfAnotherBoot => &["L1"],
        }
    }

    /// What is wrong, in words.
    pub fn what(self) -> String {
        let lines = strum::EnumMessage::get_documentation(&self).unwrap_or_default();
        lines.replace('\n', " ")
    }
}

#[cfg(feature = "planted-bugs")]
impl World {
    /// Plants a bug: from now on the engine makes that mistake.
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Whether a bug is planted.
    #[inline]
    pub fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl World {
    /// Whether a bug is planted: this build has none.
    #[inline]
    pub(super) const fn has_bug(&self, _: Bug) -> bool {
        false
    }
}

/// [`Bug::SyncChangesDesired`]: what is seen to run is wanted to run.
pub(super) fn want_what_is_seen(ledger: &mut Ledger<'_>, id: NodeId, seen: &ObservedNode) {
    if ledger.world.has_bug(Bug::SyncChangesDesired)
        && seen.state == InstanceState::Running
        && ledger.world.nodes.get(&id).is_some_and(|row| !row.deleting)
    {
        ledger.node_desired(id, NodeIntent::Running, Why::sync());
    }
}

/// [`Bug::StartOverridesAStop`]: what was started is wanted to run.
pub(super) fn override_a_stop(ledger: &mut Ledger<'_>, id: NodeId) {
    if ledger.world.has_bug(Bug::StartOverridesAStop) {
        ledger.node_desired(id, NodeIntent::Running, Why::outcome());
    }
}

/// [`Bug::BelievesALostDestroy`]: a lost answer is taken for a good one.
pub(super) fn believe(world: &World, phase: Phase, outcome: Outcome) -> Outcome {
    match outcome {
        Err(error)
            if world.has_bug(Bug::BelievesALostDestroy) && phase == Phase::Destroy && error.kind().is_unknown() =>
        {
            Ok(Done::Nothing)
        }
        outcome => outcome,
    }
}

/// [`Bug::CreatesBlindlyAgain`]: the phase stays, and asks again.
pub(super) fn tries_again_blindly(world: &World, phase: Phase, error: &Error) -> bool {
    world.has_bug(Bug::CreatesBlindlyAgain) && phase == Phase::Create && error.kind().is_unknown()
}

/// [`Bug::NewsStartASecondCreate`]: the news are acted on at once, and what is under way is not minded.
pub(super) fn act_on_news(world: &mut World, id: NodeId) {
    let bugged = world.has_bug(Bug::NewsStartASecondCreate);
    if let Some(work) = world.node_work.get_mut(&id).filter(|work| bugged && work.phase == Phase::Create) {
        work.effect = None;
        world.touch_node(id);
    }
}

/// [`Bug::FailsOverWithoutFencing`]: what cannot be reached is taken to be gone.
pub(super) fn fail_over(ledger: &mut Ledger<'_>, id: NodeId) {
    let explicit = ledger.world.spec(id).is_none_or(|spec| spec.host.is_some());
    if !ledger.world.has_bug(Bug::FailsOverWithoutFencing) || explicit || ledger.world.is_busy(Subject::Node(id)) {
        return;
    }
    super::node::lose_instance(ledger, id);
    ledger.change_node(id, |row| (row.host, row.stale_since) = (None, None));
    ledger.node_is(id, NodeState::Undeployed, Why::drift().because("its host is taken to be dead"));
}

/// [`Bug::RestartLosesLinks`]: nothing is known of the links of a node that was stopped.
pub(super) fn lose_links(ledger: &mut Ledger<'_>, id: NodeId) {
    let restarts = ledger.world.node_work.get(&id).is_some_and(|work| work.then_run);
    if ledger.world.has_bug(Bug::RestartLosesLinks) && restarts {
        let links: Vec<LinkId> = ledger.world.links_at(id).map(|link| link.id).collect();
        links.into_iter().for_each(|link| link::void(ledger, link, "its node is being restarted"));
    }
}

/// [`Bug::StoppedNodesNeedNothing`].
pub(super) fn needs_nothing(world: &World, node: &NodeRecord) -> bool {
    world.has_bug(Bug::StoppedNodesNeedNothing) && node.actual == NodeState::Stopped
}

/// [`Bug::ExplicitHostIsAWish`]: it is passed over while its provider does not answer.
pub(super) fn is_only_a_wish(world: &World, host: &HostName, provider: &PluginName) -> bool {
    let provider = world.hosts.get(host).and_then(|host| host.providers.get(provider));
    world.has_bug(Bug::ExplicitHostIsAWish) && provider.is_some_and(|provider| provider.unreachable)
}

/// [`Bug::ActsBeforeReading`]: to be reachable is enough.
pub(super) fn needs_no_reading(world: &World, host: &HostName, provider: &PluginName) -> bool {
    let provider = world.hosts.get(host).and_then(|host| host.providers.get(provider));
    world.has_bug(Bug::ActsBeforeReading) && provider.is_some_and(|provider| !provider.unreachable)
}

/// [`Bug::TrustsAReportedDestroy`] and [`Bug::BelievesALostDestroy`].
pub(super) fn trusts_a_destroy(world: &World) -> bool {
    world.has_bug(Bug::TrustsAReportedDestroy) || world.has_bug(Bug::BelievesALostDestroy)
}

/// What enforcement looks at, without what a bug overlooks.
pub(super) fn facts(world: &World, facts: EnforcementFacts) -> EnforcementFacts {
    let hasty = world.has_bug(Bug::RetriesWithoutBackoff) && !facts.state.is_transitional();
    EnforcementFacts {
        due_millis: if hasty { 0 } else { facts.due_millis },
        given_up: facts.given_up && !world.has_bug(Bug::NeverGivesUp),
        ..facts
    }
}
