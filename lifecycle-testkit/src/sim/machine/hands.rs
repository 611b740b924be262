//! What people, programs and accidents do to the machine behind a controller's back.

use std::net::IpAddr;

use lifecycle_core::attach::Mac;
use lifecycle_core::id::{LabId, LinkId, NodeId};
use lifecycle_core::name::{HostName, IfName, PluginName};
use lifecycle_core::plugin::provider::{ExitRecord, InstanceState};
use lifecycle_core::topology::LinkAttrs;

use super::super::chance::Chance;
use super::instances::reference;
use super::{HOST_NAMESPACE, Host, Instance, Interface, Machine, Switch};

/// Something that a hand can do.
type Deed = fn(&mut Machine, &mut Chance) -> Option<String>;

/// Everything that a hand does to what is there.
const DEEDS: [Deed; 15] = [
    kill,
    kill,
    pause,
    resume,
    remove,
    start,
    copy,
    spoil,
    cut,
    cut,
    replace,
    set_inside,
    forget_image,
    renumber,
    narrow,
];

/// What it does besides where links are plugged into a switch.
const AT_SWITCH: [Deed; 4] = [make_again, retag, unplug, hang];

impl Machine {
    /// Does something at random; nothing when what was to be done cannot be.
    pub(in super::super) fn meddle(&mut self, chance: &mut Chance) -> Option<String> {
        let switched = self.hosts.values().any(|host| host.switch.is_some());
        let deeds = if switched && chance.per_mille(250) { &AT_SWITCH[..] } else { &DEEDS };
        let deed = chance.pick(deeds).copied()?;
        deed(self, chance)
    }

    /// Puts something foreign where the instance of a node would be.
    pub(in super::super) fn occupy(&mut self, host: &HostName, plugin: &PluginName, name: String) -> bool {
        let Some(host) = self.hosts.get_mut(host) else { return false };
        let key = (plugin.clone(), name);
        if host.instances.contains_key(&key) {
            return false;
        }
        let foreign = Instance {
            node: NodeId::from_u64(0),
            incarnation: 0,
            lab: LabId::from_u64(0),
            state: InstanceState::Running,
            cookie: 0,
            starts: 1,
            foreign: true,
            by_hand: true,
            spec: None,
        };
        host.instances.insert(key, foreign);
        true
    }

    /// Takes away what is foreign and stands in the way of nodes and links.
    pub(in super::super) fn clear_the_way(&mut self) {
        for host in self.hosts.values_mut() {
            host.instances.retain(|_, it| !it.foreign);
            for instance in host.instances.values_mut().filter(|it| it.state == InstanceState::Paused) {
                instance.state = InstanceState::Running;
            }
            host.interfaces.retain(|_, it| it.mark.is_some() || !it.is_made());
        }
    }

    fn host(&mut self, chance: &mut Chance) -> Option<&mut Host> {
        let names: Vec<HostName> = self.hosts.keys().cloned().collect();
        self.hosts.get_mut(chance.pick(&names)?)
    }
}

/// Does something to an instance of ours for which `fits` holds.
fn on_instance(
    machine: &mut Machine,
    chance: &mut Chance,
    fits: impl Fn(&Instance) -> bool,
    deed: impl FnOnce(&mut Instance),
) -> Option<(HostName, String)> {
    let host = machine.host(chance)?;
    let keys: Vec<_> = host.instances.iter().filter(|(_, it)| !it.foreign && fits(it)).map(|(key, _)| key).collect();
    let key = (*chance.pick(&keys)?).clone();
    let instance = host.instances.get_mut(&key)?;
    deed(instance);
    let reference = reference(&key.1, instance);
    host.tell_node(&key.0, &reference);
    Some((host.name.clone(), reference.to_string()))
}

fn kill(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let exit = ExitRecord { code: None, signal: Some(9), at: None };
    let (host, name) = on_instance(machine, chance, Instance::runs, |it| it.state = InstanceState::Exited(exit))?;
    Some(format!("the process of {name} on {host} is killed"))
}

