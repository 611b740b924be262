//! The lifecycle of nodes: brings each node to where it is wanted, phase by phase.
//!
//! Work on a node has a goal and a phase. Phases follow one another as in the table below; each is one function that
//! either asks for one effect, waits for something else, or goes on at once.
//!
//! ```text
//! run:     place → image → create → wire → start → configure
//! stop:    stop
//! remove:  destroy
//! remake:  prepare → fetch → stop → destroy → look, then run
//! ```
//!
//! A node that waits for others is held back before *start* and *configure*; see `stage`.
//!
//! A node is made anew when what is wanted of it changed, or when its instance is broken; it may move to another host or
//! provider by that. Its new place is made ready first: reachable, resources reserved, image there. Only then is the old
//! instance touched, and only when it was seen to be gone does the new one come to be.
//!
//! An effect whose end is unknown is followed by `look`, which reads what is true before anything else is tried.

mod begin;
mod command;
mod deploy;
mod end;
mod halt;
mod outcome;
mod ready;
mod remake;
mod slot;
mod stage;
mod stagger;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::provider::InstanceRef;
use lifecycle_core::topology::Stage;

use super::effect::{Action, EffectId, Subject};
use super::planted;
use super::{Cx, World};

pub(super) use end::{count_failure, lose_instance};
pub(super) use outcome::take as take_outcome;
pub use ready::Probe;
pub(super) use remake::reconsider;

/// What work on a node is to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It runs.
    Run,
    /// It does not run; its instance stays.
    Stop,
    /// Its instance is gone.
    Remove,
}

/// Where work on a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Choosing a host.
    Place,
    /// Having the image there.
    Image,
    /// Making the instance.
    Create,
    /// Waiting for its links to be built.
    Wire,
    /// Starting its process.
    Start,
    /// Running the commands of its way up, once its process runs.
    Configure,
    /// Choosing the place of the next instance, while the present one is left alone.
    Prepare,
    /// Having the image there, while the present instance is left alone.
    Fetch,
    /// Ending its process.
    Stop,
    /// Removing the instance.
    Destroy,
    /// Reading what is true after an effect whose end is unknown, or after a restart of the controller.
    Look,
}

/// Work on a node that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWork {
    /// What it is to achieve.
    pub goal: Goal,
    /// Once the goal is reached, the node is to run again.
    pub then_run: bool,
    /// Where it is.
    pub phase: Phase,
    /// The effect that it waits for.
    pub effect: Option<EffectId>,
    /// Where it counts against the limit of operations.
    pub slot: Option<(HostName, PluginName)>,
    /// Where the next instance is going to be; its resources are reserved there.
    pub target: Option<HostName>,
    /// The stage that the node entered last on its way up.
    pub stage: Option<Stage>,
    /// It waits for other nodes before it enters the next one.
    pub held: bool,
    /// The commands that it runs before all others have ended.
    pub begun: bool,
}

impl NodeWork {
    pub(super) fn new(goal: Goal, phase: Phase) -> Self {
        Self {
            goal,
            then_run: false,
            phase,
            effect: None,
            slot: None,
            target: None,
            stage: None,
            held: false,
            begun: false,
        }
    }

    /// Whether an effect on the node is under way, which has to end before another one begins.
    pub(super) fn is_at_node(&self) -> bool {
        self.effect.is_some() && !matches!(self.phase, Phase::Image | Phase::Fetch)
    }

    /// Whether an effect is under way that makes, starts, stops or removes the node's instance, so that what is read of it
    /// meanwhile may be out of date at once.
    pub(super) fn is_at_instance(&self) -> bool {
        self.is_at_node() && self.phase != Phase::Configure
    }

    /// The same work, after which the node is to run again.
    pub(super) fn then_run(self) -> Self {
        Self { then_run: true, ..self }
    }
}

/// Whether a phase is over.
enum Flow {
    /// Go on with this phase now.
    Next(Phase),
    /// Wait: for the effect that was asked for, for a link, a slot or a moment.
    Wait,
    /// The work is done.
    Done,
}

