//! The phases that make a node run.

use std::borrow::Cow;
use std::time::Duration;

use lifecycle_core::attach::PlaceKind;
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::topology::{NetworkMode, Stage};

use super::super::effect::{Action, Subject};
use super::super::{Cx, Why, apply, link, placement};
use super::stage::{self, Gate};
use super::{Flow, Phase, end, remake, slot, stagger};

/// Chooses a host.
pub(super) fn place(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    if node.instance.is_some() {
        return Flow::Next(Phase::Image);
    }
    if remake::is_moot(node) {
        remake::forget(cx, id);
    }
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    let provider = apply::provider_of_node(cx.world, id);
    if node.provider != provider {
        cx.change_node(id, |node| node.provider = provider);
    }
    match placement::reserve(cx, id) {
        Ok(None) => Flow::Wait,
        Ok(Some(host)) => {
            placement::settle_at(cx, id, host);
            let synced = cx.world.nodes.get(&id).is_some_and(|node| super::provider_answers(cx.world, node));
            // The provider of a host that was not read yet is waited for: its list touches the node.
            if synced { Flow::Next(Phase::Image) } else { Flow::Wait }
        }
        Err(blocked) => {
            end::blocked(cx, id, blocked);
            Flow::Wait
        }
    }
}

/// Has the image on the host.
pub(super) fn image(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    let fresh = node.instance.is_none();
    if fresh && node.actual != NodeState::Pending {
        return lost(cx, id);
    }
    let provider = node.host.as_ref().and_then(|host| cx.world.hosts.get(host)?.providers.get(&node.provider));
    let has_images = provider.is_some_and(|provider| provider.capabilities.images);
    let Some(spec) = cx.world.spec(id).map(|spec| cx.world.complete(spec)) else { return Flow::Wait };
    if !fresh || !has_images {
        return Flow::Next(Phase::Create);
    }
    let timeout = cx.world.settings.limits.pending;
    super::ask(cx, id, Action::EnsureImage(Box::new(spec)), timeout)
}

/// Makes the instance.
pub(super) fn create(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    if node.instance.is_some() {
        return Flow::Next(Phase::Wire);
    }
    if node.actual != NodeState::Pending {
        return lost(cx, id);
    }
    if remake::is_moot(node) {
        // Something else was wanted meanwhile, and perhaps elsewhere.
        slot::give(cx, id);
        return Flow::Next(Phase::Place);
    }
    if !slot::take(cx, id) {
        return Flow::Wait;
    }
    let mut request = match create_request(cx, id) {
        Some(request) => request,
        None => return Flow::Wait,
    };
    if let Some((vendor, kind)) = cx.world.kinds.get(&request.spec.kind) {
        request.machine = kind.machine;
        let prepared = vendor.before_create(&as_run(cx, id, kind), &mut request);
        if let Err(error) = prepared.and_then(|()| can_have_medium(cx, id, &request)) {
            end::refused(cx, id, &error);
            return Flow::Wait;
        }
    }
    let timeout = cx.world.settings.limits.starting;
    super::ask(cx, id, Action::CreateNode(Box::new(request)), timeout)
}

/// A kind as the node's provider can run it: a machine is shown no files of this host and runs no script of ours first.
fn as_run<'a>(cx: &Cx<'_>, id: NodeId, kind: &'a KindData) -> Cow<'a, KindData> {
    let provider = cx.world.nodes.get(&id).and_then(|node| cx.world.provider(node.host.as_ref()?, &node.provider));
    match provider {
        Some(provider) if provider.capabilities.place == PlaceKind::Tap => {
            Cow::Owned(KindData { lend_tools: false, interface_wait: None, ..kind.clone() })
        }
        _ => Cow::Borrowed(kind),
    }
}

/// A container that is started from the kind of a machine finds no medium.
fn can_have_medium(cx: &Cx<'_>, id: NodeId, request: &CreateNode) -> Result<()> {
    let Some(node) = cx.world.nodes.get(&id).filter(|_| request.medium.is_some()) else { return Ok(()) };
    let provider = node.host.as_ref().and_then(|host| cx.world.provider(host, &node.provider));
    if provider.is_some_and(|provider| provider.capabilities.media) {
        return Ok(());
    }
    let message = format!(
        "kind `{}` takes its `startup-config` from a medium, which the provider `{}` cannot make; leave it out and \
         configure the running node, or run it as a virtual machine",
        request.spec.kind, node.provider
    );
    Err(Error::new(ErrorKind::Unsupported, "bring the startup-config", message).about(&request.name))
}

