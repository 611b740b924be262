//! What is wrong with a topology on these hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lifecycle_core::name::{NodeName, PluginName};
use lifecycle_core::policy::stage::Moment;
use lifecycle_core::topology::{CommandTarget, Endpoint, LinkSpec, NodeSpec, StageCommand, Topology};

use super::super::World;
use super::{end_text, is_exclusive, key_of_text, link_text, provider_of};

/// Everything that is wrong with a topology on these hosts.
pub(super) fn problems(world: &World, topology: &Topology) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for spec in &topology.nodes {
        let (name, twice) = (&spec.name, !names.insert(&spec.name));
        let found = twice.then(|| "there are two nodes of this name".to_owned()).into_iter();
        let found = found.chain(of_node(world, topology, spec));
        problems.extend(found.map(|problem| format!("node {name}: {problem}")));
    }
    for spec in &topology.nodes {
        let unknown = spec.wait_for.iter().filter(|wait| !names.contains(&wait.node));
        let problem = |name: &NodeName| format!("node {}: it waits for {name}, and there is no such node", spec.name);
        problems.extend(unknown.map(|wait| problem(&wait.node)));
    }
    for spec in &topology.links {
        let text = link_text(spec);
        let found = of_link(world, topology, spec, &names).into_iter();
        problems.extend(found.map(|problem| format!("link {text}: {problem}")));
    }
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for end in topology.links.iter().flat_map(LinkSpec::ends).filter(|end| is_exclusive(end)) {
        *ends.entry(end_text(end, "")).or_default() += 1;
    }
    let shared = ends.into_iter().filter(|(_, count)| *count > 1);
    problems.extend(shared.map(|(end, count)| format!("{end}: {count} links end here; an interface takes one")));
    problems
}

fn of_node(world: &World, topology: &Topology, spec: &NodeSpec) -> Vec<String> {
    let mut problems = Vec::new();
    if world.kinds.get(&spec.kind).is_none() {
        let known = world.kinds.all().map(|kind| kind.kind.as_str());
        problems.push(format!("unknown kind `{}`; known: {}", spec.kind, listed(known)));
    }
    problems.extend(spec.stage_commands.iter().filter_map(of_command));
    let provider = provider_of(world, topology, spec);
    if !world.hosts.values().any(|host| host.providers.contains_key(&provider)) {
        let known: BTreeSet<&str> =
            world.hosts.values().flat_map(|host| host.providers.keys()).map(PluginName::as_str).collect();
        problems.push(format!("no provider is called `{provider}`; known: {}", listed(known)));
    }
    if let Some(host) = spec.host.as_ref().filter(|host| !world.hosts.contains_key(*host)) {
        let known = world.hosts.keys().map(|host| host.as_str());
        problems.push(format!("no host is called `{host}`; known: {}", listed(known)));
    }
    problems
}

/// Why a command of a stage cannot be run.
fn of_command(command: &StageCommand) -> Option<String> {
    let why = match command.target {
        CommandTarget::Host => "on the host, where nothing of a lab is run; write `target: container`",
        CommandTarget::Container if Moment::of(command.stage, command.phase).is_none() => {
            "in a node that has ended; use another stage"
        }
        CommandTarget::Container => return None,
    };
    Some(format!("a command of stages.{}.exec would have to run {why}", command.stage))
}

fn of_link(world: &World, topology: &Topology, spec: &LinkSpec, nodes: &BTreeSet<&NodeName>) -> Vec<String> {
    let mut problems = Vec::new();
    if spec.ends().iter().all(|end| end.as_node().is_none()) {
        problems.push("neither end is at a node".to_owned());
    }
    match &spec.b {
        Endpoint::Vxlan { stitch: true, .. } => {
            problems.push("no network backend can stitch; write `vxlan` instead of `vxlan-stitch`".to_owned());
        }
        Endpoint::Vxlan { remote, .. } if remote.parse::<IpAddr>().is_err() => {
            problems.push(format!("`remote` has to be an address, and `{remote}` is a name"));
        }
        _ => {}
    }
    if let Some(backend) = spec.backend.as_ref().or(topology.settings.backend.as_ref())
        && !world.hosts.values().any(|host| host.backends.contains_key(backend))
    {
        let known: BTreeSet<&str> =
            world.hosts.values().flat_map(|host| host.backends.keys()).map(PluginName::as_str).collect();
        problems.push(format!("no network backend is called `{backend}`; known: {}", listed(known)));
    }
    let ends = spec.ends().into_iter().filter_map(Endpoint::as_node);
    let astray = ends.filter(|end| !nodes.contains(&end.node));
    problems.extend(astray.map(|end| format!("there is no node {}", end.node)));
    if key_of_text(spec).is_none() {
        problems.push("both ends are the same interface".to_owned());
    }
    problems
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
