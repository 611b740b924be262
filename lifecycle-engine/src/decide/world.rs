//! Everything that decisions are made upon: the stored rows, what is under way, and what is known of the hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lifecycle_core::attach::NsRef;
use lifecycle_core::id::{ControllerId, JobId, LabId, LinkId, NodeId};
use lifecycle_core::model::{Head, HostRecord, JobRecord, LabRecord, LabView, LinkRecord, NodeRecord, Snapshot};
use lifecycle_core::name::{HostName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_core::policy::link::LinkKey;
use lifecycle_core::policy::segment::{SegmentKind, SegmentPool};
use lifecycle_core::policy::tunnel::{HostPair, PlacedLink, UsedTunnel, tunnels};
use lifecycle_core::time::{BootInstant, Timestamp};
use lifecycle_core::topology::NodeSpec;
use serde::{Deserialize, Serialize};

use super::effect::{Effect, EffectId, Subject};
use super::events::lab_view;
use super::host::{BackendState, HostState, ProviderState};
use super::input::Limits;
use super::ledger::{is_settled, lab_node};
use super::link::LinkWork;
use super::node::{NodeWork, Probe};
use super::table::{Row, Table};
use super::tally::Tally;

macro_rules! rows {
    ($($record:ident),*) => {$(
        impl Row for $record {
            fn generation(&self) -> u64 {
                self.generation
            }
            fn set_generation(&mut self, generation: u64) {
                self.generation = generation;
            }
        }
    )*};
}

rows!(LabRecord, NodeRecord, LinkRecord, JobRecord, HostRecord);

/// How the engine behaves, all settable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Retries of nodes.
    pub enforcement: EnforcementPolicy,
    /// Retries of links.
    pub repair: EnforcementPolicy,
    /// Times and limits.
    pub limits: Limits,
    /// Provider of nodes for which nobody chose one.
    pub provider: PluginName,
    /// Network backend of links for which nobody chose one.
    pub backend: PluginName,
}

impl Default for Settings {
    fn default() -> Self {
        let name = |name: &str| PluginName::new(name).unwrap_or_else(|_| unreachable!("it is a valid name"));
        Self {
            enforcement: EnforcementPolicy::default(),
            repair: EnforcementPolicy { base: Duration::from_millis(500), ..EnforcementPolicy::default() },
            limits: Limits::default(),
            provider: name("netns"),
            backend: name("veth"),
        }
    }
}

/// What the vendors know of the kinds of nodes.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    vendors: Vec<Arc<dyn VendorConfig>>,
    by_name: BTreeMap<String, (usize, usize)>,
}

impl Kinds {
    /// Collects the kinds of all vendors; where two vendors know one kind, the later wins.
    pub fn new(vendors: Vec<Arc<dyn VendorConfig>>) -> Self {
        let mut by_name = BTreeMap::new();
        for (v, vendor) in vendors.iter().enumerate() {
            for (k, kind) in vendor.kinds().iter().enumerate() {
                for name in std::iter::once(&kind.kind).chain(&kind.aliases) {
                    by_name.insert(name.clone(), (v, k));
                }
            }
        }
        Self { vendors, by_name }
    }

    /// The kind called `name`, with its vendor.
    pub fn get(&self, name: &str) -> Option<(&dyn VendorConfig, &KindData)> {
        let &(v, k) = self.by_name.get(name)?;
        let vendor = self.vendors[v].as_ref();
        Some((vendor, &vendor.kinds()[k]))
    }

    /// All kinds that lab files can name, in the order of their own names.
    pub fn all(&self) -> impl Iterator<Item = &KindData> {
        let by_own_name = self.by_name.keys().filter_map(|name| self.get(name).map(|(_, kind)| (name, kind)));
        by_own_name.filter(|(name, kind)| **name == kind.kind).map(|(_, kind)| kind)
    }
}

/// An effect that has not ended.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// The effect.
    pub effect: Effect,
    /// Number of the step that asked for it.
    pub issued: u64,
}

/// Everything that decisions are made upon.
///
/// The rows are what the store holds, plus what the current step changed. All else is rebuilt from them and from the
/// world outside when a controller starts.
#[derive(Debug, Clone)]
pub struct World {
    /// How the engine behaves.
    pub settings: Settings,
    /// What the vendors know.
    pub kinds: Kinds,
    /// Where the store stands.
    pub head: Head,
    /// Labs.
    pub labs: Table<LabId, LabRecord>,
    /// Nodes.
    pub nodes: Table<NodeId, NodeRecord>,
    /// Links.
    pub links: Table<LinkId, LinkRecord>,
    /// Jobs.
    pub jobs: Table<JobId, JobRecord>,
    /// Hosts, as stored.
    pub host_rows: Table<HostName, HostRecord>,

