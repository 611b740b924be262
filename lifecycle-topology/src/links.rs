//! Links: their types, what stands at the far end of each, and their attributes.

use std::collections::BTreeMap;

use lifecycle_core::attach::Tunnel;
use lifecycle_core::topology::{DEFAULT_MTU, Endpoint, LinkAttrs, LinkSpec, MacvlanMode, Manage};
use serde_json::{Value as Json, json};

use crate::decode::{At, Entry, Map};
use crate::diagnostics::{Problems, nearest};
use crate::endpoints::{Ends, Nodes, brief, full, if_name, node_end};
use crate::file::{EndpointField, LinkDef};
use crate::node::{MTU, parsed};
use crate::source::Span;
use crate::values;

/// Types of links, and which fields beyond the common ones each has.
const TYPES: [(&str, &[&str]); 9] = [
    ("brief", &["endpoints", "ipv4", "ipv6"]),
    ("veth", &["endpoints", "ipv4", "ipv6"]),
    ("veth-stitch", &["endpoints", "ipv4", "ipv6"]),
    ("host", &["endpoint", "host-interface"]),
    ("mgmt-net", &["endpoint", "host-interface"]),
    ("macvlan", &["endpoint", "host-interface", "mode"]),
    ("vxlan", VXLAN),
    ("vxlan-stitch", VXLAN),
    ("dummy", &["endpoint"]),
];
const VXLAN: &[&str] = &["endpoint", "remote", "vni", "dst-port", "udp-port", "src-port", "parent-interface"];

/// A link, and its ends with their places in the file. Of a link with a bad end the other one still counts, so that what
/// is wrong with it is told too.
pub(crate) struct Link {
    pub(crate) spec: Option<LinkSpec>,
    pub(crate) ends: Ends,
}

