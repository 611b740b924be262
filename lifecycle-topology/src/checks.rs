//! What must hold between the parts of a lab: ends, names and addresses are used once, and nobody waits for themselves.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lifecycle_core::name::{IfName, NodeName};
use lifecycle_core::topology::{Endpoint, ManagementNetwork, NetworkMode, NodeSpec, Stage, WaitFor};

use crate::diagnostics::{Problems, nearest};
use crate::file::{NodeDef, WaitForDef};
use crate::links::Link;
use crate::node::{Resolved, is_bridge};
use crate::precedence::Layers;
use crate::source::Span;

/// A network namespace that interfaces share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Namespace {
    Host,
    Node(NodeName),
    External(String),
}

/// The namespace in which the interfaces of a node are.
fn namespace_of(name: &NodeName, nodes: &HashMap<&NodeName, &NodeSpec>) -> Namespace {
    let mut name = name;
    // A circle of nodes that share with each other is an error of its own; here it only must end.
    for _ in 0..=nodes.len() {
        let Some(node) = nodes.get(name) else { break };
        match &node.network_mode {
            NetworkMode::Node(other) => name = other,
            NetworkMode::External(container) => return Namespace::External(container.clone()),
            NetworkMode::Host => return Namespace::Host,
            NetworkMode::Own | NetworkMode::None if is_bridge(&node.kind) || node.kind == "host" => {
                return Namespace::Host;
            }
            NetworkMode::Own | NetworkMode::None => break,
        }
    }
    Namespace::Node(name.clone())
}

/// A link that stands there already, in another direction or under another spelling of its ends, is left out.
pub(crate) fn without_repeats(links: Vec<Link>, problems: &mut Problems) -> Vec<Link> {
    let mut first: HashMap<[(Option<NodeName>, IfName); 2], Span> = HashMap::new();
    let mut is_new = |link: &Link| {
        let [(Some(a), at), (Some(b), _)] = &link.ends else { return true };
        let Some(mut ends) = place(a).zip(place(b)).map(|(a, b)| [a, b]) else { return true };
        ends.sort();
        match first.entry(ends) {
            Entry::Vacant(free) => {
                free.insert(*at);
                true
            }
            Entry::Occupied(first) => {
                let line = problems.line_of(*first.get());
                let name = [a, b].map(text).join(" -- ");
                problems.warn(*at, format!("the link `{name}` is left out"), format!("line {line} has it already"));
                false
            }
        }
    };
    links.into_iter().filter(|link| is_new(link)).collect()
}

/// The node and the interface that an end is, where it is one that no other can be.
fn place(end: &Endpoint) -> Option<(Option<NodeName>, IfName)> {
    match end {
        Endpoint::Node(end) => Some((Some(end.node.clone()), end.ifname.clone())),
        Endpoint::Host { interface } | Endpoint::Management { interface } => Some((None, interface.clone())),
        Endpoint::Macvlan { .. } | Endpoint::Dummy | Endpoint::Vxlan { .. } => None,
    }
}

/// An end as its user wrote it.
fn text(end: &Endpoint) -> String {
    match end {
        Endpoint::Node(end) => format!("{}:{}", end.node, end.port),
        Endpoint::Management { interface } => format!("mgmt-net:{interface}"),
        Endpoint::Host { interface } => format!("host:{interface}"),
        Endpoint::Macvlan { .. } | Endpoint::Dummy | Endpoint::Vxlan { .. } => String::new(),
    }
}

/// Every interface stands once in its namespace, whether a link makes it or a bridge is one.
pub(crate) fn interfaces(nodes: &[Resolved], links: &[Link], problems: &mut Problems) {
    let by_name: HashMap<&NodeName, &NodeSpec> = nodes.iter().map(|node| (&node.spec.name, &node.spec)).collect();
    let mut taken: HashMap<(Namespace, &str), Span> = HashMap::new();
    for node in nodes {
        if let Some(bridge) = &node.spec.bridge {
            let place = namespace_of(&node.spec.name, &by_name);
            claim(place, bridge.as_str(), &format!("bridge `{bridge}`"), node.key, &mut taken, problems);
        }
    }
    for link in links {
        for (end, at) in &link.ends {
            let (Some(end), at) = (end, *at) else { continue };
            match end {
                Endpoint::Node(end) => {
                    let place = namespace_of(&end.node, &by_name);
                    let what = format!("end `{}:{}`", end.node, end.port);
                    claim(place, end.ifname.as_str(), &what, at, &mut taken, problems);
                    let manages_eth0 = by_name
                        .get(&end.node)
                        .is_some_and(|node| !is_bridge(&node.kind) && node.network_mode != NetworkMode::None);
                    if end.ifname.as_str() == "eth0" && manages_eth0 {
                        let advice = "use another interface, or give the node `network-mode: none`";
                        problems.error(at, format!("`eth0` of `{}` is its management interface", end.node), advice);
                    }
                }
                Endpoint::Host { interface } | Endpoint::Management { interface } => {
                    let what = format!("interface `{interface}` of the host");
                    claim(Namespace::Host, interface.as_str(), &what, at, &mut taken, problems);
                }
                Endpoint::Macvlan { .. } | Endpoint::Dummy | Endpoint::Vxlan { .. } => {}
            }
        }
    }
}