    /// Hosts, as they are now.
    pub hosts: BTreeMap<HostName, HostState>,
    /// Work on nodes that is under way.
    pub node_work: BTreeMap<NodeId, NodeWork>,
    /// Work on links that is under way or due.
    pub link_work: BTreeMap<LinkId, LinkWork>,
    /// Probes of the readiness of running nodes.
    pub probes: BTreeMap<NodeId, Probe>,
    /// Effects that have not ended.
    pub in_flight: BTreeMap<EffectId, InFlight>,
    /// Number of the current step.
    pub step: u64,

    /// Step in which an effect on a node last ended: what was read before says nothing any more.
    pub(crate) last_done: BTreeMap<NodeId, u64>,
    /// When a node of a kind last took its turn to start on a host, for kinds that must not start all at once.
    pub(crate) turns: BTreeMap<(HostName, String), BootInstant>,
    pub(crate) lab_names: BTreeMap<LabName, LabId>,
    pub(crate) lab_nodes: BTreeMap<LabId, BTreeMap<NodeName, NodeId>>,
    pub(crate) lab_links: BTreeMap<LabId, BTreeSet<LinkId>>,
    pub(crate) node_links: BTreeMap<NodeId, BTreeSet<LinkId>>,
    pub(crate) link_keys: BTreeMap<LinkKey, LinkId>,
    /// The finished jobs of each lab, the oldest first.
    pub(crate) finished_jobs: BTreeMap<LabId, BTreeSet<(Timestamp, JobId)>>,
    /// Place of each node in its lab's topology.
    pub(crate) spec_index: BTreeMap<NodeId, usize>,
    /// Nodes that are not as wanted, but for those that were [left to rest](World::leave_to_rest): all that a pass of
    /// enforcement looks at.
    pub(crate) unsettled: BTreeSet<NodeId>,
    /// Nodes to look at in this step.
    pub(crate) due_nodes: VecDeque<NodeId>,
    /// Links to look at in this step.
    pub(crate) due_links: VecDeque<LinkId>,
    pub(crate) queued: BTreeSet<Subject>,
    /// Moments at which subjects want to be looked at.
    pub(crate) timers: BTreeSet<(u64, Subject)>,
    /// How many nodes of each lab are in which state.
    pub(super) tally: Tally,
    /// What the feed last told of each lab.
    pub(crate) told: BTreeMap<LabId, LabView>,
    /// Nodes that no retry can help until the world changes.
    pub(crate) blocked: BTreeSet<NodeId>,
    /// Resources were freed, or a host came back, so that nodes that could not be placed are worth another look.
    pub(crate) freed: bool,
    /// Nodes that wait for a node to reach a stage, by that node.
    pub(crate) waiters: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Network namespaces of instances as far as they are known, by node: where links may be found.
    pub(crate) places: BTreeMap<NodeId, NsRef>,
    /// Network identifiers of tunnels, by host.
    pub(crate) vnis: BTreeMap<HostName, SegmentPool>,
    pub(crate) next_effect: u64,
    pub(crate) next_enforcement_pass: Option<BootInstant>,
    /// Tokens of the bucket that bounds how fast enforcement begins work by itself, with the time of the last refill.
    pub(crate) tokens: (f64, Option<BootInstant>),
    /// The bug that is planted.
    #[cfg(feature = "planted-bugs")]
    pub(super) bug: Option<super::planted::Bug>,
}

