//! The ends of links: at nodes, or where the brief form has one of three words instead of a node's name.

use std::collections::{BTreeMap, HashMap};

use ipnet::{Ipv4Net, Ipv6Net};
use lifecycle_core::attach::Mac;
use lifecycle_core::name::{IfName, NodeName, PortName};
use lifecycle_core::topology::{Endpoint, MacvlanMode, NodeEnd};

use crate::InterfaceNames;
use crate::decode::At;
use crate::diagnostics::{Problems, nearest};
use crate::file::{EndpointDef, EndpointField, LinkDef};
use crate::node::parsed;
use crate::source::Span;

/// Words that stand for a place of the host where a node's name is expected in the brief form.
pub(crate) const MAGIC: [&str; 3] = ["host", "mgmt-net", "macvlan"];

/// The nodes that links can refer to.
pub(crate) struct Nodes<'a> {
    /// By their name in the file.
    pub(crate) names: &'a BTreeMap<String, NodeName>,
    /// Their kinds.
    pub(crate) kinds: HashMap<&'a NodeName, &'a str>,
    /// How their ports map to interfaces.
    pub(crate) interfaces: &'a InterfaceNames,
}

/// Both ends, the first at a node, and where they stand; one that could not be read is nothing.
pub(crate) type Ends = [(Option<Endpoint>, Span); 2];

fn two_endpoints<'l>(link: &'l At<LinkDef>, problems: &mut Problems) -> Option<[&'l At<EndpointField>; 2]> {
    let found = link.endpoints.as_ref().map_or(&[][..], |endpoints| &endpoints.value);
    if let [a, b] = found {
        return Some([a, b]);
    }
    let at = link.endpoints.as_ref().map_or(link.span, |endpoints| endpoints.span);
    problems.error(
        at,
        format!("a link has two ends, and this one has {}", found.len()),
        "expected `endpoints: [\"a:eth1\", \"b:eth1\"]`",
    );
    None
}

/// The ends of a link in the brief form, `endpoints: ["a:eth1", "b:eth1"]`.
pub(crate) fn brief(link: &At<LinkDef>, nodes: &Nodes<'_>, problems: &mut Problems) -> Option<Ends> {
    let endpoints = two_endpoints(link, problems)?;
    let mut split = |end: &At<EndpointField>| {
        let EndpointField::Brief(text) = &end.value else {
            problems.error(end.span, "an end with fields needs a type of link", "add `type: veth` to this link");
            return None;
        };
        // Only the first colon counts: what stands behind it may be any name of a port.
        let parts = text.split_once(':').map(|(node, port)| (node.trim().to_owned(), port.trim().to_owned()));
        if parts.as_ref().is_none_or(|(node, port)| node.is_empty() || port.is_empty()) {
            problems.error(end.span, format!("`{text:.80}` is not an end of a link"), "expected `node:interface`");
            return None;
        }
        parts
    };
    let parts = endpoints.map(&mut split);
    let [Some(a), Some(b)] = parts else { return None };
    let spans = endpoints.map(|end| end.span);
    let is_magic = |(node, _): &(String, String)| MAGIC.iter().any(|word| node.eq_ignore_ascii_case(word));
    let mut address = Addresses::of(link, problems);
    let mut end = |index: usize, (node, port): &(String, String), problems: &mut Problems| {
        let def = EndpointDef::default();
        let place = At { value: node.clone(), span: spans[index] };
        let port = At { value: port.clone(), span: spans[index] };
        let (ipv4, ipv6) = address.take(index);
        at_node(&place, &port, &def, nodes, problems).map(|end| with_addresses(end, ipv4, ipv6))
    };
    if !is_magic(&a) && !is_magic(&b) {
        return Some([(end(0, &a, problems), spans[0]), (end(1, &b, problems), spans[1])]);
    }
    let (special, word, name, node) = if is_magic(&a) { (0, a.0, a.1, b) } else { (1, b.0, b.1, a) };
    let name = At { value: name, span: spans[special] };
    let node = end(1 - special, &node, problems);
    let far = match word.to_ascii_lowercase().as_str() {
        "macvlan" => if_name(&name, problems).map(|parent| Endpoint::Macvlan { parent, mode: MacvlanMode::Bridge }),
        "mgmt-net" => if_name(&name, problems).map(|interface| Endpoint::Management { interface }),
        _ => if_name(&name, problems).map(|interface| Endpoint::Host { interface }),
    };
    Some([(node, spans[1 - special]), (far, spans[special])])
}

