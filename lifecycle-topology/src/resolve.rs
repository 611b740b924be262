//! A whole file into a topology.

use std::collections::BTreeMap;
use std::path::Path;

use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::topology::{LabSettings, NetworkMode, Topology};

use crate::decode::{At, Map};
use crate::diagnostics::Problems;
use crate::endpoints::{MAGIC, Nodes};
use crate::file::{File, NodeDef, Settings, TopologyDef};
use crate::links;
use crate::node::{self, Resolved, Scope, is_bridge, parsed};
use crate::precedence::Layers;
use crate::source::Span;
use crate::{Options, checks, git, mgmt};

/// Resolves `file`, whose lab stands in `directory`. What comes out counts only without errors among the problems.
pub(crate) fn resolve(file: &File, directory: &Path, options: &Options, problems: &mut Problems) -> Option<Topology> {
    if let Some(debug) = &file.debug {
        problems.warn(debug.span, "`debug` has no effect", "what is logged is chosen when the controller starts");
    }
    let name = lab_name(file, directory, problems);
    let Some(topology) = &file.topology else {
        problems.error(Span::default(), "the lab has no topology", "expected `topology` with `nodes` and `links`");
        return None;
    };
    let management = mgmt::network(file.mgmt.as_deref(), problems);
    warn_of_old_spellings(file, problems);
    let names = node_names(topology, problems);
    // Nodes are read even when the lab's name is bad, so that all problems are found; the name then stands for nothing.
    let scope = Scope { options, directory, lab: name.as_ref().map_or("lab", |name| name.as_str()), names: &names };
    let (mut nodes, layers) = nodes(topology, &scope, problems);
    let kinds = nodes.iter().map(|node| (&node.spec.name, node.spec.kind.as_str())).collect();
    let known = Nodes { names: &names, kinds, interfaces: &options.interfaces };
    let definitions = topology.links.iter().flat_map(|links| &links.value);
    let links = definitions.filter_map(|link| links::read(link, &known, problems)).collect();
    let links = checks::without_repeats(links, problems);
    checks::interfaces(&nodes, &links, problems);
    checks::addresses(&nodes, &management, problems);
    checks::dependencies(&mut nodes, &layers, &names, problems);

    let used = nodes.iter().any(|node| node.spec.network_mode == NetworkMode::Own && !is_bridge(&node.spec.kind));
    let skipped =
        file.mgmt.as_deref().and_then(|mgmt| mgmt.skip_when_unused.as_deref()).is_some_and(|skip| *skip) && !used;
    let mut resolved = Topology::new(name?, directory);
    resolved.prefix = prefix(file, problems);
    resolved.management = (!skipped).then_some(management);
    resolved.settings = settings(file.settings.as_deref(), problems);
    resolved.nodes = nodes.into_iter().map(|node| node.spec).collect();
    resolved.links = links.into_iter().filter_map(|link| link.spec).collect();
    Some(resolved)
}

fn lab_name(file: &File, directory: &Path, problems: &mut Problems) -> Option<LabName> {
    let Some(name) = file.name.as_ref().filter(|name| !name.is_empty()) else {
        problems.error(Span::default(), "the lab has no name", "expected `name: my-lab`");
        return None;
    };
    let text = git::replace_variables(&name.value, directory);
    LabName::new(text).map_err(|error| problems.error(name.span, error.to_string(), "")).ok()
}

fn prefix(file: &File, problems: &mut Problems) -> Option<String> {
    let prefix = file.prefix.as_ref()?;
    // A prefix starts the names of containers and the like, so it keeps to the rule of names.
    if !prefix.is_empty() && *prefix.value != *"__lab-name" && LabName::new(&prefix.value).is_err() {
        problems.error(
            prefix.span,
            format!("`{:.80}` cannot start a name", prefix.value),
            "expected letters, digits, dots, dashes or underscores",
        );
    }
    Some(prefix.value.clone())
}

fn settings(settings: Option<&Settings>, problems: &mut Problems) -> LabSettings {
    let mut resolved = LabSettings::default();
    let Some(settings) = settings else { return resolved };
    resolved.provider = parsed(settings.provider.as_ref(), problems);
    resolved.backend = parsed(settings.backend.as_ref(), problems);
    resolved.host = parsed(settings.host.as_ref(), problems);
    if let Some(mode) = &settings.ovs_mode {
        resolved.ovs_mode = mode.parse().ok();
        if resolved.ovs_mode.is_none() {
            problems.error(mode.span, "this is no mode of Open vSwitch", "expected `shared` or `dedicated`");
        }
    }
    if let Some(authority) = &settings.certificate_authority {
        resolved.extra.insert("certificate-authority".to_owned(), authority.json.clone());
    }
    resolved
}

fn warn_of_old_spellings(file: &File, problems: &mut Problems) {
    let Some(mgmt) = &file.mgmt else { return };
    for (old, new) in [(&mgmt.ipv4_subnet_old, "ipv4-subnet"), (&mgmt.ipv6_subnet_old, "ipv6-subnet")] {
        if let Some(old) = old {
            problems.warn(
                old.span,
                format!("`{}` is an old spelling", new.replace('-', "_")),
                format!("write `{new}`"),
            );
        }
    }
}

/// The names of the nodes by what the file calls them. A bridge may be called `br|x`, to tell apart bridges of one name
/// in several network namespaces; its node is called `br.x`.
fn node_names(topology: &TopologyDef, problems: &mut Problems) -> BTreeMap<String, NodeName> {
    let mut names = BTreeMap::new();
    let mut taken: BTreeMap<NodeName, Span> = BTreeMap::new();
    for (raw, entry) in definitions(topology) {
        let is_free = !MAGIC.iter().any(|word| raw.trim().eq_ignore_ascii_case(word));
        if !is_free {
            problems.error(
                entry.key,
                format!("a node cannot be called `{raw}`"),
                "links read this word as a place on the host",
            );
        }
        match NodeName::new(raw.replacen('|', ".", 1)) {
            Ok(name) => {
                if let Some(first) = taken.insert(name.clone(), entry.key) {
                    let line = problems.line_of(first);
                    problems.error(
                        entry.key,
                        format!("two nodes are called `{name}`"),
                        format!("the other stands in line {line}"),
                    );
                }
                names.insert(raw.clone(), name);
            }
            Err(error) => problems.error(entry.key, error.to_string(), ""),
        }
    }
    names
}

fn definitions(topology: &TopologyDef) -> impl Iterator<Item = (&String, &crate::decode::Entry<NodeDef>)> {
    topology.nodes.iter().flat_map(|nodes: &At<Map<NodeDef>>| &nodes.value)
}

fn nodes<'f>(
    topology: &'f TopologyDef,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> (Vec<Resolved>, Vec<Layers<'f>>) {
    let mut nodes = Vec::new();
    let mut all_layers = Vec::new();
    for (raw, entry) in definitions(topology) {
        let own = entry.value.as_ref().map(|def| &def.value);
        let levels = Layers::of(topology, own);
        // A node whose name is bad has its other problems told, and is left out.
        let (name, is_named) = match scope.names.get(raw) {
            Some(name) => (name.clone(), true),
            None => (unnamed(), false),
        };
        all_layers.extend(is_named.then_some(levels.0));
        let node = node::resolve(scope, raw, name, entry.key, own, levels, problems);
        nodes.extend(is_named.then_some(node));
    }
    (nodes, all_layers)
}

fn unnamed() -> NodeName {
    NodeName::new("unnamed").unwrap_or_else(|_| unreachable!("a word is a name"))
}