/// Looks at a node: goes on with its work, or begins some.
pub(super) fn advance(cx: &mut Cx<'_>, id: NodeId) {
    if !cx.world.nodes.get(&id).is_some_and(|node| provider_answers(cx.world, node)) {
        return begin::without_provider(cx, id);
    }
    if !cx.world.node_work.contains_key(&id) {
        return begin::begin(cx, id);
    }
    halt::redirect(cx, id);
    loop {
        let Some(work) = cx.world.node_work.get(&id) else { return begin::begin(cx, id) };
        if work.effect.is_some() {
            return;
        }
        let flow = match work.phase {
            Phase::Place => deploy::place(cx, id),
            Phase::Image => deploy::image(cx, id),
            Phase::Create => deploy::create(cx, id),
            Phase::Wire => deploy::wire(cx, id),
            Phase::Start => deploy::start(cx, id),
            Phase::Configure => command::run(cx, id),
            Phase::Prepare => remake::prepare(cx, id),
            Phase::Fetch => remake::fetch(cx, id),
            Phase::Stop => halt::stop(cx, id),
            Phase::Destroy => halt::destroy(cx, id),
            Phase::Look => halt::look(cx, id),
        };
        match flow {
            Flow::Next(phase) => set_phase(cx.world, id, phase),
            Flow::Wait => return,
            Flow::Done => end::done(cx, id),
        }
    }
}

fn set_phase(world: &mut World, id: NodeId, phase: Phase) {
    if let Some(work) = world.node_work.get_mut(&id) {
        work.phase = phase;
    }
}

/// Whether the node's provider on its host was read since the controller started, and can be reached. A node that was
/// never placed needs no provider yet.
pub(super) fn provider_answers(world: &World, node: &lifecycle_core::model::NodeRecord) -> bool {
    let Some(host) = &node.host else { return true };
    world.answers(host, &node.provider) || planted::needs_no_reading(world, host, &node.provider)
}

/// The reference of a node's instance: the recorded one, or the one that it gets or would have got.
fn reference(world: &World, id: NodeId) -> Option<InstanceRef> {
    let node = world.nodes.get(&id)?;
    if let Some(instance) = &node.instance {
        return Some(instance.reference.clone());
    }
    Some(InstanceRef { node: id, incarnation: node.incarnation, identifier: String::new() })
}

/// Asks for an effect on a node where it is, and lets its work wait for it.
fn ask(cx: &mut Cx<'_>, id: NodeId, action: Action, timeout: std::time::Duration) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    let (Some(host), provider) = (node.host.clone(), node.provider.clone()) else { return Flow::Wait };
    ask_at(cx, id, host, provider, action, timeout)
}

/// Asks for an effect on a node at some place, and lets its work wait for it.
fn ask_at(
    cx: &mut Cx<'_>,
    id: NodeId,
    host: HostName,
    provider: PluginName,
    action: Action,
    timeout: std::time::Duration,
) -> Flow {
    let effect = cx.ask(host, provider, Subject::Node(id), action, timeout);
    if let Some(work) = cx.world.node_work.get_mut(&id) {
        work.effect = Some(effect);
    }
    Flow::Wait
}

/// Whether the interfaces of a node are to have carrier: it runs, or is about to.
pub(super) fn wants_carrier(world: &World, id: NodeId) -> bool {
    let Some(node) = world.nodes.get(&id) else { return false };
    match world.node_work.get(&id) {
        Some(work) if work.goal == Goal::Run => true,
        _ => matches!(node.actual, NodeState::Running | NodeState::Starting | NodeState::Pending),
    }
}

/// Whether an instance of the node is there and is to stay, so that links can be attached to it.
pub(super) fn is_attachable(world: &World, id: NodeId) -> bool {
    let removing = world.node_work.get(&id).is_some_and(|work| {
        // Until its next place is ready, an instance that is to be made anew is as good as any.
        work.goal == Goal::Remove && !matches!(work.phase, Phase::Prepare | Phase::Fetch)
    });
    // Of an instance whose namespace was taken away nothing is left to attach to, until it was made anew.
    let bereft = |node: &lifecycle_core::model::NodeRecord| node.recreate && !world.places.contains_key(&id);
    world.nodes.get(&id).is_some_and(|node| node.instance.is_some() && !node.deleting && !removing && !bereft(node))
}

/// Whether the node is going to be attachable without anybody doing anything: links to it are worth waiting for.
pub(super) fn is_coming(world: &World, id: NodeId) -> bool {
    let Some(node) = world.nodes.get(&id) else { return false };
    let deploying = world.node_work.get(&id).is_some_and(|work| work.goal == Goal::Run);
    node.instance.is_none()
        && !node.deleting
        && node.desired == NodeIntent::Running
        && node.budget.given_up_at.is_none()
        && (deploying || matches!(node.actual, NodeState::Undeployed | NodeState::Pending) && node.blocked.is_none())
}
