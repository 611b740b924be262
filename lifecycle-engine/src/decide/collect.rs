//! Collection: removes what bears our mark and belongs to no row, after a grace, with a row in the audit trail.

use std::time::Duration;

use lifecycle_core::attach::NsRef;
use lifecycle_core::id::NodeId;
use lifecycle_core::model::{AuditAction, SubjectKind};
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::ObservedLink;
use lifecycle_core::time::BootInstant;

use super::effect::{Action, Outcome, Subject};
use super::host::{OTHER_INCARNATION, Orphan};
use super::ledger::Entry;
use super::planted::Bug;
use super::world::InFlight;
use super::{Cx, Why, World};

/// Removes what has been on the list for long enough.
pub(super) fn due(cx: &mut Cx<'_>) {
    collect_instances(cx);
    collect_links(cx);
}

/// How long something stays on the list: an older incarnation of a living node is in its way and goes at once.
fn grace(world: &World, orphan: &Orphan) -> Duration {
    if orphan.reason == OTHER_INCARNATION { Duration::ZERO } else { world.settings.limits.collection_grace }
}

fn is_ripe(world: &World, orphan: &Orphan, now: BootInstant) -> bool {
    let waited = now.since(orphan.since);
    orphan.removing.is_none() && waited.is_some_and(|waited| waited >= grace(world, orphan))
}

fn collect_instances(cx: &mut Cx<'_>) {
    let (now, timeout) = (cx.now.boot, cx.world.settings.limits.stopping);
    let mut ripe = Vec::new();
    for host in cx.world.hosts.values() {
        for (plugin, provider) in host.providers.iter().filter(|(_, provider)| !provider.unreachable) {
            let orphans = provider.orphans.iter().filter(|(_, orphan)| is_ripe(cx.world, orphan, now));
            ripe.extend(
                orphans.map(|(instance, orphan)| (host.name.clone(), plugin.clone(), instance.clone(), orphan.reason)),
            );
        }
    }
    for (host, plugin, instance, reason) in ripe {
        // It may have become somebody's since it was listed.
        let wanted = cx.world.nodes.get(&instance.node).is_some_and(|node| {
            let only = node.instance.as_ref().is_none_or(|own| own.reference == instance);
            let here = node.host.as_ref() == Some(&host) && node.provider == plugin;
            only && here && node.incarnation == instance.incarnation
        });
        let effect = if wanted && !cx.world.has_bug(Bug::CollectsWhatIsStopped) {
            None
        } else {
            let entry = Entry::new(AuditAction::Collected, Why::enforcement().because(reason))
                .metadata(serde_json::json!({ "instance": instance, "host": host, "provider": plugin }));
            cx.record(SubjectKind::Object, instance.node.to_string(), instance.to_string(), None, entry);
            let action = Action::DestroyNode(instance.clone());
            Some(cx.ask(host.clone(), plugin.clone(), Subject::Host, action, timeout))
        };
        let provider = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&plugin));
        let Some(provider) = provider else { continue };
        match effect {
            None => drop(provider.orphans.remove(&instance)),
            Some(effect) => {
                if let Some(orphan) = provider.orphans.get_mut(&instance) {
                    orphan.removing = Some(effect);
                }
            }
        }
    }
}

fn collect_links(cx: &mut Cx<'_>) {
    let (now, timeout) = (cx.now.boot, cx.world.settings.limits.connecting);
    let mut ripe = Vec::new();
    for host in cx.world.hosts.values() {
        for (plugin, backend) in host.backends.iter().filter(|(_, backend)| !backend.unreachable) {
            let orphans = backend.orphans.values().filter(|(_, orphan)| is_ripe(cx.world, orphan, now));
            ripe.extend(orphans.map(|(seen, orphan)| (host.name.clone(), plugin.clone(), seen.clone(), orphan.reason)));
        }
    }
    for (host, plugin, observed, reason) in ripe {
        let effect = if orphan_reason(cx.world, &observed).is_none() {
            None
        } else {
            let entry = Entry::new(AuditAction::Collected, Why::enforcement().because(reason))
                .metadata(serde_json::json!({ "link": observed, "host": host, "backend": plugin }));
            cx.record(SubjectKind::Object, observed.link.to_string(), observed.link.to_string(), None, entry);
            let namespaces = namespaces(cx.world, &host);
            let action = Action::RemoveLink { observed: observed.clone(), namespaces };
            Some(cx.ask(host.clone(), plugin.clone(), Subject::Host, action, timeout))
        };
        let backend = cx.world.hosts.get_mut(&host).and_then(|host| host.backends.get_mut(&plugin));
        let Some(backend) = backend else { continue };
        match effect {
            None => drop(backend.orphans.remove(&observed.link)),
            Some(effect) => {
                if let Some((_, orphan)) = backend.orphans.get_mut(&observed.link) {
                    orphan.removing = Some(effect);
                }
            }
        }
    }
}