/// Reads a link; without a result there is an error among the problems.
pub(crate) fn read(link: &At<LinkDef>, nodes: &Nodes<'_>, problems: &mut Problems) -> Option<Link> {
    let given = link.r#type.as_ref().map(|kind| kind.trim().to_ascii_lowercase()).filter(|kind| !kind.is_empty());
    let kind = given.as_deref().unwrap_or("brief");
    let Some((kind, allowed)) = TYPES.into_iter().find(|(known, _)| *known == kind) else {
        let known = TYPES.map(|(known, _)| known);
        let near = nearest(kind, known)
            .map_or_else(|| format!("expected one of: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        let at = link.r#type.as_ref().map_or(link.span, |kind| kind.span);
        problems.error(at, format!("`{kind:.80}` is no type of link"), near);
        return None;
    };
    refuse_foreign_fields(link, kind, allowed, problems);
    let ends = match kind {
        "brief" => brief(link, nodes, problems)?,
        "veth" | "veth-stitch" => full(link, kind, nodes, problems)?,
        _ => {
            let Some(endpoint) = &link.endpoint else {
                problems.error(
                    link.span,
                    format!("a `{kind}` link needs `endpoint`"),
                    "expected `endpoint: {node: …, interface: …}`",
                );
                return None;
            };
            let a = node_end(endpoint, endpoint.span, nodes, problems);
            let b = far_end(link, kind, problems);
            let at = link.host_interface.as_ref().map_or(endpoint.span, |name| name.span);
            [(a, endpoint.span), (b, at)]
        }
    };
    let spec = finish(link, kind, &ends, problems);
    Some(Link { spec, ends })
}

/// What a link is beyond its ends.
fn finish(link: &At<LinkDef>, kind: &str, ends: &Ends, problems: &mut Problems) -> Option<LinkSpec> {
    let attrs = attributes(link, problems);
    let backend = parsed(link.backend.as_ref(), problems);
    let manage = link.manage.as_ref().map_or(Some(Manage::default()), |word| {
        let manage = word.parse().ok();
        if manage.is_none() {
            problems.error(word.span, "this is no way to manage a link", "expected `observe` or `strict`");
        }
        manage
    });
    let [(Some(a), _), (Some(b), _)] = ends else { return None };
    if a.as_node().is_none() && b.as_node().is_none() {
        problems.error(link.span, "this link has no node at either end", "one end must be an interface of a node");
    }
    let labels = link.labels.iter().flat_map(|labels| &labels.value);
    let text = |entry: &Entry<String>| entry.value.as_ref().map(|value| value.value.clone()).unwrap_or_default();
    let mut spec = LinkSpec::new(a.clone(), b.clone());
    spec.attrs = attrs;
    spec.explicit_mtu = link.mtu.is_some();
    spec.backend = backend;
    spec.manage = manage?;
    spec.labels = labels.map(|(key, entry)| (key.clone(), text(entry))).collect();
    keep_extra(link, kind, &mut spec.extra);
    Some(spec)
}

fn refuse_foreign_fields(link: &LinkDef, kind: &str, allowed: &[&str], problems: &mut Problems) {
    fn span<T>(field: &Option<At<T>>) -> Option<Span> {
        field.as_ref().map(|field| field.span)
    }
    let given = [
        ("endpoints", span(&link.endpoints)),
        ("endpoint", span(&link.endpoint)),
        ("host-interface", span(&link.host_interface)),
        ("mode", span(&link.mode)),
        ("ipv4", span(&link.ipv4)),
        ("ipv6", span(&link.ipv6)),
        ("remote", span(&link.remote)),
        ("vni", span(&link.vni)),
        ("dst-port", span(&link.dst_port)),
        ("udp-port", span(&link.udp_port)),
        ("src-port", span(&link.src_port)),
        ("parent-interface", span(&link.parent_interface)),
    ];
    for (name, at) in given {
        if let Some(at) = at.filter(|_| !allowed.contains(&name)) {
            problems.error(
                at,
                format!("`{name}` has no meaning in a `{kind}` link"),
                format!("such a link has {}", allowed.join(", ")),
            );
        }
    }
}

/// The end that is not at a node, of a link of a type with `endpoint`.
fn far_end(link: &At<LinkDef>, kind: &str, problems: &mut Problems) -> Option<Endpoint> {
    let mut host_interface = || match &link.host_interface {
        Some(name) => if_name(name, problems),
        None => {
            problems.error(link.span, format!("a `{kind}` link needs `host-interface`"), "");
            None
        }
    };
    match kind {
        "dummy" => Some(Endpoint::Dummy),
        "host" => host_interface().map(|interface| Endpoint::Host { interface }),
        "mgmt-net" => host_interface().map(|interface| Endpoint::Management { interface }),
        "macvlan" => {
            let parent = host_interface();
            let mode = link.mode.as_ref().map_or(Some(MacvlanMode::Bridge), |word| {
                let advice = "expected bridge, vepa, private, passthru or source";
                word.parse().map_err(|_| problems.error(word.span, "this is no mode of macvlan", advice)).ok()
            });
            Some(Endpoint::Macvlan { parent: parent?, mode: mode? })
        }
        _ => vxlan(link, kind, problems),
    }
}

fn vxlan(link: &At<LinkDef>, kind: &str, problems: &mut Problems) -> Option<Endpoint> {
    if let Some(old) = &link.udp_port {
        problems.warn(old.span, "`udp-port` is an old spelling", "write `dst-port`");
    }
    let mut port = |field: &Option<At<u32>>| {
        let field = field.as_ref()?;
        let port = u16::try_from(field.value).ok().filter(|port| *port > 0);
        if port.is_none() {
            problems.error(field.span, "this is no UDP port", "expected 1 to 65535");
        }
        port
    };
    let (destination, old, source_port) = (port(&link.dst_port), port(&link.udp_port), port(&link.src_port));
    let vni = link.vni.as_ref().map(|vni| vni.value).filter(|vni| (1..1 << 24).contains(vni));
    if vni.is_none() {
        let at = link.vni.as_ref().map_or(link.span, |vni| vni.span);
        problems.error(at, format!("a `{kind}` link needs a network identifier"), "expected `vni` from 1 to 16777215");
    }
    let is_host = |text: &str| {
        let name = text
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        text.parse::<std::net::IpAddr>().is_ok() || (name && text.len() <= 253)
    };
    let remote = link.remote.as_ref().filter(|remote| is_host(remote.trim()));
    if remote.is_none() {
        let at = link.remote.as_ref().map_or(link.span, |remote| remote.span);
        problems.error(
            at,
            format!("a `{kind}` link needs a far end"),
            "expected `remote` with an address or a host name",
        );
    }
    let parent = link.parent_interface.as_ref().map(|name| if_name(name, problems));
    Some(Endpoint::Vxlan {
        remote: remote?.trim().to_owned(),
        vni: vni?,
        port: destination.or(old).unwrap_or(Tunnel::PORT),
        stitch: kind == "vxlan-stitch",
        source_port,
        parent: parent.unwrap_or_default(),
    })
}

fn attributes(link: &LinkDef, problems: &mut Problems) -> LinkAttrs {
    fn read<T>(
        text: &Option<At<String>>,
        parse: fn(&str) -> Option<T>,
        expected: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let text = text.as_ref()?;
        let value = parse(&text.value);
        if value.is_none() {
            problems.error(text.span, format!("`{:.80}` cannot be read", text.value), format!("expected {expected}"));
        }
        value
    }
    if let Some(mtu) = link.mtu.as_ref().filter(|mtu| !MTU.contains(&mtu.value)) {
        problems.error(mtu.span, "this MTU is out of range", format!("expected {} to {}", MTU.start(), MTU.end()));
    }
    if let (Some(jitter), None) = (&link.jitter, &link.delay) {
        problems.error(jitter.span, "there is no delay for this jitter to vary", "give `delay` as well");
    }
    let admin = |word: &str| word.parse().ok();
    LinkAttrs {
        mtu: link.mtu.as_ref().map_or(DEFAULT_MTU, |mtu| mtu.value),
        admin: read(&link.admin, admin, "`up` or `down`", problems).unwrap_or_default(),
        rate: read(&link.rate, values::rate, "bits per second such as 100M or 1Gbit", problems),
        delay: read(&link.delay, values::microseconds, "a duration with its unit, such as 10ms or 100us", problems),
        jitter: read(&link.jitter, values::microseconds, "a duration with its unit, such as 1ms", problems),
        loss: read(&link.loss, values::percent, "a share in percent, such as 0.5%", problems),
    }
}

/// What is kept for those who know it: variables for configurations, and what a type has beyond our own model.
fn keep_extra(link: &LinkDef, kind: &str, extra: &mut BTreeMap<String, Json>) {
    let object = |vars: &Map<Json>| -> Json {
        vars.iter()
            .map(|(key, entry)| (key.clone(), entry.value.as_ref().map_or(Json::Null, |value| value.value.clone())))
            .collect()
    };
    if let Some(vars) = &link.vars {
        extra.insert("vars".to_owned(), object(vars));
    }
    let endpoints = link.endpoints.iter().flat_map(|list| &list.value).filter_map(|end| match &end.value {
        EndpointField::Full(def) => Some(&**def),
        EndpointField::Brief(_) => None,
    });
    let of_ends: Vec<Json> =
        endpoints.chain(link.endpoint.as_deref()).map(|def| def.vars.as_deref().map_or(Json::Null, object)).collect();
    if of_ends.iter().any(|vars| !vars.is_null()) {
        extra.insert("endpoint-vars".to_owned(), of_ends.into());
    }
    if kind == "veth-stitch" {
        extra.insert("type".to_owned(), json!(kind));
    }
}