impl World {
    /// A world of stored rows on given hosts.
    pub fn new(snapshot: Snapshot, settings: Settings, kinds: Kinds, hosts: Vec<HostState>) -> Self {
        let mut world = Self {
            settings,
            kinds,
            head: snapshot.head,
            labs: Table::new(snapshot.labs.into_iter().map(|row| (row.id, row))),
            nodes: Table::new(snapshot.nodes.into_iter().map(|row| (row.id, row))),
            links: Table::new(snapshot.links.into_iter().map(|row| (row.id, row))),
            jobs: Table::new(snapshot.jobs.into_iter().map(|row| (row.id, row))),
            host_rows: Table::new(snapshot.hosts.into_iter().map(|row| (row.name.clone(), row))),
            hosts: hosts.into_iter().map(|host| (host.name.clone(), host)).collect(),
            node_work: BTreeMap::new(),
            link_work: BTreeMap::new(),
            probes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            step: 0,
            last_done: BTreeMap::new(),
            turns: BTreeMap::new(),
            lab_names: BTreeMap::new(),
            lab_nodes: BTreeMap::new(),
            lab_links: BTreeMap::new(),
            node_links: BTreeMap::new(),
            link_keys: BTreeMap::new(),
            finished_jobs: BTreeMap::new(),
            spec_index: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            due_nodes: VecDeque::new(),
            due_links: VecDeque::new(),
            queued: BTreeSet::new(),
            timers: BTreeSet::new(),
            tally: Tally::default(),
            told: BTreeMap::new(),
            blocked: BTreeSet::new(),
            freed: false,
            waiters: BTreeMap::new(),
            places: BTreeMap::new(),
            vnis: BTreeMap::new(),
            next_effect: 1,
            next_enforcement_pass: None,
            tokens: (0.0, None),
            #[cfg(feature = "planted-bugs")]
            bug: None,
        };
        world.rebuild_indexes();
        // What is stored was told when it was committed.
        world.tally.take_stirred();
        world.told = world.labs.values().map(|lab| (lab.id, lab_view(&world, lab))).collect();
        world
    }

    /// Goes on with the numbers of effects where another world of the same controller left off, so that the end of one
    /// of its effects is not taken for that of another.
    pub fn continue_numbering(&mut self, other: &Self) {
        self.next_effect = other.next_effect;
    }

    fn rebuild_indexes(&mut self) {
        for lab in self.labs.values() {
            self.lab_names.insert(lab.topology.name.clone(), lab.id);
            self.lab_nodes.entry(lab.id).or_default();
            self.lab_links.entry(lab.id).or_default();
        }
        for node in self.nodes.values() {
            self.lab_nodes.entry(node.lab).or_default().insert(node.name.clone(), node.id);
            if node.blocked.is_some() {
                self.blocked.insert(node.id);
            }
            if !is_settled(node) {
                self.unsettled.insert(node.id);
            }
            self.tally.put(node.id, node.lab, lab_node(node, &self.settings.enforcement));
        }
        for link in self.links.values() {
            self.lab_links.entry(link.lab).or_default().insert(link.id);
            self.link_keys.insert(link.key.clone(), link.id);
            for node in link.nodes.iter().flatten() {
                self.node_links.entry(*node).or_default().insert(link.id);
            }
            for (host, span) in link.hosts().zip(std::iter::repeat(&link.span)) {
                let pool = self.vnis.entry(host.clone()).or_insert_with(|| SegmentPool::new(SegmentKind::Vni));
                // A number that two rows name stays with both until one of them is built anew.
                span.as_ref().map(|span| pool.adopt(span.vni).is_ok());
                let backend = self.hosts.get_mut(host).and_then(|host| host.backends.get_mut(&link.backend));
                if let Some(backend) = backend.filter(|_| link.path_mtu.is_some()) {
                    backend.tunnelled.insert(link.id);
                }
            }
        }
        for job in self.jobs.values() {
            if let Some(at) = job.finished_at {
                self.finished_jobs.entry(job.lab).or_default().insert((at, job.id));
            }
        }
        let labs: Vec<_> = self.labs.keys().copied().collect();
        for lab in labs {
            self.index_specs(lab);
        }
    }

    /// Finds each node's place in its lab's topology again, after the topology changed.
    pub(crate) fn index_specs(&mut self, lab: LabId) {
        let (Some(row), Some(names)) = (self.labs.get(&lab), self.lab_nodes.get(&lab)) else { return };
        for id in names.values() {
            self.spec_index.remove(id);
        }
        for (index, spec) in row.topology.nodes.iter().enumerate() {
            if let Some(id) = names.get(&spec.name) {
                self.spec_index.insert(*id, index);
            }
        }
    }

    /// The controller whose world it is.
    pub fn controller(&self) -> ControllerId {
        self.head.controller
    }

    /// What its user wants of a node; nothing once it is no longer part of its lab.
    pub fn spec(&self, node: NodeId) -> Option<&NodeSpec> {
        let row = self.nodes.get(&node)?;
        let index = *self.spec_index.get(&node)?;
        self.labs.get(&row.lab)?.topology.nodes.get(index)
    }

    /// What a node is made from: what its user wants, and what its kind has where they say nothing.
    pub fn complete(&self, spec: &NodeSpec) -> NodeSpec {
        let mut spec = spec.clone();
        if let Some((_, kind)) = self.kinds.get(&spec.kind) {
            kind.complete(&mut spec);
        }
        spec
    }

    /// A lab by its name.
    pub fn lab_by_name(&self, name: &LabName) -> Option<&LabRecord> {
        self.labs.get(self.lab_names.get(name)?)
    }