/// Why something with a link's mark belongs to nobody, if so.
fn orphan_reason(world: &World, seen: &ObservedLink) -> Option<&'static str> {
    let Some(row) = world.links.get(&seen.link) else { return Some("its link is gone") };
    // A link that is being worked on may be about to replace what was seen.
    let busy = world.is_busy(Subject::Link(seen.link));
    (!busy && seen.incarnation.is_some_and(|seen| seen < row.incarnation)).then_some(OTHER_INCARNATION)
}

/// Takes in everything of ours that a backend found.
pub(super) fn links_observed(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName, found: Vec<ObservedLink>) {
    let since = cx.now.boot;
    let mut listed = Vec::new();
    for seen in found {
        if let Some(reason) = orphan_reason(cx.world, &seen) {
            listed.push((seen, reason));
        }
    }
    let Some(backend) = cx.world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(plugin)) else { return };
    let mut old = std::mem::take(&mut backend.orphans);
    for (seen, reason) in listed {
        let orphan = old.remove(&seen.link).map(|(_, orphan)| orphan);
        let orphan = orphan.unwrap_or(Orphan { since, reason, removing: None });
        backend.orphans.insert(seen.link, (seen, orphan));
    }
}

/// Something on the list was removed, or could not be.
pub(super) fn removed(cx: &mut Cx<'_>, asked: &InFlight, outcome: Outcome) {
    if outcome.is_err() && cx.world.has_bug(Bug::ForgetsAFailedRemoval) {
        return;
    }
    let since = cx.now.boot;
    let Some(host) = cx.world.hosts.get_mut(&asked.effect.host) else { return };
    let again = Orphan { since, reason: "it could not be removed before", removing: None };
    match &asked.effect.action {
        Action::DestroyNode(instance) => {
            let Some(provider) = host.providers.get_mut(&asked.effect.plugin) else { return };
            let listed = provider.orphans.remove(instance).is_some();
            if listed && outcome.is_err() {
                // It stays on the list, and its grace begins again so that it is not tried without pause.
                provider.orphans.insert(instance.clone(), again);
            }
        }
        Action::RemoveLink { observed, .. } => {
            let Some(backend) = host.backends.get_mut(&asked.effect.plugin) else { return };
            let Some((seen, _)) = backend.orphans.remove(&observed.link) else { return };
            if outcome.is_err() {
                backend.orphans.insert(observed.link, (seen, again));
            }
        }
        _ => {}
    }
}

/// The namespaces on a host in which links may be found: those that its providers told of.
pub(super) fn namespaces(world: &World, host: &HostName) -> Vec<NsRef> {
    let here = |node: &NodeId| world.nodes.get(node).is_some_and(|node| node.host.as_ref() == Some(host));
    world.places.iter().filter(|(node, _)| here(node)).map(|(_, ns)| ns.clone()).collect()
}

/// When something on the list will have been there for long enough.
pub(super) fn next_wake(world: &World) -> Option<BootInstant> {
    let hosts = world.hosts.values();
    // Those of a provider that cannot be reached wait for it.
    let providers = hosts.clone().flat_map(|host| host.providers.values()).filter(|it| !it.unreachable);
    let instances = providers.flat_map(|it| it.orphans.values());
    let backends = hosts.flat_map(|host| host.backends.values()).filter(|it| !it.unreachable);
    let links = backends.flat_map(|it| it.orphans.values().map(|(_, orphan)| orphan));
    let waiting = instances.chain(links).filter(|orphan| orphan.removing.is_none());
    waiting.map(|orphan| orphan.since.after(grace(world, orphan))).min_by_key(|at| at.millis)
}
