//! Labs that a user may want: small ones, of every shape that the engine treats differently.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifecycle_core::machine::NodeIntent;
use lifecycle_core::name::{HostName, IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::vendor::{KindData, Readiness, VendorAction, VendorContext};
use lifecycle_core::topology::{
    Admin, CommandTarget, DEFAULT_MTU, Endpoint, Healthcheck, ImagePullPolicy, LinkAttrs, LinkSpec, NodeSpec, Stage,
    StageCommand, StagePhase, Topology, WaitFor,
};

use super::chance::Chance;
use super::machine::{BAD_BINARY, CRASHES, LOST_IMAGE};

/// The provider with images, whose instances outlive a boot.
pub(super) const POD: &str = "pod";
/// The provider without images, whose instances do not.
pub(super) const JAIL: &str = "jail";
/// The network backend of most links: a cable, or an Open vSwitch.
pub(super) const WIRE: &str = "wire";
/// The network backend with a Linux bridge for each link.
pub(super) const LOOM: &str = "loom";
/// The MTU of links for which the user chooses one.
const CHOSEN_MTU: u32 = 1400;
/// The hosts.
pub(super) const HOSTS: [&str; 2] = ["h1", "h2"];

/// Names that are known to be valid.
pub(super) fn plugin(name: &str) -> PluginName {
    PluginName::new(name).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(super) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(super) fn lab(name: &str) -> LabName {
    LabName::new(name).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(super) fn node(number: u64) -> NodeName {
    NodeName::new(format!("n{number}")).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(super) fn interface(name: &str) -> IfName {
    IfName::new(name).unwrap_or_else(|error| unreachable!("{error}"))
}

/// A vendor with three kinds: one plain, one that is probed and configured, one with a provider of its own.
#[derive(Debug)]
struct Vendor(Vec<KindData>);

impl VendorConfig for Vendor {
    fn kinds(&self) -> &[KindData] {
        &self.0
    }

    fn after_start(&self, kind: &KindData, node: &VendorContext<'_>) -> Vec<VendorAction> {
        if kind.kind != "router" {
            return Vec::new();
        }
        let command = |end: &&lifecycle_core::topology::NodeEnd| VendorAction::Exec {
            argv: vec!["ip".to_owned(), "link".to_owned(), "show".to_owned(), end.ifname.to_string()],
        };
        node.ends.iter().map(command).collect()
    }
}

pub(super) fn vendor() -> Arc<dyn VendorConfig> {
    let kind = |name: &str, provider: Option<&str>, readiness: Readiness| KindData {
        provider: provider.map(plugin),
        readiness,
        ..KindData::new(name)
    };
    let probe = Readiness::Command { command: vec!["ready".to_owned()], interval: 5, timeout: 30 };
    Arc::new(Vendor(vec![
        kind("linux", None, Readiness::WhenRunning),
        kind("router", None, probe),
        kind("cell", Some(JAIL), Readiness::WhenRunning),
    ]))
}

/// A new lab.
pub(super) fn draw(name: &str, chance: &mut Chance) -> Topology {
    let mut topology = Topology::new(lab(name), "/labs");
    topology.settings.host = match chance.below(10) {
        0..=6 => Some(host(HOSTS[0])),
        7 => Some(host(HOSTS[1])),
        _ => None,
    };
    if chance.per_mille(200) {
        topology.settings.provider = Some(plugin(JAIL));
    }
    for number in 1..=chance.between(1, 5) {
        topology.nodes.push(draw_node(number, chance));
    }
    for _ in 0..chance.between(0, 6) {
        add_link(&mut topology, chance);
    }
    for index in 1..topology.nodes.len() {
        if chance.per_mille(150) {
            let wait = draw_wait(&topology.nodes[..index], chance);
            topology.nodes[index].wait_for.extend(wait);
            topology.nodes[index].stage_commands = stage_commands();
        }
    }
    topology
}

/// A wait for a node that stands before in the lab, so that nobody waits in a circle.
fn draw_wait(before: &[NodeSpec], chance: &mut Chance) -> Option<WaitFor> {
    let stage = *chance.pick(&[Stage::Create, Stage::CreateLinks, Stage::Configure])?;
    let until = *chance.pick(&[Stage::Create, Stage::CreateLinks, Stage::Configure, Stage::Healthy])?;
    Some(WaitFor { stage, node: chance.pick(before)?.name.clone(), until })
}

/// A command for each moment at which there can be one.
fn stage_commands() -> Vec<StageCommand> {
    let each = [Stage::CreateLinks, Stage::Configure, Stage::Healthy].into_iter();
    let both = each.flat_map(|stage| [StagePhase::OnEnter, StagePhase::OnExit].map(|phase| (stage, phase)));
    let target = CommandTarget::Container;
    both.map(|(stage, phase)| StageCommand { stage, phase, target, argv: vec!["true".to_owned()] }).collect()
}

fn draw_node(number: u64, chance: &mut Chance) -> NodeSpec {
    let kind = chance.pick(&["linux", "linux", "linux", "router", "cell"]).copied().unwrap_or("linux");
    let mut spec = NodeSpec::new(node(number), kind);
    for _ in 0..2 {
        change_node(&mut spec, chance);
    }
    spec
}

/// Changes one thing about a node.
fn change_node(spec: &mut NodeSpec, chance: &mut Chance) {
    match chance.below(12) {
        0 | 1 => spec.image = Some("small:1".to_owned()),
        2 => spec.image = Some("large:1".to_owned()),
        3 => {
            spec.image = Some(if chance.per_mille(300) { LOST_IMAGE } else { "small:2" }.to_owned());
            spec.image_pull_policy = match chance.below(4) {
                0 => ImagePullPolicy::Never,
                1 => ImagePullPolicy::Always,
                _ => ImagePullPolicy::IfNotPresent,
            };
        }
        4 => spec.resources.memory = Some(chance.between(1, 4) << 30),
        5 => spec.resources.cpu = Some(chance.between(1, 30) as f64 / 10.0),
        6 => spec.host = chance.pick(&HOSTS).map(|name| host(name)),
        7 => spec.host = None,
        8 => spec.provider = chance.pick(&[None, Some(POD), Some(JAIL)]).copied().flatten().map(plugin),
        9 => {
            spec.cmd = chance.per_mille(250).then(|| vec![if chance.coin() { CRASHES } else { BAD_BINARY }.to_owned()]);
        }
        10 => spec.startup_delay = if chance.per_mille(300) { 2 } else { 0 },
        _ => {
            spec.desired = if chance.per_mille(300) { NodeIntent::Stopped } else { NodeIntent::Running };
            spec.healthcheck = chance.per_mille(300).then(|| Healthcheck {
                test: vec!["healthy".to_owned()],
                interval: 3,
                timeout: 2,
                retries: 2,
                start_period: 4,
            });
        }
    }
}

fn add_link(topology: &mut Topology, chance: &mut Chance) {
    let ends = topology.links.iter().flat_map(LinkSpec::ends);
    let used: BTreeSet<String> =
        ends.filter_map(|end| end.as_node().map(|end| format!("{}:{}", end.node, end.ifname))).collect();
    let free = |chance: &mut Chance, not: Option<&NodeName>| {
        let names: Vec<_> = topology.nodes.iter().map(|spec| &spec.name).filter(|name| Some(*name) != not).collect();
        let name = (*chance.pick(&names)?).clone();
        let ifname = interface(&format!("eth{}", chance.between(1, 4)));
        (!used.contains(&format!("{name}:{ifname}"))).then(|| Endpoint::node(name, ifname))
    };
    let Some(a) = free(chance, None) else { return };
    let b = if chance.per_mille(120) {
        let interface = interface(&format!("{}{}", topology.name, chance.between(1, 3)));
        let taken = |link: &LinkSpec| matches!(&link.b, Endpoint::Host { interface: other } if *other == interface);
        (!topology.links.iter().any(taken)).then_some(Endpoint::Host { interface: interface.clone() })
    } else {
        free(chance, a.as_node().map(|end| &end.node))
    };
    let Some(b) = b else { return };
    let mut spec = LinkSpec::new(a, b);
    want(&mut spec, draw_attrs(chance));
    topology.links.push(spec);
}

/// Plugs an end of a link in elsewhere, or exchanges it for one of another link.
fn cable_anew(topology: &mut Topology, chance: &mut Chance) {
    let one = chance.below(topology.links.len() as u64) as usize;
    let other = chance.below(topology.links.len() as u64) as usize;
    if one != other && chance.coin() {
        let (mut a, mut b) = (topology.links[one].clone(), topology.links[other].clone());
        std::mem::swap(&mut a.a, &mut b.a);
        let joins_one_node =
            |link: &LinkSpec| link.a.as_node().map(|end| &end.node) == link.b.as_node().map(|end| &end.node);
        if !joins_one_node(&a) && !joins_one_node(&b) {
            (topology.links[one], topology.links[other]) = (a, b);
        }
        return;
    }
    let before = topology.links.len();
    add_link(topology, chance);
    if topology.links.len() > before {
        let Some(new) = topology.links.pop() else { return };
        // Of the new link only the far end is taken; where the link leads to the host, that is where it goes.
        let link = &mut topology.links[one];
        let same = |end: &Endpoint| end.as_node().map(|end| &end.node) == link.a.as_node().map(|end| &end.node);
        if !same(&new.b) {
            link.b = new.b;
        }
    }
}

fn want(link: &mut LinkSpec, attrs: LinkAttrs) {
    (link.attrs, link.explicit_mtu) = (attrs, attrs.mtu == CHOSEN_MTU);
}

/// Attributes of a link, now and then such that the backend cannot have them.
pub(super) fn draw_attrs(chance: &mut Chance) -> LinkAttrs {
    LinkAttrs {
        mtu: if chance.per_mille(300) { CHOSEN_MTU } else { DEFAULT_MTU },
        admin: if chance.per_mille(100) { Admin::Down } else { Admin::Up },
        rate: chance.per_mille(20).then_some(1_000_000),
        delay: chance.per_mille(200).then_some(500),
        ..LinkAttrs::default()
    }
}

/// Changes a lab here and there.
pub(super) fn change(topology: &mut Topology, chance: &mut Chance) {
    for _ in 0..chance.between(1, 3) {
        match chance.below(11) {
            0 => {
                let free = (1..=6).find(|number| topology.node(&node(*number)).is_none());
                if let Some(number) = free {
                    topology.nodes.push(draw_node(number, chance));
                }
            }
            1 if topology.nodes.len() > 1 => {
                let gone = topology.nodes.remove(chance.below(topology.nodes.len() as u64) as usize).name;
                let at = |end: &Endpoint| end.as_node().is_some_and(|end| end.node == gone);
                topology.links.retain(|link| !at(&link.a) && !at(&link.b));
                topology.nodes.iter_mut().for_each(|spec| spec.wait_for.retain(|wait| wait.node != gone));
            }
            2 | 3 => {
                let index = chance.below(topology.nodes.len() as u64) as usize;
                change_node(&mut topology.nodes[index], chance);
            }
            4 if !topology.links.is_empty() => {
                topology.links.remove(chance.below(topology.links.len() as u64) as usize);
            }
            5 if !topology.links.is_empty() => {
                let index = chance.below(topology.links.len() as u64) as usize;
                let attrs = draw_attrs(chance);
                let link = &mut topology.links[index];
                // The same link written the other way round is the same link.
                if chance.per_mille(200) {
                    std::mem::swap(&mut link.a, &mut link.b);
                } else {
                    want(link, attrs);
                }
            }
            6 => {
                // The backend of a link, or of all that name none.
                let backend = chance.pick(&[None, Some(WIRE), Some(LOOM)]).copied().flatten().map(plugin);
                let index = chance.below(topology.links.len() as u64 + 1) as usize;
                match topology.links.get_mut(index) {
                    Some(link) => link.backend = backend,
                    None => topology.settings.backend = backend,
                }
            }
            7 | 8 if !topology.links.is_empty() => cable_anew(topology, chance),
            _ => add_link(topology, chance),
        }
    }
}