    /// The names of all labs.
    pub fn lab_names(&self) -> impl Iterator<Item = &LabName> {
        self.lab_names.keys()
    }

    /// A node by its name.
    pub fn node_by_name(&self, lab: LabId, name: &NodeName) -> Option<&NodeRecord> {
        self.nodes.get(self.lab_nodes.get(&lab)?.get(name)?)
    }

    /// The nodes of a lab.
    pub fn nodes_of(&self, lab: LabId) -> impl Iterator<Item = &NodeRecord> {
        self.lab_nodes.get(&lab).into_iter().flat_map(|names| names.values()).filter_map(|id| self.nodes.get(id))
    }

    /// The links of a lab.
    pub fn links_of(&self, lab: LabId) -> impl Iterator<Item = &LinkRecord> {
        self.lab_links.get(&lab).into_iter().flatten().filter_map(|id| self.links.get(id))
    }

    /// The links that end at a node.
    pub fn links_at(&self, node: NodeId) -> impl Iterator<Item = &LinkRecord> {
        self.node_links.get(&node).into_iter().flatten().filter_map(|id| self.links.get(id))
    }

    /// Whether anything is asked of the world on behalf of a subject.
    pub fn is_busy(&self, subject: Subject) -> bool {
        match subject {
            Subject::Node(id) => self.node_work.get(&id).is_some_and(|work| work.effect.is_some()),
            Subject::Link(id) => self.link_work.get(&id).is_some_and(|work| work.effect.is_some()),
            Subject::Host => false,
        }
    }

    /// The tunnels between hosts, as the links tell that use them.
    pub fn tunnels(&self) -> BTreeMap<HostPair, UsedTunnel> {
        let spanning = self.links.values().filter_map(|link| {
            let hosts = [link.host.as_ref()?, &link.span.as_ref()?.host];
            Some(PlacedLink { link: link.id, state: link.actual, hosts })
        });
        tunnels(spanning)
    }

    /// A provider on a host.
    pub(super) fn provider(&self, host: &HostName, provider: &PluginName) -> Option<&ProviderState> {
        self.hosts.get(host)?.providers.get(provider)
    }

    /// A network backend on a host.
    pub(super) fn backend(&self, host: &HostName, backend: &PluginName) -> Option<&BackendState> {
        self.hosts.get(host)?.backends.get(backend)
    }

    /// Whether a provider on a host answers.
    pub(super) fn answers(&self, host: &HostName, provider: &PluginName) -> bool {
        self.provider(host, provider).is_some_and(ProviderState::answers)
    }

    /// Entries in each index over the rows; a world without rows has none.
    pub fn index_sizes(&self) -> [usize; 15] {
        [
            self.last_done.len(),
            self.lab_names.len(),
            self.lab_nodes.len(),
            self.lab_links.len(),
            self.node_links.len(),
            self.link_keys.len(),
            self.finished_jobs.len(),
            self.spec_index.len(),
            self.unsettled.len(),
            self.queued.len(),
            self.blocked.len(),
            self.waiters.len(),
            self.places.len(),
            self.tally.len(),
            self.told.len(),
        ]
    }

    /// Looks at a node in this step.
    pub(crate) fn touch_node(&mut self, id: NodeId) {
        if self.queued.insert(Subject::Node(id)) {
            self.due_nodes.push_back(id);
        }
    }

    /// Spares passes of enforcement a node that cannot be helped before its timer, a user or the world says so. Whatever
    /// changes the node makes it one that is looked at again.
    pub(crate) fn leave_to_rest(&mut self, id: NodeId) {
        self.unsettled.remove(&id);
    }

    /// Looks at a link in this step.
    pub(crate) fn touch_link(&mut self, id: LinkId) {
        if self.queued.insert(Subject::Link(id)) {
            self.due_links.push_back(id);
        }
    }

    /// Looks at those who wait for a node; each then says anew whether it still does.
    pub(crate) fn touch_waiters(&mut self, id: NodeId) {
        for waiter in self.waiters.remove(&id).into_iter().flatten() {
            self.touch_node(waiter);
        }
    }

    /// Looks at the links of a node in this step.
    pub(crate) fn touch_links_at(&mut self, node: NodeId) {
        let links: Vec<_> = self.node_links.get(&node).into_iter().flatten().copied().collect();
        for link in links {
            self.touch_link(link);
        }
    }

    /// Looks at a subject at a moment of the current boot.
    pub(crate) fn wake(&mut self, at: BootInstant, subject: Subject) {
        self.timers.insert((at.millis, subject));
    }
}
