//! Makes the rows of a lab what a topology says, and removes labs.

mod backends;
mod cabling;
mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lifecycle_core::id::{LabId, LinkId, NodeId};
use lifecycle_core::machine::{Lifecycle, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{AuditAction, LabRecord, LinkRecord, NodeRecord, NodeTimes, ReadyState, SubjectKind};
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::policy::enforcement::Budget;
use lifecycle_core::policy::link::{EndOwner, LinkEnd, LinkKey, OperReason, OperState};
use lifecycle_core::topology::{Endpoint, LinkAttrs, LinkSpec, NodeSpec, Topology};

use self::backends::BackendChanges;
use super::input::{CommandError, Plan, Reply};
use super::ledger::Entry;
use super::link::BackendChange;
use super::planted::Bug;
use super::{Cx, Why, World, commands, jobs, link, node, placement};

/// What applying a topology would change, or why it cannot be applied.
///
/// # Errors
/// [`CommandError::Invalid`] with everything that is wrong with the topology, or [`CommandError::Conflict`] while a lab of
/// its name is being removed.
pub fn plan(world: &World, topology: &Topology) -> Result<Plan, CommandError> {
    prepare(world, topology).map(|(plan, _)| plan)
}

/// The same, with what becomes of links for which another backend is wished.
fn prepare(world: &World, topology: &Topology) -> Result<(Plan, BackendChanges), CommandError> {
    let problems = problems::problems(world, topology);
    if !problems.is_empty() {
        return Err(CommandError::Invalid { problems });
    }
    let lab = world.lab_by_name(&topology.name);
    if lab.is_some_and(|lab| lab.deleting) {
        let message = format!("lab {} is being removed; wait until it is gone, then apply again", topology.name);
        return Err(CommandError::Conflict { message });
    }
    let id = lab.map(|lab| lab.id);
    let mut plan = Plan::default();
    for spec in &topology.nodes {
        match id.and_then(|id| world.node_by_name(id, &spec.name)) {
            None => plan.add_nodes.push(spec.name.clone()),
            Some(node) if node.deleting => plan.add_nodes.push(spec.name.clone()),
            Some(node) if needs_recreation(world, node, topology, spec) => plan.recreate_nodes.push(spec.name.clone()),
            Some(_) => {}
        }
    }
    let Some(id) = id else {
        plan.add_links = topology.links.iter().map(link_text).collect();
        return Ok((plan, BackendChanges::new()));
    };
    let kept: BTreeSet<&NodeName> = topology.nodes.iter().map(|spec| &spec.name).collect();
    plan.remove_nodes =
        world.nodes_of(id).filter(|node| !kept.contains(&node.name)).map(|node| node.name.clone()).collect();
    let wanted = by_text(topology);
    let changes = backends::changes(world, id, topology)?;
    let mut present = BTreeSet::new();
    for row in world.links_of(id).filter(|row| !row.deleting) {
        let key = key_text(&row.spec);
        match wanted.get(&key) {
            None => plan.remove_links.push(link_text(&row.spec)),
            Some(spec) => {
                let change = changes.get(&row.id).and_then(Option::as_ref);
                plan_link(&mut plan, row, &oriented(spec, &row.spec), change);
            }
        }
        present.insert(key);
    }
    let missing = wanted.iter().filter(|(text, _)| !present.contains(*text));
    plan.add_links = missing.map(|(_, spec)| link_text(spec)).collect();
    plan.plug_elsewhere = cabling::plugged_elsewhere(world, id, topology);
    Ok((plan, changes))
}

/// What becomes of a link of which something else is wanted.
fn plan_link(plan: &mut Plan, row: &LinkRecord, spec: &LinkSpec, change: Option<&BackendChange>) {
    let text = link_text(spec);
    if !is_in_place(row, spec) && row.identity.is_some() {
        plan.rebuild_links.push(format!("{text}: its ends are made anew, without addresses and with another index"));
    } else if let Some(change) = change {
        let links = if change.keeps_ends { &mut plan.move_links } else { &mut plan.rebuild_links };
        links.push(format!("{text}: {}", change.describe(spec)));
    } else if row.spec != *spec {
        plan.change_links.push(text);
    }
}

/// Whether a link that stands becomes what is wanted without being built anew, as far as its backend is the same or takes it
/// over.
fn is_in_place(row: &LinkRecord, spec: &LinkSpec) -> bool {
    let LinkSpec { attrs, explicit_mtu, backend, .. } = row.spec.clone();
    LinkSpec { attrs, explicit_mtu, backend, ..spec.clone() } == row.spec && !row.deleting
}

/// Whether what changed about a node can only be had by making it again.
fn needs_recreation(world: &World, node: &NodeRecord, topology: &Topology, spec: &NodeSpec) -> bool {
    // What is wanted of it at first is not part of what it is, nor what its starts wait for.
    let comparable = |spec: &NodeSpec| NodeSpec { desired: NodeIntent::Running, wait_for: Vec::new(), ..spec.clone() };
    world.spec(node.id).is_none_or(|old| comparable(old) != comparable(spec))
        || provider_of_node(world, node.id) != provider_of(world, topology, spec)
}

/// The provider that runs a node: the node's own choice, what its kind needs, the lab's choice, the default.
fn provider_of(world: &World, topology: &Topology, spec: &NodeSpec) -> PluginName {
    let kind = world.kinds.get(&spec.kind).and_then(|(_, kind)| kind.provider.clone());
    let chosen = spec.provider.clone().or(kind).or_else(|| topology.settings.provider.clone());
    chosen.unwrap_or_else(|| world.settings.provider.clone())
}

/// The provider that is to run a node from now on; the present one for a node that is no longer part of its lab.
pub(super) fn provider_of_node(world: &World, id: NodeId) -> PluginName {
    let Some(node) = world.nodes.get(&id) else { return world.settings.provider.clone() };
    let topology = world.labs.get(&node.lab).map(|lab| &lab.topology);
    match (topology, world.spec(id)) {
        (Some(topology), Some(spec)) => provider_of(world, topology, spec),
        _ => node.provider.clone(),
    }
}

/// Makes the rows of a lab what a topology says.
pub(super) fn apply(cx: &mut Cx<'_>, user: &str, topology: Topology, dry_run: bool) -> Result<Reply, CommandError> {
    let (plan, changes) = prepare(cx.world, &topology)?;
    let lab = cx.world.lab_by_name(&topology.name).map(|lab| lab.id);
    let known = lab.and_then(|lab| cx.world.labs.get(&lab)).is_some_and(|lab| *lab.topology == topology);
    if dry_run || (known && plan.is_empty()) {
        return Ok(Reply::Applied { lab, job: None, plan });
    }
    let id = put_lab(cx, user, lab, topology);
    let mut affected = put_nodes(cx, user, id, &plan);
    put_links(cx, user, id);
    for (link, change) in changes {
        backends::put(cx, user, link, change);
    }
    affected.retain(|node| cx.world.nodes.get(node).is_some_and(|row| row.desired == NodeIntent::Running));
    let job = (!affected.is_empty()).then(|| jobs::open(cx, id, affected, NodeIntent::Running, user));
    forget_lab_if_empty(cx, id);
    Ok(Reply::Applied { lab: Some(id), job, plan })
}

fn put_lab(cx: &mut Cx<'_>, user: &str, lab: Option<LabId>, topology: Topology) -> LabId {
    let now = cx.now.wall;
    if let Some(id) = lab {
        if let Some(row) = cx.world.labs.get_mut(&id) {
            row.topology = Arc::new(topology);
            row.updated_at = now;
        }
        return id;
    }
    let id = LabId::random(cx.rng);
    let name = topology.name.clone();
    let topology = Arc::new(topology);
    let row = LabRecord { id, topology, deleting: false, generation: 0, created_at: now, updated_at: now };
    cx.world.labs.insert(id, row);
    cx.world.lab_names.insert(name.clone(), id);
    cx.world.lab_nodes.insert(id, BTreeMap::new());
    cx.world.lab_links.insert(id, BTreeSet::new());
    let entry = Entry::new(AuditAction::Created, Why::user(user));
    cx.record(SubjectKind::Lab, id.to_string(), name.to_string(), Some(id), entry);
    id
}

/// Adds, removes and marks nodes; returns those that have something to do.
fn put_nodes(cx: &mut Cx<'_>, user: &str, lab: LabId, plan: &Plan) -> Vec<NodeId> {
    let Some(topology) = cx.world.labs.get(&lab).map(|lab| Arc::clone(&lab.topology)) else { return Vec::new() };
    let mut affected = Vec::new();
    let added: BTreeSet<&NodeName> = plan.add_nodes.iter().collect();
    let recreated: BTreeSet<&NodeName> = plan.recreate_nodes.iter().collect();
    for spec in &topology.nodes {
        let existing = cx.world.node_by_name(lab, &spec.name).map(|node| node.id);
        match existing {
            None => affected.push(insert_node(cx, user, lab, &topology, spec)),
            Some(id) if added.contains(&spec.name) || recreated.contains(&spec.name) => {
                let provider = provider_of(cx.world, &topology, spec);
                let working = cx.world.node_work.contains_key(&id);
                cx.change_node(id, |node| {
                    node.deleting = false;
                    // What is just being made is made of what was wanted before.
                    node.recreate = node.instance.is_some() || working;
                    if !node.recreate {
                        if node.provider != provider {
                            placement::put(node, None, provider);
                        }
                        // What was asked for before and may come late is told from what is wanted now.
                        node.incarnation += 1;
                    }
                });
                node::reconsider(cx.world, id);
                commands::want(cx, user, id, spec.desired);
                affected.push(id);
            }
            Some(_) => {}
        }
    }
    cx.world.index_specs(lab);
    for name in &plan.remove_nodes {
        if let Some(id) = cx.world.node_by_name(lab, name).map(|node| node.id) {
            delete_node(cx, user, id);
        }
    }
    affected
}

fn insert_node(cx: &mut Cx<'_>, user: &str, lab: LabId, topology: &Topology, spec: &NodeSpec) -> NodeId {
    let id = NodeId::random(cx.rng);
    let now = cx.now.wall;
    let row = NodeRecord {
        id,
        lab,
        name: spec.name.clone(),
        desired: spec.desired,
        actual: NodeState::INITIAL,
        state_since: now,
        provider: provider_of(cx.world, topology, spec),
        host: None,
        instance: None,
        incarnation: 1,
        budget: Budget::default(),
        blocked: None,
        stale_since: None,
        ready: ReadyState::default(),
        configured: false,
        healthy_commands: None,
        exit: None,
        job: None,
        deadline: None,
        running_since: None,
        recreate: false,
        deleting: false,
        times: NodeTimes {
            created_at: now,
            updated_at: now,
            starting_started_at: None,
            stopping_started_at: None,
            boot_started_at: None,
        },
        generation: 0,
    };
    cx.world.nodes.insert(id, row);
    cx.world.lab_nodes.entry(lab).or_default().insert(spec.name.clone(), id);
    let entry = Entry::new(AuditAction::Created, Why::user(user)).states(None, Some(NodeState::INITIAL.to_string()));
    cx.record(SubjectKind::Node, id.to_string(), spec.name.to_string(), Some(lab), entry);
    cx.change_node(id, |_| {});
    id
}

fn delete_node(cx: &mut Cx<'_>, user: &str, id: NodeId) {
    cx.node_desired(id, NodeIntent::Stopped, Why::user(user).because("it is being removed"));
    cx.change_node(id, |node| {
        node.deleting = true;
        node.recreate = false;
        node.budget.reset_by_user();
        node.blocked = None;
    });
    let links: Vec<LinkId> = cx.world.links_at(id).map(|link| link.id).collect();
    for link in links {
        delete_link(cx, link);
    }
}

fn delete_link(cx: &mut Cx<'_>, id: LinkId) {
    cx.change_link(id, |link| {
        link.deleting = true;
        link.budget.reset_by_user();
    });
    cx.world.touch_link(id);
}

/// Adds, removes and changes links.
fn put_links(cx: &mut Cx<'_>, user: &str, lab: LabId) {
    let Some(topology) = cx.world.labs.get(&lab).map(|lab| Arc::clone(&lab.topology)) else { return };
    let wanted = by_text(&topology);
    let frees = cx.world.has_bug(Bug::FreesALinkKeyTooEarly);
    let rows = cx.world.links_of(lab).filter(|row| !(frees && row.deleting));
    let present: BTreeMap<String, LinkId> = rows.map(|row| (key_text(&row.spec), row.id)).collect();
    for (text, id) in &present {
        if !wanted.contains_key(text) {
            delete_link(cx, *id);
        }
    }
    for (text, spec) in wanted {
        match present.get(&text) {
            None => insert_link(cx, user, lab, spec),
            Some(&id) => change_link(cx, user, id, spec),
        }
    }
}

fn change_link(cx: &mut Cx<'_>, user: &str, id: LinkId, spec: &LinkSpec) {
    let Some(row) = cx.world.links.get(&id) else { return };
    let spec = oriented(spec, &row.spec);
    if row.spec == spec && !row.deleting {
        return;
    }
    let (attrs, explicit_mtu) = (spec.attrs, spec.explicit_mtu);
    if is_in_place(row, &spec) {
        cx.change_link(id, |link| link.spec.backend = spec.backend);
    } else {
        cx.change_link(id, |link| {
            link.rebuild = link.identity.is_some();
            if link.identity.is_none() {
                // What is just being built, or may have been, is not what is wanted now.
                link.incarnation += 1;
            }
            link.spec = LinkSpec { attrs: link.spec.attrs, ..spec.clone() };
            link.deleting = false;
        });
    }
    change_attrs(cx, user, id, attrs, explicit_mtu);
}

/// Changes the attributes of a link; what was built follows in place.
pub(super) fn change_attrs(cx: &mut Cx<'_>, user: &str, id: LinkId, attrs: LinkAttrs, explicit_mtu: bool) {
    let desired = link::intent(attrs.admin);
    let Some(row) = cx.world.links.get(&id) else { return };
    let (old, name, lab) = (row.desired, row.spec.to_string(), row.lab);
    cx.change_link(id, |link| {
        (link.spec.attrs, link.spec.explicit_mtu) = (attrs, explicit_mtu);
        link.desired = desired;
        link.budget.reset_by_user();
    });
    if old != desired {
        let entry = Entry::new(AuditAction::DesiredChanged, Why::user(user))
            .states(Some(old.to_string()), Some(desired.to_string()));
        cx.record(SubjectKind::Link, id.to_string(), name, Some(lab), entry);
    }
    cx.world.touch_link(id);
}

fn insert_link(cx: &mut Cx<'_>, user: &str, lab: LabId, spec: &LinkSpec) {
    let node = |end: &Endpoint| Some(cx.world.node_by_name(lab, &end.as_node()?.node)?.id);
    let nodes = [node(&spec.a), node(&spec.b)];
    let Some(key) = key(spec, nodes) else { return };
    let id = LinkId::random(cx.rng);
    let now = cx.now.wall;
    let backend = spec.backend.clone().unwrap_or_else(|| cx.world.settings.backend.clone());
    let down = OperState::new(Some(OperReason::LocalNodeDown));
    let row = LinkRecord {
        id,
        lab,
        key: key.clone(),
        spec: spec.clone(),
        nodes,
        desired: link::intent(spec.attrs.admin),
        actual: LinkState::Pending,
        state_since: now,
        backend,
        host: None,
        identity: None,
        span: None,
        path_mtu: None,
        incarnation: 1,
        budget: Budget::default(),
        verified_at: None,
        applied: None,
        carrier: [Some(true); 2],
        next_backend: None,
        parked: None,
        rebuild: false,
        oper: [down, down],
        deadline: None,
        deleting: false,
        created_at: now,
        updated_at: now,
        generation: 0,
    };
    cx.world.links.insert(id, row);
    cx.world.link_keys.insert(key, id);
    cx.world.lab_links.entry(lab).or_default().insert(id);
    for node in nodes.into_iter().flatten() {
        cx.world.node_links.entry(node).or_default().insert(id);
    }
    let entry = Entry::new(AuditAction::Created, Why::user(user)).states(None, Some(LinkState::Pending.to_string()));
    cx.record(SubjectKind::Link, id.to_string(), spec.to_string(), Some(lab), entry);
    cx.world.touch_link(id);
}

/// Removes a lab: its rows go as what they stand for is gone.
pub(super) fn destroy(cx: &mut Cx<'_>, user: &str, name: &LabName) -> Result<Reply, CommandError> {
    let id = commands::find_lab(cx.world, name)?;
    let again = cx.world.labs.get(&id).is_some_and(|lab| lab.deleting);
    let (now, nodes) = (cx.now.wall, cx.world.nodes_of(id).map(|node| node.id).collect::<Vec<_>>());
    if let Some(lab) = cx.world.labs.get_mut(&id).filter(|_| !again) {
        lab.deleting = true;
        lab.updated_at = now;
    }
    if !again {
        let snapshot = serde_json::json!({ "nodes": nodes.len(), "links": cx.world.links_of(id).count() });
        let entry = Entry::new(AuditAction::DesiredChanged, Why::user(user))
            .states(Some("present".to_owned()), Some("absent".to_owned()))
            .metadata(snapshot);
        cx.record(SubjectKind::Lab, id.to_string(), name.to_string(), Some(id), entry);
    }
    for &node in &nodes {
        delete_node(cx, user, node);
    }
    let links: Vec<LinkId> = cx.world.links_of(id).map(|link| link.id).collect();
    links.into_iter().for_each(|link| delete_link(cx, link));
    let job = (!nodes.is_empty()).then(|| jobs::open(cx, id, nodes, NodeIntent::Stopped, user));
    forget_lab_if_empty(cx, id);
    Ok(Reply::Accepted { job, changed: !again })
}

/// Removes the row of a lab that is being removed, once nothing of it is left.
pub(super) fn forget_lab_if_empty(cx: &mut Cx<'_>, id: LabId) {
    let empty = cx.world.nodes_of(id).next().is_none() && cx.world.links_of(id).next().is_none();
    if !empty || !cx.world.labs.get(&id).is_some_and(|lab| lab.deleting) {
        return;
    }
    jobs::forget_lab(cx, id);
    let Some(lab) = cx.world.labs.remove(&id) else { return };
    cx.world.lab_names.remove(&lab.topology.name);
    cx.world.lab_nodes.remove(&id);
    cx.world.lab_links.remove(&id);
    let entry = Entry::new(AuditAction::Deleted, Why::enforcement());
    cx.record(SubjectKind::Lab, id.to_string(), lab.topology.name.to_string(), Some(id), entry);
}

/// The links of a topology by the text of their keys.
fn by_text(topology: &Topology) -> BTreeMap<String, &LinkSpec> {
    topology.links.iter().map(|spec| (key_text(spec), spec)).collect()
}

/// An end as text; `other` is the interface that a dummy leads from.
fn end_text(end: &Endpoint, other: &str) -> String {
    match end {
        Endpoint::Node(end) => format!("{}:{}", end.node, end.ifname),
        Endpoint::Host { interface } | Endpoint::Management { interface } => format!("host:{interface}"),
        Endpoint::Macvlan { parent, .. } => format!("macvlan:{parent}"),
        Endpoint::Dummy => format!("dummy:{other}"),
        Endpoint::Vxlan { remote, vni, .. } => format!("vxlan:{remote}/{vni}"),
    }
}

fn is_exclusive(end: &Endpoint) -> bool {
    matches!(end, Endpoint::Node(_) | Endpoint::Host { .. } | Endpoint::Management { .. })
}

fn texts(spec: &LinkSpec) -> (String, String) {
    let (a, b) = (end_text(&spec.a, ""), end_text(&spec.b, ""));
    (end_text(&spec.a, &b), end_text(&spec.b, &a))
}

fn key_of_text(spec: &LinkSpec) -> Option<(String, String)> {
    let (a, b) = texts(spec);
    match a.cmp(&b) {
        std::cmp::Ordering::Less => Some((a, b)),
        std::cmp::Ordering::Greater => Some((b, a)),
        std::cmp::Ordering::Equal => None,
    }
}

/// A text that is the same for both directions of a link and differs between links of one lab.
fn key_text(spec: &LinkSpec) -> String {
    let (low, high) = key_of_text(spec).unwrap_or_default();
    format!("{low} {high}")
}

/// A link written in the direction of another between the same ends: which end comes first means nothing.
fn oriented(spec: &LinkSpec, like: &LinkSpec) -> LinkSpec {
    let mut spec = spec.clone();
    if texts(&spec).0 != texts(like).0 {
        std::mem::swap(&mut spec.a, &mut spec.b);
    }
    spec
}

/// A link as its user wrote it.
fn link_text(spec: &LinkSpec) -> String {
    let (a, b) = texts(spec);
    format!("{a} -- {b}")
}

/// The key of a link whose nodes are known.
fn key(spec: &LinkSpec, nodes: [Option<NodeId>; 2]) -> Option<LinkKey> {
    let interface = |end: &Endpoint| end.as_node().map(|end| end.ifname.clone());
    let end = |end: &Endpoint, node: Option<NodeId>, other: Option<IfName>| match end {
        Endpoint::Node(end) => Some(LinkEnd::node(node?, end.ifname.clone())),
        Endpoint::Host { interface } | Endpoint::Management { interface } => {
            Some(LinkEnd { owner: EndOwner::Host, interface: interface.clone() })
        }
        Endpoint::Macvlan { parent, .. } => Some(LinkEnd { owner: EndOwner::Shared, interface: parent.clone() }),
        Endpoint::Dummy | Endpoint::Vxlan { .. } => Some(LinkEnd { owner: EndOwner::Shared, interface: other? }),
    };
    let a = end(&spec.a, nodes[0], interface(&spec.b))?;
    let b = end(&spec.b, nodes[1], interface(&spec.a))?;
    LinkKey::new(a, b).ok()
}
