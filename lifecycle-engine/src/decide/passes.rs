//! What is due by time: timers, reading providers and backends, passes of enforcement; and what news set off.

use std::time::Duration;

use lifecycle_core::error::Error;
use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::machine::LinkState;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::provider::InstanceRef;
use lifecycle_core::time::{BootInstant, Now};

use super::effect::{Action, Done, Outcome, Subject};
use super::input::News;
use super::planted::{self, Bug};
use super::world::InFlight;
use super::{Cx, Why, World, collect, link, placement, sync};

/// Does what is due by time.
pub(super) fn due(cx: &mut Cx<'_>) {
    fire_timers(cx);
    read_providers(cx);
    read_backends(cx);
    collect::due(cx);
    let now = cx.now.boot;
    let pass = cx.world.settings.limits.enforcement_pass;
    if cx.world.next_enforcement_pass.is_none_or(|at| is_past(at, now)) {
        cx.world.next_enforcement_pass = Some(now.after(pass));
        let unsettled: Vec<NodeId> = cx.world.unsettled.iter().copied().collect();
        unsettled.into_iter().for_each(|id| cx.world.touch_node(id));
    }
}

fn is_past(at: BootInstant, now: BootInstant) -> bool {
    at.boot != now.boot || at.millis <= now.millis
}

fn fire_timers(cx: &mut Cx<'_>) {
    let now = cx.now.boot.millis;
    while let Some(&(at, subject)) = cx.world.timers.first() {
        if at > now {
            return;
        }
        cx.world.timers.pop_first();
        match subject {
            Subject::Node(id) => cx.world.touch_node(id),
            Subject::Link(id) => cx.world.touch_link(id),
            Subject::Host => {}
        }
    }
}

/// Asks for the list of every provider that is due.
fn read_providers(cx: &mut Cx<'_>) {
    let (now, timeout) = (cx.now.boot, cx.world.settings.limits.reading);
    let mut wanted = Vec::new();
    for host in cx.world.hosts.values() {
        for (name, provider) in &host.providers {
            let due = provider.list_again || provider.next_list.is_none_or(|at| is_past(at, now));
            if provider.listing.is_none() && due {
                let capacity = host.capacity.is_none() && provider.capabilities.resources;
                wanted.push((host.name.clone(), name.clone(), capacity));
            }
        }
    }
    for (host, name, capacity) in wanted {
        if capacity {
            cx.ask(host.clone(), name.clone(), Subject::Host, Action::ReadCapacity, timeout);
        }
        let effect = cx.ask(host.clone(), name.clone(), Subject::Host, Action::ListNodes, timeout);
        let pass = cx.world.settings.limits.sync_pass;
        if let Some(provider) = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&name)) {
            provider.listing = Some(effect);
            provider.list_again = false;
            provider.next_list = Some(now.after(pass));
        }
    }
}

/// Asks every backend that is due for everything of ours, and has every link read back.
fn read_backends(cx: &mut Cx<'_>) {
    let (now, limits) = (cx.now.boot, cx.world.settings.limits.clone());
    let mut wanted = Vec::new();
    for host in cx.world.hosts.values() {
        // What belongs to nobody can only be told once it is known which nodes are there.
        for (name, backend) in host.backends.iter().filter(|_| host.is_synced()) {
            if backend.observing.is_none() && backend.next_observation.is_none_or(|at| is_past(at, now)) {
                wanted.push((host.name.clone(), name.clone()));
            }
        }
    }
    for (host, name) in wanted {
        let tunnels = cx.world.backend(&host, &name).is_some_and(|it| !it.tunnelled.is_empty());
        if tunnels {
            cx.ask(host.clone(), name.clone(), Subject::Host, Action::ReadUnderlay, limits.reading);
        }
        links_on(cx.world, &host, &name).into_iter().for_each(|id| link::doubt(cx.world, id, now));
        let namespaces = collect::namespaces(cx.world, &host);
        let action = Action::ObserveLinks(namespaces);
        let effect = cx.ask(host.clone(), name.clone(), Subject::Host, action, limits.reading);
        if let Some(backend) = cx.world.hosts.get_mut(&host).and_then(|host| host.backends.get_mut(&name)) {
            backend.observing = Some(effect);
            backend.next_observation = Some(now.after(limits.link_pass));
        }
    }
}