fn claim<'n>(
    place: Namespace,
    name: &'n str,
    what: &str,
    at: Span,
    taken: &mut HashMap<(Namespace, &'n str), Span>,
    problems: &mut Problems,
) {
    match taken.entry((place, name)) {
        Entry::Vacant(free) => {
            free.insert(at);
        }
        Entry::Occupied(first) => {
            let whose = match &first.key().0 {
                Namespace::Host => "the host's network namespace".to_owned(),
                Namespace::Node(node) => format!("the network namespace of `{node}`"),
                Namespace::External(container) => format!("the network namespace of `{container}`"),
            };
            let line = problems.line_of(*first.get());
            let message = format!("{what} is used twice: `{name}` exists once in {whose}");
            problems.error(at, message, format!("line {line} uses it already"));
        }
    }
}

/// Management addresses are used once, and are addresses of the subnet that nobody else has.
pub(crate) fn addresses(nodes: &[Resolved], management: &ManagementNetwork, problems: &mut Problems) {
    let mut taken: HashMap<IpAddr, Span> = HashMap::new();
    for node in nodes {
        let spec = &node.spec;
        let families = [
            (
                spec.mgmt_ipv4.map(IpAddr::V4),
                management.ipv4.map(IpNet::V4),
                management.ipv4_gateway,
                "IPv4",
                "ipv4-subnet",
            ),
            (
                spec.mgmt_ipv6.map(IpAddr::V6),
                management.ipv6.map(IpNet::V6),
                management.ipv6_gateway,
                "IPv6",
                "ipv6-subnet",
            ),
        ];
        for ((address, subnet, gateway, family, field), at) in families.into_iter().zip(node.mgmt) {
            let (Some(address), Some(at)) = (address, at) else { continue };
            if let Some(first) = taken.insert(address, at) {
                let line = problems.line_of(first);
                problems.error(
                    at,
                    format!("the address {address} is given twice"),
                    format!("line {line} has it already"),
                );
            }
            let own_network = spec.network_mode == NetworkMode::Own;
            if !own_network {
                problems.warn(
                    at,
                    "this address has no effect",
                    "the node's network mode leaves it no management interface",
                );
            }
            match subnet.filter(|_| own_network) {
                Some(subnet) if !subnet.contains(&address) => {
                    problems.warn(
                        at,
                        format!("{address} is not in the management subnet"),
                        format!("expected an address of {subnet}"),
                    );
                }
                Some(subnet) => {
                    // Without a gateway the first address is it.
                    let hosts_before = usize::from(family == "IPv6");
                    let first = gateway.is_none().then(|| subnet.hosts().nth(hosts_before)).flatten();
                    let broadcast = (family == "IPv4").then(|| subnet.broadcast());
                    if [Some(subnet.network()), broadcast, gateway, first].contains(&Some(address)) {
                        problems.error(
                            at,
                            format!("{address} is the network's own"),
                            format!("choose another address of {subnet}"),
                        );
                    }
                }
                None if own_network && !management.extra.contains_key(field) => {
                    problems.warn(
                        at,
                        format!("the management network has no {family} subnet"),
                        format!("give `mgmt.{field}`"),
                    );
                }
                None => {}
            }
        }
    }
}

const STAGES: [Stage; 5] = [Stage::Create, Stage::CreateLinks, Stage::Configure, Stage::Healthy, Stage::Exit];

