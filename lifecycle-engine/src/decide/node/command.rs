//! Commands that are run in a node on its way up: those of its stages, of its vendor, and its `exec`.
//!
//! They are run moment by moment, each once after a start, all of a moment by one effect. One that fails is a warning: the
//! node runs.

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::plugin::vendor::{VendorAction, VendorContext};
use lifecycle_core::policy::stage::Moment;
use lifecycle_core::topology::{NodeEnd, Stage, StageCommand, StagePhase};

use super::super::effect::Action;
use super::super::{Cx, World};
use super::stage::{self, Gate};
use super::{Flow, slot};

/// The moment whose commands a node has not run yet since its process started; nothing when it has run all.
pub(super) fn next(world: &World, id: NodeId) -> Option<Moment> {
    let node = world.nodes.get(&id)?;
    let begun = world.node_work.get(&id).is_some_and(|work| work.begun);
    match (node.configured, node.healthy_commands) {
        (false, _) if !begun && has(world, id, Moment::Started) => Some(Moment::Started),
        (false, _) => Some(Moment::Configuring),
        (true, None) if has(world, id, Moment::Probing) => Some(Moment::Probing),
        (true, None | Some(StagePhase::OnEnter)) if has(world, id, Moment::Ready) => Some(Moment::Ready),
        (true, _) => None,
    }
}

/// Whether it is time for the commands that a running node is to run next.
pub(super) fn are_due(cx: &mut Cx<'_>, id: NodeId) -> bool {
    match next(cx.world, id) {
        None => false,
        // How long these may be waited for is for `run` to say.
        Some(Moment::Started | Moment::Configuring) => true,
        Some(Moment::Probing) => stage::unhealthy_neighbour(cx, id).is_none(),
        Some(Moment::Ready) => cx.world.nodes.get(&id).is_some_and(|node| node.ready.ready),
    }
}

/// Runs the commands whose time has come.
pub(super) fn run(cx: &mut Cx<'_>, id: NodeId) -> Flow {
    slot::give(cx, id);
    let Some(moment) = next(cx.world, id) else { return Flow::Done };
    let Some(node) = cx.world.nodes.get(&id) else { return Flow::Done };
    let Some(instance) = node.instance.clone().filter(|_| node.actual == NodeState::Running) else {
        // It ended before its commands could be run; its next start runs them.
        return Flow::Done;
    };
    let in_vain = match moment {
        Moment::Configuring => match stage::enter(cx, id, Stage::Configure) {
            Gate::Open => None,
            Gate::Shut => return Flow::Wait,
            Gate::Overdue(text) => Some(text),
            Gate::Vain(blocked) => Some(blocked.to_string()),
        },
        Moment::Started | Moment::Probing | Moment::Ready => None,
    };
    if let Some(why) = in_vain {
        // It runs, so that this is a warning and not its end.
        return ended(cx, id, Some(format!("its commands were not run: {why}")));
    }
    let commands = commands(cx.world, id, moment);
    if commands.is_empty() {
        return ended(cx, id, None);
    }
    let timeout = cx.world.settings.limits.commands;
    super::ask(cx, id, Action::RunCommands { instance: instance.reference, commands }, timeout)
}

/// The commands of a moment have ended, or were given up; `warning` says what went wrong.
pub(super) fn ended(cx: &mut Cx<'_>, id: NodeId, warning: Option<String>) -> Flow {
    let moment = next(cx.world, id);
    cx.change_node(id, |node| {
        match moment {
            Some(Moment::Configuring) => node.configured = true,
            Some(Moment::Probing) => node.healthy_commands = Some(StagePhase::OnEnter),
            Some(Moment::Ready) => node.healthy_commands = Some(StagePhase::OnExit),
            Some(Moment::Started) | None => {}
        }
        if warning.is_some() {
            node.ready.warning = warning;
        }
    });
    if moment != Some(Moment::Started) {
        return Flow::Done;
    }
    if let Some(work) = cx.world.node_work.get_mut(&id) {
        work.begun = true;
    }
    cx.world.touch_waiters(id);
    Flow::Wait
}

fn has(world: &World, id: NodeId, moment: Moment) -> bool {
    of_stages(world, id, moment).next().is_some()
}

/// The commands of a moment, in their order.
fn commands(world: &World, id: NodeId, moment: Moment) -> Vec<Vec<String>> {
    let mut found: Vec<&StageCommand> = of_stages(world, id, moment).collect();
    found.sort_by_key(|it| (it.stage, it.phase));
    let entering = found.iter().take_while(|it| it.phase == StagePhase::OnEnter).count();
    let mut commands: Vec<Vec<String>> = found.into_iter().map(|it| it.argv.clone()).collect();
    if moment == Moment::Configuring {
        commands.splice(entering..entering, of_vendor(world, id));
    }
    commands
}

fn of_stages(world: &World, id: NodeId, moment: Moment) -> impl Iterator<Item = &StageCommand> {
    let spec = world.spec(id).filter(|spec| world.kinds.get(&spec.kind).is_none_or(|(_, kind)| !kind.passive));
    let all = spec.into_iter().flat_map(|spec| &spec.stage_commands);
    all.filter(move |it| Moment::of(it.stage, it.phase) == Some(moment))
}

/// What follows each start: the commands of the vendor, then those of the user.
fn of_vendor(world: &World, id: NodeId) -> Vec<Vec<String>> {
    let Some(spec) = world.spec(id) else { return Vec::new() };
    let Some((vendor, kind)) = world.kinds.get(&spec.kind) else { return Vec::new() };
    let ends: Vec<&NodeEnd> = world
        .links_at(id)
        .flat_map(|link| link.spec.ends().into_iter().zip(link.nodes))
        .filter(|(_, node)| *node == Some(id))
        .filter_map(|(end, _)| end.as_node())
        .collect();
    let actions = vendor.after_start(kind, &VendorContext { spec, ends: &ends });
    actions.into_iter().map(|VendorAction::Exec { argv }| argv).collect()
}