/// Takes in what was read of a host.
pub(super) fn read(cx: &mut Cx<'_>, asked: &InFlight, outcome: Outcome) {
    let (host, plugin) = (asked.effect.host.clone(), asked.effect.plugin.clone());
    match &asked.effect.action {
        Action::ListNodes => {
            if let Some(provider) = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&plugin)) {
                provider.listing = None;
            }
            match outcome {
                Ok(Done::Nodes(found)) => {
                    provider_found(cx, &host, &plugin);
                    sync::take(&mut cx.ledger, &host, &plugin, found, asked.issued);
                }
                Ok(_) => {}
                Err(error) => lose(cx, &host, &plugin, &error),
            }
        }
        Action::ObserveNode(instance) => {
            let state = cx.world.hosts.get_mut(&host);
            let provider = state.and_then(|host| host.providers.get_mut(&plugin));
            let heard_again = provider.and_then(|provider| provider.observing.remove(instance)).unwrap_or(false);
            if heard_again {
                // What was read may be older than what was heard last.
                observe(cx, &host, &plugin, instance.clone());
            }
            match outcome {
                Ok(Done::Node(found)) => {
                    sync::take_one(&mut cx.ledger, &host, &plugin, instance, found, asked.issued);
                }
                Ok(_) => {}
                Err(error) if error.kind().is_unreachable() => lose(cx, &host, &plugin, &error),
                // Whoever could not be looked at alone is looked at with all others.
                Err(_) => {
                    if let Some(provider) = cx.world.hosts.get_mut(&host).and_then(|it| it.providers.get_mut(&plugin)) {
                        provider.list_again = true;
                    }
                }
            }
        }
        Action::ReadCapacity => {
            let Some(host) = cx.world.hosts.get_mut(&host) else { return };
            match outcome {
                Ok(Done::Capacity(capacity)) => {
                    host.capacity = Some(capacity);
                    placement::capacity_read(cx.world);
                }
                // It is asked for with the next list, which is not long in coming.
                _ if host.capacity.is_none() => {
                    let soon = cx.ledger.now.boot.after(cx.ledger.world.settings.limits.reconnect);
                    let provider = cx.ledger.world.hosts.get_mut(&asked.effect.host);
                    if let Some(provider) = provider.and_then(|host| host.providers.get_mut(&plugin)) {
                        provider.next_list = Some(soon);
                    }
                }
                _ => {}
            }
        }
        Action::ReadUnderlay => {
            let read = match outcome {
                Ok(Done::Underlay(underlay)) => Ok(underlay),
                Ok(_) => return,
                Err(error) if error.kind().is_unreachable() => return lose_backend(cx, &host, &plugin),
                Err(error) => Err(error.chain()),
            };
            link::underlay_read(cx.world, &host, &plugin, read);
        }
        Action::ObserveLinks(_) => {
            if let Some(backend) = cx.world.hosts.get_mut(&host).and_then(|host| host.backends.get_mut(&plugin)) {
                backend.observing = None;
            }
            match outcome {
                Ok(Done::Links(found)) => {
                    backend_found(cx, &host, &plugin);
                    collect::links_observed(cx, &host, &plugin, found);
                }
                Err(error) if error.kind().is_unreachable() => lose_backend(cx, &host, &plugin),
                _ => {}
            }
        }
        _ => {}
    }
}

/// Takes in news: they say where to look.
pub(super) fn news(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName, news: News) {
    match news {
        // News about a node that an effect is at work on are mostly of our own making, and its end is read anyway.
        News::Node(instance) => match cx.world.node_work.get(&instance.node) {
            Some(work) if work.is_at_instance() => planted::act_on_news(cx.world, instance.node),
            _ => observe(cx, host, plugin, instance),
        },
        News::Link(id) => {
            let now = cx.now.boot;
            link::doubt(cx.world, id, now);
        }
        News::Resync => {
            let Some(state) = cx.world.hosts.get_mut(host) else { return };
            if let Some(provider) = state.providers.get_mut(plugin) {
                provider.list_again = true;
            }
            if let Some(backend) = state.backends.get_mut(plugin) {
                backend.next_observation = None;
            }
        }
    }
}

/// Looks at the instance of a node by itself.
pub(super) fn observe_node(cx: &mut Cx<'_>, id: NodeId) {
    let Some(node) = cx.world.nodes.get(&id) else { return };
    let (Some(host), plugin) = (node.host.clone(), node.provider.clone()) else { return };
    let Some(instance) = node.instance.as_ref().map(|instance| instance.reference.clone()) else { return };
    observe(cx, &host, &plugin, instance);
}

fn observe(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName, instance: InstanceRef) {
    let Some(state) = cx.world.hosts.get_mut(host) else { return };
    let Some(provider) = state.providers.get_mut(plugin).filter(|provider| provider.synced) else { return };
    if let Some(heard_again) = provider.observing.get_mut(&instance) {
        *heard_again = true;
        return;
    }
    provider.observing.insert(instance.clone(), false);
    let timeout = cx.world.settings.limits.reading;
    cx.ask(host.clone(), plugin.clone(), Subject::Host, Action::ObserveNode(instance), timeout);
}