/// Gives nodes what they wait for: nodes that exist and stages that do. Neither they nor their namespaces wait in a circle.
pub(crate) fn dependencies(
    nodes: &mut [Resolved],
    layers: &[Layers<'_>],
    names: &BTreeMap<String, NodeName>,
    problems: &mut Problems,
) {
    let mut waits = Vec::new();
    // A place of the graph is a stage of a node: `node * STAGES.len() + stage`. Each stage follows the one before it.
    let index: HashMap<&NodeName, usize> =
        nodes.iter().zip(0..).map(|(node, index)| (&node.spec.name, index)).collect();
    let mut graph: Vec<Vec<usize>> = (0..nodes.len() * STAGES.len())
        .map(|place| if place % STAGES.len() == 0 { Vec::new() } else { vec![place - 1] })
        .collect();
    for ((node, levels), own) in nodes.iter().zip(layers).zip((0..).step_by(STAGES.len())) {
        let levels = levels.records(|level: &NodeDef| &level.stages);
        for (stage, wait) in levels.flat_map(|stages| stages.waits()) {
            let Some((name, until)) = awaited(wait, names, problems) else { continue };
            graph[own + stage as usize].extend(index.get(name).map(|node| node * STAGES.len() + until as usize));
            if stage == Stage::Exit {
                let at = wait.node.as_ref().map_or(node.key, |node| node.span);
                problems.warn(at, "this wait has no effect", "nothing of a node follows its stage `exit`");
            } else {
                waits.push((own / STAGES.len(), WaitFor { stage, node: name.clone(), until }));
            }
        }
        if let NetworkMode::Node(other) = &node.spec.network_mode {
            graph[own].extend(index.get(other).map(|node| node * STAGES.len()));
        }
    }
    let circle = circle(&graph);
    // What a node inherits and has itself counts once.
    let mut seen = HashSet::new();
    for (node, wait) in waits {
        if seen.insert((node, wait.clone())) {
            nodes[node].spec.wait_for.push(wait);
        }
    }
    let Some(circle) = circle else { return };
    let mut path: Vec<&Resolved> = circle.iter().map(|place| &nodes[place / STAGES.len()]).collect();
    path.dedup_by_key(|node| node.key);
    let names: Vec<&str> = path.iter().chain(path.first()).map(|node| node.spec.name.as_str()).collect();
    let message = format!("these nodes wait for each other in a circle: {}", names.join(" → "));
    problems.error(path[0].key, message, "remove one `wait-for` or `network-mode: container`");
}

/// The node and the stage that are waited for.
fn awaited<'n>(
    wait: &WaitForDef,
    names: &'n BTreeMap<String, NodeName>,
    problems: &mut Problems,
) -> Option<(&'n NodeName, Stage)> {
    let stage = wait.stage.as_ref().map_or(Some(Stage::Create), |stage| {
        let known = stage.parse().ok();
        if known.is_none() {
            let known = STAGES.map(|stage| stage.to_string());
            let expected = format!("expected one of: {}", known.join(", "));
            problems.error(stage.span, format!("`{:.80}` is no stage", stage.value), expected);
        }
        known
    });
    let node = wait.node.as_ref()?;
    let found = names.get(node.as_str());
    if found.is_none() {
        let near = nearest(node, names.keys().map(String::as_str));
        let advice = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
        problems.error(node.span, format!("there is no node `{:.80}`", node.value), advice);
    }
    Some((found?, stage?))
}

/// A circle in a graph, given as the followers of each place; searched without recursion, as labs can be long chains.
fn circle(follow: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut done = vec![false; follow.len()];
    let mut on_path = vec![false; follow.len()];
    for start in 0..follow.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if !done[start] {
            path.push((start, 0));
            on_path[start] = true;
        }
        while let Some((at, next)) = path.last_mut() {
            let Some(&to) = follow[*at].get(*next) else {
                done[*at] = true;
                on_path[*at] = false;
                path.pop();
                continue;
            };
            *next += 1;
            if on_path[to] {
                return Some(path.iter().map(|(at, _)| *at).skip_while(|at| *at != to).collect());
            }
            if !done[to] {
                on_path[to] = true;
                path.push((to, 0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::circle;

    #[test]
    fn circles() {
        assert_eq!(circle(&[]), None);
        assert_eq!(circle(&[vec![1, 2], vec![2], vec![]]), None);
        assert_eq!(circle(&[vec![0]]), Some(vec![0]));
        assert_eq!(circle(&[vec![1], vec![2], vec![3], vec![1]]), Some(vec![1, 2, 3]));
        let chain: Vec<Vec<usize>> =
            (1..=100_000).map(|next| if next < 100_000 { vec![next] } else { vec![] }).collect();
        assert_eq!(circle(&chain), None);
    }
}