fn pause(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let runs = |it: &Instance| it.state == InstanceState::Running;
    let (host, name) = on_instance(machine, chance, runs, |it| it.state = InstanceState::Paused)?;
    Some(format!("{name} on {host} is paused"))
}

fn resume(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let paused = |it: &Instance| it.state == InstanceState::Paused;
    let (host, name) = on_instance(machine, chance, paused, |it| it.state = InstanceState::Running)?;
    Some(format!("{name} on {host} is resumed"))
}

fn start(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let idle = |it: &Instance| matches!(it.state, InstanceState::Created | InstanceState::Exited(_));
    let (host, name) = on_instance(machine, chance, idle, |it| {
        it.state = InstanceState::Running;
        it.starts += 1;
        it.by_hand = true;
    })?;
    Some(format!("{name} on {host} is started by hand"))
}

fn spoil(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    if !chance.per_mille(300) {
        return None;
    }
    let state = InstanceState::Broken { reason: "its root directory is gone".to_owned() };
    let (host, name) = on_instance(machine, chance, |_| true, |it| it.state = state)?;
    Some(format!("{name} on {host} is broken"))
}

fn remove(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let keys: Vec<_> = host.instances.iter().filter(|(_, it)| !it.foreign).map(|(key, _)| key.clone()).collect();
    let key = chance.pick(&keys)?;
    let gone = host.instances.remove(key)?;
    host.drop_namespace(gone.cookie);
    let reference = reference(&key.1, &gone);
    host.tell_node(&key.0, &reference);
    Some(format!("{reference} on {} is removed by hand", host.name))
}

/// Makes a second instance with the same mark, here or on another host.
fn copy(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    if !chance.per_mille(400) {
        return None;
    }
    let source = machine.host(chance)?;
    let keys: Vec<_> = source.instances.iter().filter(|(_, it)| !it.foreign).map(|(key, _)| key.clone()).collect();
    let (plugin, name) = chance.pick(&keys)?.clone();
    let mut twin = source.instances.get(&(plugin.clone(), name.clone()))?.clone();
    let target = machine.host(chance)?;
    twin.cookie = target.new_cookie();
    twin.by_hand = true;
    if chance.coin() {
        (twin.state, twin.starts) = (InstanceState::Running, twin.starts + 1);
    }
    let name = format!("{name}-copy");
    if target.instances.contains_key(&(plugin.clone(), name.clone())) {
        return None;
    }
    let reference = reference(&name, &twin);
    target.instances.insert((plugin.clone(), name), twin);
    target.tell_node(&plugin, &reference);
    Some(format!("{reference} is a copy made by hand on {}", target.name))
}

fn pick_interface(host: &Host, chance: &mut Chance) -> Option<(u64, u32)> {
    let keys: Vec<_> = host.interfaces.iter().filter(|(_, it)| it.mark.is_some()).map(|(key, _)| *key).collect();
    chance.pick(&keys).copied()
}

fn cut(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let key = pick_interface(host, chance)?;
    let name = host.interfaces.get(&key)?.name.clone();
    host.drop_pair(key);
    Some(format!("interface {name} in namespace {} on {} is deleted", key.0, host.name))
}

/// Deletes an interface and makes another under its name, of our mark or of none.
fn replace(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let key = pick_interface(host, chance)?;
    let old = host.interfaces.get(&key)?.clone();
    host.drop_pair(key);
    host.next_ifindex += 1;
    // Inside a node its copy would go with the node, and nobody would look for it there.
    let marked = chance.coin() && key.0 == HOST_NAMESPACE;
    let new = Interface {
        mac: if marked { old.mac } else { Mac([2, 0, 0, 0, 0, 1]) },
        mark: old.mark.filter(|_| marked),
        peer: None,
        attrs: LinkAttrs::default(),
        port: old.port && marked,
        bridged: false,
        ..old
    };
    let text = format!("interface {} in namespace {} on {} is made anew by hand", new.name, key.0, host.name);
    host.interfaces.insert((key.0, host.next_ifindex), new);
    Some(text)
}