/// A provider could not be reached: what is known of its nodes is stale, and nothing but a list is asked of it.
pub(super) fn lose(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName, error: &Error) {
    let (now, wait) = (cx.now.boot, cx.world.settings.limits.reconnect);
    let Some(provider) = cx.world.hosts.get_mut(host).and_then(|host| host.providers.get_mut(plugin)) else { return };
    provider.next_list = Some(now.after(wait));
    if std::mem::replace(&mut provider.unreachable, true) {
        return;
    }
    let (wall, text) = (cx.now.wall, error.chain());
    let silent = cx.world.has_bug(Bug::DoesNotMarkStale);
    for id in nodes_on(cx.world, host, plugin) {
        cx.change_node(id, |node| {
            if !silent {
                node.stale_since.get_or_insert(wall);
            }
            node.ready.reason = Some(text.clone());
        });
        cx.world.touch_links_at(id);
        planted::fail_over(cx, id);
    }
}

/// A backend could not be reached: nothing but an observation is asked of it until one succeeds, and none of its links is
/// known to be up.
pub(super) fn lose_backend(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName) {
    let (now, wait) = (cx.now.boot, cx.world.settings.limits.reconnect);
    let Some(backend) = cx.world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(plugin)) else { return };
    backend.next_observation = Some(now.after(wait));
    if std::mem::replace(&mut backend.unreachable, true) {
        return;
    }
    for id in links_on(cx.world, host, plugin) {
        link::doubt(cx.world, id, now);
        let up = cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Up);
        if up && !cx.world.has_bug(Bug::KeepsLinksOfALostBackend) {
            cx.link_becomes(id, LinkState::Down, Why::sync().because("its backend cannot be reached"));
        }
    }
}

fn backend_found(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName) {
    let Some(backend) = cx.world.hosts.get_mut(host).and_then(|host| host.backends.get_mut(plugin)) else { return };
    if std::mem::replace(&mut backend.unreachable, false) {
        links_on(cx.world, host, plugin).into_iter().for_each(|id| cx.world.touch_link(id));
    }
}

fn links_on(world: &World, host: &HostName, plugin: &PluginName) -> Vec<LinkId> {
    let here =
        world.links.values().filter(|link| link.backends().any(|it| it == plugin) && link.hosts().any(|it| it == host));
    here.map(|link| link.id).collect()
}

fn provider_found(cx: &mut Cx<'_>, host: &HostName, plugin: &PluginName) {
    let Some(provider) = cx.world.hosts.get_mut(host).and_then(|host| host.providers.get_mut(plugin)) else { return };
    let was_lost = std::mem::replace(&mut provider.unreachable, false);
    let first = !std::mem::replace(&mut provider.synced, true);
    if !was_lost && !first {
        return;
    }
    cx.world.freed = true;
    for id in nodes_on(cx.world, host, plugin) {
        if cx.world.nodes.get(&id).is_some_and(|node| node.stale_since.is_some()) {
            cx.change_node(id, |node| {
                node.stale_since = None;
                node.ready.reason = None;
            });
        }
        cx.world.touch_node(id);
        cx.world.touch_links_at(id);
    }
}

fn nodes_on(world: &World, host: &HostName, plugin: &PluginName) -> Vec<NodeId> {
    let here = world.nodes.values().filter(|node| node.host.as_ref() == Some(host) && node.provider == *plugin);
    here.map(|node| node.id).collect()
}

/// Takes a token for work that enforcement begins by itself; none is left when too much was begun of late.
pub(super) fn take_token(cx: &mut Cx<'_>) -> bool {
    let rate = f64::from(cx.world.settings.limits.enforcement_rate);
    if rate == 0.0 {
        return true;
    }
    let now = cx.now.boot;
    let (tokens, refilled) = cx.world.tokens;
    let passed = refilled.and_then(|at| now.since(at));
    let tokens = passed.map_or(rate, |passed| (tokens + passed.as_secs_f64() * rate).min(rate));
    let granted = tokens >= 1.0;
    cx.world.tokens = (if granted { tokens - 1.0 } else { tokens }, Some(now));
    granted
}

/// When the next step is due if nothing happens before.
pub(super) fn next_wake(world: &World, now: Now) -> Option<BootInstant> {
    let providers = world.hosts.values().flat_map(|host| host.providers.values());
    let lists = providers.filter(|provider| provider.listing.is_none()).filter_map(|provider| provider.next_list);
    let read = world.hosts.values().filter(|host| host.is_synced());
    let backends = read.flat_map(|host| host.backends.values());
    let checks = backends.filter(|backend| backend.observing.is_none()).filter_map(|backend| backend.next_observation);
    let pass = if world.unsettled.is_empty() { None } else { world.next_enforcement_pass };
    let timer = world.timers.first().map(|&(millis, _)| BootInstant { boot: now.boot.boot, millis });
    let again = world
        .hosts
        .values()
        .flat_map(|host| host.providers.values())
        .any(|provider| provider.list_again && provider.listing.is_none());
    let again = again.then(|| now.boot.after(Duration::ZERO));
    lists
        .chain(checks)
        .chain(pass)
        .chain(timer)
        .chain(again)
        .chain(collect::next_wake(world))
        .min_by_key(|at| at.millis)
}
