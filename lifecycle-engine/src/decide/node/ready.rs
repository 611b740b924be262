//! Whether a running node is ready for use: by its health check, by its vendor's probe, or because it runs.

use std::time::Duration;

use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::vendor::Readiness;
use lifecycle_core::time::BootInstant;

use super::super::Cx;
use super::super::effect::{Action, Done, EffectId, Outcome, Subject};

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
    argv: Vec<String>,
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
    let seconds = |n: u32| Duration::from_secs(n.into());
    if let Some(check) = &spec.healthcheck {
        return Some(Plan {
            argv: check.test.clone(),
            interval: seconds(check.interval.max(1)),
            timeout: seconds(check.timeout.max(1)),
            grace: seconds(check.start_period),
            retries: check.retries.max(1),
            give_up: None,
        });
    }
    let (_, kind) = cx.world.kinds.get(&spec.kind)?;
    match &kind.readiness {
        Readiness::WhenRunning => None,
        Readiness::Command { argv, interval, timeout } => Some(Plan {
            argv: argv.clone(),
            interval: seconds((*interval).max(1)),
            timeout: seconds((*interval).max(1)),
            grace: seconds(*timeout),
            retries: 1,
            give_up: Some(seconds(*timeout)),
        }),
    }
}

/// Probes a running node when it is time to.
pub(super) fn watch(cx: &mut Cx<'_>, id: NodeId) {
    let Some(plan) = plan(cx, id) else {
        if cx.world.nodes.get(&id).is_some_and(|node| !node.ready.ready) {
            cx.change_node(id, |node| {
                node.ready.ready = true;
                node.ready.reason = None;
            });
        }
        return;
    };
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
    let action = Action::ProbeReady { instance, argv: plan.argv };
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
    let verdict = match outcome {
        Ok(Done::Ready(verdict)) => verdict,
        Ok(_) => Err("the probe was not answered".to_owned()),
        Err(error) => Err(error.chain()),
    };
    let (Some(plan), Some(node)) = (plan(cx, id), cx.world.nodes.get(&id)) else {
        cx.world.probes.remove(&id);
        return;
    };
    let ran = node.running_since.and_then(|since| cx.now.boot.since(since)).unwrap_or_default();
    let was_ready = node.ready.ready;
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
