//! Whether a running node is ready for use: by its health check, by its vendor's probe, or because it runs.

use std::time::Duration;

use lifecycle_core::id::NodeId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::model::NodeRecord;
use lifecycle_core::plugin::vendor::{Progress, Readiness};
use lifecycle_core::time::{BootInstant, Timestamp};

use super::super::Cx;
use super::super::effect::{Action, Done, EffectId, Outcome, ReadyCheck, ReadyProbe, Subject};
use super::stage;

/// How long before a start was noticed it may have been, where nobody here asked for it.
const UNNOTICED: Duration = Duration::from_secs(10);

/// A probe of a node's readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The effect that probes now.
    pub effect: Option<EffectId>,
    /// When to probe next.
    pub next: BootInstant,
    /// Failures in a row.
    pub failures: u32,
}

/// How a node is probed.
struct Plan {
    check: ReadyCheck,
    progress: Vec<Progress>,
    interval: Duration,
    timeout: Duration,
    /// Failures within this time after the start do not count.
    grace: Duration,
    /// Failures in a row that make a ready node unready.
    retries: u32,
    /// Time after which a node that was never ready is no longer waited for.
    give_up: Option<Duration>,
}

fn plan(cx: &Cx<'_>, id: NodeId) -> Option<Plan> {
    let spec = cx.world.spec(id)?;
    let kind = cx.world.kinds.get(&spec.kind).map(|(_, kind)| kind);
    let progress = kind.map(|kind| kind.progress.clone()).unwrap_or_default();
    if let Some(check) = &spec.healthcheck {
        return Some(Plan {
            check: ReadyCheck::Command(check.test.clone()),
            progress,
            interval: seconds(check.interval.max(1)),
            timeout: seconds(check.timeout.max(1)),
            grace: seconds(check.start_period),
            retries: check.retries.max(1),
            give_up: None,
        });
    }
    let (check, interval, limit) = match &kind?.readiness {
        Readiness::WhenRunning => return None,
        Readiness::Command { command, interval, timeout } => {
            (ReadyCheck::Command(command.clone()), *interval, *timeout)
        }
        Readiness::Log { pattern, interval, timeout } => (ReadyCheck::Log(pattern.clone()), *interval, *timeout),
        Readiness::Tcp { port, interval, timeout } => {
            let addresses = cx.world.nodes.get(&id)?.instance.as_ref().map(|instance| instance.management);
            let address = addresses.and_then(|it| it.ipv4.map(Into::into).or(it.ipv6.map(Into::into)));
            (ReadyCheck::Tcp { address, port: *port }, *interval, *timeout)
        }
    };
    let interval = seconds(interval.max(1));
    let (grace, give_up) = (seconds(limit), Some(seconds(limit)));
    Some(Plan { check, progress, interval, timeout: interval, grace, retries: 1, give_up })
}

fn seconds(n: u32) -> Duration {
    Duration::from_secs(n.into())
}

/// What a node printed before this is about an earlier run of it: before its start was asked for, or, when something
/// else started it, a while before that was noticed.
fn since(node: &NodeRecord, start: Duration) -> Option<Timestamp> {
    let noticed = node.times.boot_started_at?;
    let before = |time: Duration| noticed.checked_sub(time).unwrap_or(Timestamp::MIN);
    let asked = node.times.starting_started_at.filter(|asked| *asked <= noticed && *asked >= before(start));
    Some(asked.unwrap_or_else(|| before(UNNOTICED)))
}

/// Probes a running node when it is time to.
pub(super) fn watch(cx: &mut Cx<'_>, id: NodeId) {
    if cx.world.nodes.get(&id).is_some_and(|node| !node.ready.ready)
        && let Some(reason) = stage::unhealthy_neighbour(cx, id)
    {
        return stage::tell(cx, id, Some(reason));
    }
    let Some(plan) = plan(cx, id) else {
        if cx.world.nodes.get(&id).is_some_and(|node| !node.ready.ready) {
            cx.change_node(id, |node| {
                node.ready.ready = true;
                node.ready.reason = None;
            });
            cx.world.touch_node(id);
        }
        return;
    };
    // What was printed stays printed.
    if matches!(plan.check, ReadyCheck::Log(_)) && cx.world.nodes.get(&id).is_some_and(|node| node.ready.ready) {
        return;
    }
    if !cx.world.probes.contains_key(&id) {
        stage::tell(cx, id, None);
    }
    let now = cx.now.boot;
    let probe = *cx.world.probes.entry(id).or_insert(Probe { effect: None, next: now, failures: 0 });
    if probe.effect.is_some() {
        return;
    }
    if probe.next.millis > now.millis {
        return cx.world.wake(probe.next, Subject::Node(id));
    }
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let (Some(host), provider) = (node.host.clone(), node.provider.clone()) else { return };
    let Some(instance) = node.instance.as_ref().map(|instance| instance.reference.clone()) else { return };
    let start = cx.deadline_of(id, NodeState::Starting).unwrap_or_default();
    let since = since(node, start);
    let ready = ReadyProbe { check: plan.check, progress: plan.progress, since };
    let action = Action::ProbeReady { instance, probe: Box::new(ready) };
    let effect = cx.ask(host, provider, Subject::Node(id), action, plan.timeout);
    let next = now.after(plan.interval);
    cx.world.probes.insert(id, Probe { effect: Some(effect), next, ..probe });
}

/// Takes in what a probe found.
pub(super) fn take(cx: &mut Cx<'_>, id: NodeId, effect: EffectId, outcome: Outcome) {
    // A probe of a run that is over says nothing about the present one.
    let Some(mut probe) = cx.world.probes.get(&id).copied().filter(|probe| probe.effect == Some(effect)) else {
        return;
    };
    probe.effect = None;
    let (verdict, progress) = match outcome {
        Ok(Done::Ready { verdict, progress }) => (verdict, progress),
        Ok(_) => (Err("the probe was not answered".to_owned()), None),
        Err(error) => (Err(error.chain()), None),
    };
    let (Some(plan), Some(node)) = (plan(cx, id), cx.world.nodes.get(&id)) else {
        cx.world.probes.remove(&id);
        return;
    };
    let ran = node.running_since.and_then(|since| cx.now.boot.since(since)).unwrap_or_default();
    let was_ready = node.ready.ready;
    // A node that has come so far does not go back; one that is ready has come all the way.
    let told = progress.max(node.ready.progress);
    let progress = told.map(|percent| if verdict.is_ok() { 100 } else { percent });
    if node.ready.progress != progress {
        cx.change_node(id, |node| node.ready.progress = progress);
    }
    match verdict {
        Ok(()) => {
            probe.failures = 0;
            if !was_ready {
                cx.change_node(id, |node| {
                    node.ready.ready = true;
                    node.ready.reason = None;
                });
            }
        }
        Err(reason) => {
            if ran >= plan.grace {
                probe.failures += 1;
            }
            let given_up = plan.give_up.is_some_and(|limit| !was_ready && ran >= limit);
            if probe.failures >= plan.retries || given_up {
                let reason = if given_up { format!("not ready in time: {reason}") } else { reason };
                if was_ready || cx.world.nodes.get(&id).is_some_and(|node| node.ready.reason.as_ref() != Some(&reason))
                {
                    cx.change_node(id, |node| {
                        node.ready.ready = false;
                        node.ready.reason = Some(reason);
                    });
                }
            }
        }
    }
    cx.world.probes.insert(id, probe);
    cx.world.touch_node(id);
}
