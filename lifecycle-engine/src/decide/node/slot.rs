//! Slots: how many operations a provider takes at once, and the line of those who wait for one.

use lifecycle_core::id::NodeId;

use super::super::{Cx, World};

/// Takes one of the slots of the node's provider, or waits in line for it.
pub(super) fn take(cx: &mut Cx<'_>, id: NodeId) -> bool {
    let Some(work) = cx.world.node_work.get(&id) else { return false };
    if work.slot.is_some() {
        return true;
    }
    let Some(node) = cx.world.nodes.get(&id) else { return false };
    let (Some(host), name) = (node.host.clone(), node.provider.clone()) else { return false };
    let provider = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&name));
    let Some(provider) = provider else { return false };
    if !provider.has_room() {
        provider.waiting.insert(id);
        return false;
    }
    provider.busy += 1;
    provider.waiting.remove(&id);
    if let Some(work) = cx.world.node_work.get_mut(&id) {
        work.slot = Some((host, name));
    }
    true
}

/// Gives the slot back, and wakes the next in line that still waits.
pub(super) fn give(cx: &mut Cx<'_>, id: NodeId) {
    let Some((host, name)) = cx.world.node_work.get_mut(&id).and_then(|work| work.slot.take()) else { return };
    let provider = cx.world.hosts.get_mut(&host).and_then(|host| host.providers.get_mut(&name));
    let Some(provider) = provider else { return };
    provider.busy = provider.busy.saturating_sub(1);
    while let Some(next) = pop(cx.world, &(host.clone(), name.clone())) {
        let waits = cx.world.node_work.get(&next).is_some_and(|work| work.slot.is_none() && work.effect.is_none());
        if waits {
            return cx.world.touch_node(next);
        }
    }
}

fn pop(
    world: &mut World,
    (host, name): &(lifecycle_core::name::HostName, lifecycle_core::name::PluginName),
) -> Option<NodeId> {
    world.hosts.get_mut(host)?.providers.get_mut(name)?.waiting.pop_first()
}