/// The ends of a link whose ends have fields.
pub(crate) fn full(link: &At<LinkDef>, kind: &str, nodes: &Nodes<'_>, problems: &mut Problems) -> Option<Ends> {
    let endpoints = two_endpoints(link, problems)?;
    let mut addresses = Addresses::of(link, problems);
    let mut end = |index: usize| match &endpoints[index].value {
        EndpointField::Full(def) => {
            let (ipv4, ipv6) = addresses.take(index);
            node_end(def, endpoints[index].span, nodes, problems).map(|end| with_addresses(end, ipv4, ipv6))
        }
        EndpointField::Brief(text) => {
            let advice = "expected `{node: …, interface: …}`, or no `type` at all";
            problems.error(endpoints[index].span, format!("`{text:.80}` is not an end of a `{kind}` link"), advice);
            None
        }
    };
    Some([(end(0), endpoints[0].span), (end(1), endpoints[1].span)])
}

/// The addresses that a link lists for its ends; an empty text stands for none.
struct Addresses {
    ipv4: [Option<Ipv4Net>; 2],
    ipv6: [Option<Ipv6Net>; 2],
}

impl Addresses {
    fn of(link: &LinkDef, problems: &mut Problems) -> Self {
        for list in [&link.ipv4, &link.ipv6].into_iter().flatten().filter(|list| list.len() > 2) {
            problems.error(list.span, "a link has two ends, and so at most two addresses", "");
        }
        let [v4, v6] = [&link.ipv4, &link.ipv6].map(|list| list.as_ref().map_or(&[][..], |list| &list.value));
        Self {
            ipv4: [0, 1].map(|index| parsed(v4.get(index), problems)),
            ipv6: [0, 1].map(|index| parsed(v6.get(index), problems)),
        }
    }

    fn take(&mut self, index: usize) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
        (self.ipv4[index].take(), self.ipv6[index].take())
    }
}

fn with_addresses(end: Endpoint, ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) -> Endpoint {
    match end {
        Endpoint::Node(end) => Endpoint::Node(NodeEnd { ipv4: end.ipv4.or(ipv4), ipv6: end.ipv6.or(ipv6), ..end }),
        other => other,
    }
}

/// The end that is written with fields.
pub(crate) fn node_end(def: &EndpointDef, at: Span, nodes: &Nodes<'_>, problems: &mut Problems) -> Option<Endpoint> {
    let (Some(node), Some(port)) = (&def.node, &def.interface) else {
        problems.error(at, "this end is not complete", "expected `node` and `interface`");
        return None;
    };
    at_node(node, port, def, nodes, problems)
}

/// The end at a port of a node. An end at the host, as a node of kind `host`, is an interface of the host.
fn at_node(
    node: &At<String>,
    port: &At<String>,
    def: &EndpointDef,
    nodes: &Nodes<'_>,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let Some(name) = nodes.names.get(node.as_str()) else {
        let advice = match nearest(node, nodes.names.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "every end is at a node of `topology.nodes`, or at `host`, `mgmt-net` or `macvlan`".to_owned(),
        };
        problems.error(node.span, format!("there is no node `{:.80}`", node.value), advice);
        return None;
    };
    let kind = nodes.kinds.get(name).copied().unwrap_or_default();
    if kind == "host" {
        return if_name(port, problems).map(|interface| Endpoint::Host { interface });
    }
    let named = PortName::new(&port.value).map_err(|error| problems.error(port.span, error.to_string(), "")).ok()?;
    let mac: Option<Mac> = parsed(def.mac.as_ref(), problems);
    if let Some(at) = def.mac.as_ref().filter(|_| mac.is_some_and(Mac::is_group)) {
        problems.error(
            at.span,
            format!("`{}` is a group address", at.value),
            "an interface's own address has an even first byte",
        );
    }
    Some(Endpoint::Node(NodeEnd {
        node: name.clone(),
        ifname: (nodes.interfaces.0)(kind, &named),
        port: named,
        mac,
        ipv4: parsed(def.ipv4.as_ref(), problems),
        ipv6: parsed(def.ipv6.as_ref(), problems),
    }))
}

/// The name of an interface of the host.
pub(crate) fn if_name(text: &At<String>, problems: &mut Problems) -> Option<IfName> {
    let advice = "this interface is in the host's network namespace";
    IfName::new(text.trim()).map_err(|error| problems.error(text.span, error.to_string(), advice)).ok()
}