fn create_request(cx: &Cx<'_>, id: NodeId) -> Option<CreateNode> {
    let node = cx.world.nodes.get(&id)?;
    let lab = cx.world.labs.get(&node.lab)?;
    let spec = cx.world.complete(cx.world.spec(id)?);
    let management = lab.topology.management.clone().filter(|_| spec.network_mode == NetworkMode::Own);
    let interfaces = cx.world.links_at(id).flat_map(|link| link.nodes).filter(|end| *end == Some(id)).count();
    let named = (lab.id, lab.topology.name.clone());
    Some(CreateNode {
        incarnation: node.incarnation,
        directory: lab.topology.directory.clone(),
        management,
        interfaces: u32::try_from(interfaces).unwrap_or(u32::MAX),
        ..CreateNode::new(id, named, lab.topology.long_name(&node.name), spec)
    })
}

/// Waits until the interfaces of the node exist, so that its process finds them when it starts.
pub(super) fn wire(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    slot::give(cx, id);
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    if node.instance.is_none() {
        return lost(cx, id);
    }
    match node.actual {
        NodeState::Pending | NodeState::Starting => {}
        // Somebody else started it meanwhile.
        NodeState::Running => return Flow::Next(Phase::Configure),
        _ => cx.node_becomes(id, NodeState::Starting, Why::enforcement()),
    }
    if !may_start(cx, id) {
        return Flow::Wait;
    }
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    // A link that never comes does not keep its node from starting for ever.
    let overdue = node.deadline.is_some_and(|deadline| deadline.is_over(cx.now.boot));
    if !overdue && !link::are_wired(cx.world, id) {
        return Flow::Wait;
    }
    let delay = cx.world.spec(id).map_or(0, |spec| spec.startup_delay);
    // One that waits for its own delay has had its turn.
    let turn_to_come = node.actual == NodeState::Pending || delay == 0;
    if let Some(wait) = turn_to_come.then(|| stagger::wait(cx, id)).flatten() {
        cx.wake_after(wait, Subject::Node(id));
        return Flow::Wait;
    }
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    if node.actual != NodeState::Starting {
        cx.node_becomes(id, NodeState::Starting, Why::enforcement());
    }
    let waited = cx.world.nodes.get(&id).and_then(|node| node.deadline).and_then(|it| cx.now.boot.since(it.from));
    let left = Duration::from_secs(delay.into()).saturating_sub(waited.unwrap_or_default());
    if !left.is_zero() {
        cx.wake_after(left, Subject::Node(id));
        return Flow::Wait;
    }
    Flow::Next(Phase::Start)
}

/// Whether those that the node waits for are where they have to be before it starts. Ends its work where they never are.
fn may_start(cx: &mut Cx<'_>, id: NodeId) -> bool {
    for stage in [Stage::Create, Stage::CreateLinks] {
        match stage::enter(cx, id, stage) {
            Gate::Open => continue,
            Gate::Shut => {}
            Gate::Overdue(text) => end::attempt_failed(cx, id, &text),
            Gate::Vain(blocked) => end::blocked(cx, id, blocked),
        }
        return false;
    }
    true
}

/// The instance went away while its node was on the way up.
fn lost(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    end::attempt_failed(cx, id, "its instance was gone before it could be started");
    Flow::Wait
}

/// Starts the process.
pub(super) fn start(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Wait };
    let Some(instance) = node.instance.clone() else { return lost(cx, id) };
    match node.actual {
        NodeState::Starting => {}
        NodeState::Running => return Flow::Next(Phase::Configure),
        _ => return Flow::Next(Phase::Wire),
    }
    if !slot::take(cx, id) {
        return Flow::Wait;
    }
    let timeout = cx.deadline_of(id, NodeState::Starting).unwrap_or(cx.world.settings.limits.starting);
    super::ask(cx, id, Action::StartNode(instance.reference), timeout)
}