/// A program in a node sets its interface down or up.
fn set_inside(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let key = pick_interface(host, chance)?;
    // What stands at a tunnel is in no node.
    let interface = host.interfaces.get_mut(&key).filter(|it| !it.name.as_str().starts_with("vni"))?;
    interface.up = !interface.up;
    let (name, up, mark): (IfName, bool, _) = (interface.name.clone(), interface.up, interface.mark);
    if let Some((link, _)) = mark {
        host.tell_link(link);
    }
    let word = if up { "up" } else { "down" };
    Some(format!("interface {name} in namespace {} on {} is set {word}", key.0, host.name))
}

fn forget_image(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let image = host.images.pop_first()?;
    Some(format!("image {image} on {} is removed", host.name))
}

/// A host gets another address.
fn renumber(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let last = u8::try_from(chance.between(1, 200)).ok()?;
    let host = machine.host(chance)?;
    host.address = match host.address {
        IpAddr::V4(old) => [10, 0, old.octets()[2] ^ 1, last].into(),
        other => other,
    };
    Some(format!("{} has the address {}", host.name, host.address))
}

/// The network of a host carries other packets: too small for the MTU that users choose, the usual ones, or large ones.
fn narrow(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let packet = *chance.pick(&[1400, 1500, 9000])?;
    let host = machine.host(chance)?;
    host.packet = packet;
    Some(format!("the network of {} carries packets of {packet} bytes", host.name))
}

/// Makes a pair of interfaces again, of which one is a port of the switch, under the old names and marks. Returns the link.
pub(in super::super) fn make_pair_again(host: &mut Host, key: (u64, u32)) -> Option<LinkId> {
    let peer_key = host.interfaces.get(&key)?.peer?;
    let pair = [(key, peer_key), (peer_key, key)].map(|(key, _)| Some((key.0, host.interfaces.get(&key)?.clone())));
    let [Some((ns, end)), Some((other_ns, other))] = pair else { return None };
    let (link, _) = end.mark?;
    host.drop_pair(key);
    let (a, b) = (host.next_ifindex + 1, host.next_ifindex + 2);
    host.next_ifindex = b;
    host.interfaces.insert((ns, a), Interface { peer: Some((other_ns, b)), ..end });
    host.interfaces.insert((other_ns, b), Interface { peer: Some((ns, a)), bridged: false, ..other });
    Some(link)
}

fn make_again(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let key = pick_interface(host, chance)?;
    let name = host.interfaces.get(&key)?.name.clone();
    make_pair_again(host, key)?;
    Some(format!("interface {name} in namespace {} on {} is made again with its peer", key.0, host.name))
}

/// Does something to a port of ours in the switch.
fn at_port(machine: &mut Machine, chance: &mut Chance, deed: fn(&mut Switch, &IfName)) -> Option<String> {
    let host = machine.host(chance)?;
    let switch = host.switch.as_mut()?;
    let ports: Vec<_> = switch.ports().map(|(name, port)| (name.clone(), port.mark.0)).collect();
    let (name, link) = chance.pick(&ports)?.clone();
    deed(switch, &name);
    host.tell_link(link);
    Some(format!("port {name} on {}", host.name))
}

fn retag(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    Some(format!("{} gets another tag", at_port(machine, chance, Switch::retag_by_hand)?))
}

fn unplug(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    Some(format!("{} is taken off the switch", at_port(machine, chance, Switch::remove_by_hand)?))
}

/// The switch hangs, or goes on.
fn hang(machine: &mut Machine, chance: &mut Chance) -> Option<String> {
    let host = machine.host(chance)?;
    let switch = host.switch.as_mut()?;
    switch.hangs = !switch.hangs;
    Some(format!("the switch on {} {}", host.name, if switch.hangs { "hangs" } else { "goes on" }))
}
