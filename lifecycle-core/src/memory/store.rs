//! The reference store: the laws of [`StateStore`] on plain maps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ControllerId, JobId, LabId, LinkId, NodeId};
use crate::model::{
    AuditQuery, AuditRow, Batch, Change, Event, Head, HostRecord, JobRecord, LabRecord, LinkRecord, NodeRecord,
    Snapshot,
};
use crate::name::HostName;
use crate::plugin::StorePlugin;
use crate::plugin::store::{EventPage, StateStore};
use crate::policy::link::{EndOwner, LinkEnd, LinkKey};

/// Rows that an audit query returns when it sets no limit.
const DEFAULT_AUDIT_LIMIT: usize = 1000;

/// A store that forgets everything when it is dropped.
///
/// Clones share one state, so a second controller can take over what the first one left.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone)]
struct State {
    head: Head,
    labs: BTreeMap<LabId, LabRecord>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    links: BTreeMap<LinkId, LinkRecord>,
    keys: BTreeMap<LinkKey, LinkId>,
    /// Ends that no other link may use, of links that are not being removed.
    ends: BTreeMap<ExclusiveEnd, LinkId>,
    jobs: BTreeMap<JobId, JobRecord>,
    hosts: BTreeMap<HostName, HostRecord>,
    audit: Vec<AuditRow>,
    events: Vec<Event>,
}

impl MemoryStore {
    /// The store as a plugin.
    pub const PLUGIN: StorePlugin =
        StorePlugin { name: "memory", open: |_: &Path, _| Ok(Arc::new(Self::new(ControllerId::from_u64(1)))) };

    /// An empty store for `controller`.
    pub fn new(controller: ControllerId) -> Self {
        let head = Head { controller, epoch: 0, batch: 0, audit: 0, event: 0 };
        Self {
            state: Arc::new(Mutex::new(State {
                head,
                labs: BTreeMap::new(),
                nodes: BTreeMap::new(),
                links: BTreeMap::new(),
                keys: BTreeMap::new(),
                ends: BTreeMap::new(),
                jobs: BTreeMap::new(),
                hosts: BTreeMap::new(),
                audit: Vec::new(),
                events: Vec::new(),
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made on a copy and swapped in, so a panic of a holder leaves a whole state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`StateStore::take_over`] without an executor, for simulators.
    pub fn take_over_now(&self) -> Head {
        let mut state = self.lock();
        state.head.epoch += 1;
        state.head
    }

    /// [`StateStore::load`] without an executor, for simulators.
    pub fn load_now(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            head: state.head,
            labs: state.labs.values().cloned().collect(),
            nodes: state.nodes.values().cloned().collect(),
            links: state.links.values().cloned().collect(),
            jobs: state.jobs.values().cloned().collect(),
            hosts: state.hosts.values().cloned().collect(),
        }
    }

    /// [`StateStore::commit`] without an executor, for simulators.
    ///
    /// # Errors
    /// As the trait says.
    pub fn commit_now(&self, batch: &Batch) -> Result<()> {
        let mut state = self.lock();
        if !admit(&state.head, batch)? {
            return Ok(());
        }
        check_sequence("audit row", state.head.audit, batch.audit.iter().map(|row| row.seq))?;
        check_sequence("event", state.head.event, batch.events.iter().map(|event| event.seq))?;
        state.check(&batch.changes)?;
        for change in &batch.changes {
            state.apply(change);
        }
        state.head.batch = batch.number;
        state.head.audit += batch.audit.len() as u64;
        state.head.event += batch.events.len() as u64;
        state.audit.extend(batch.audit.iter().cloned());
        state.events.extend(batch.events.iter().cloned());
        Ok(())
    }

    /// [`StateStore::audit`] without an executor, for simulators.
    pub fn audit_now(&self, query: &AuditQuery) -> Vec<AuditRow> {
        let limit = if query.limit == 0 { DEFAULT_AUDIT_LIMIT } else { query.limit };
        let wanted = |row: &&AuditRow| {
            row.seq > query.after
                && query.subject.is_none_or(|subject| row.subject == subject)
                && query.id.as_ref().is_none_or(|id| row.id == *id)
                && query.lab.is_none_or(|lab| row.lab == Some(lab))
        };
        self.lock().audit.iter().filter(wanted).take(limit).cloned().collect()
    }
}

/// Whether a batch is to be applied: `false` when it was already.
fn admit(head: &Head, batch: &Batch) -> Result<bool> {
    if batch.epoch != head.epoch || head.epoch == 0 {
        let message = format!("epoch {} was fenced off by epoch {}", batch.epoch, head.epoch);
        return Err(Error::new(ErrorKind::Fenced, "commit", message));
    }
    if batch.number == head.batch {
        return Ok(false);
    }
    if batch.number != head.batch + 1 {
        let message = format!("batch {} does not follow batch {}", batch.number, head.batch);
        return Err(Error::new(ErrorKind::Conflict, "commit", message));
    }
    Ok(true)
}

fn check_sequence(what: &str, last: u64, numbers: impl Iterator<Item = u64>) -> Result<()> {
    for (expected, number) in (last + 1..).zip(numbers) {
        if number != expected {
            let message = format!("{what} {number} stands where {expected} is expected");
            return Err(Error::new(ErrorKind::Conflict, "commit", message));
        }
    }
    Ok(())
}

impl State {
    fn forget_link(&mut self, id: LinkId) {
        if let Some(row) = self.links.remove(&id) {
            self.keys.remove(&row.key);
            for end in exclusive_ends(&row) {
                if self.ends.get(&end) == Some(&id) {
                    self.ends.remove(&end);
                }
            }
        }
    }

    /// Checks every change against the rows as they will be by then.
    fn check(&self, changes: &[Change]) -> Result<()> {
        let mut trial = Trial { state: self, generations: BTreeMap::new(), keys: BTreeMap::new() };
        changes.iter().try_for_each(|change| trial.check(change))?;
        self.check_ends(changes)
    }

    /// Whether every end has one link after the changes.
    fn check_ends(&self, changes: &[Change]) -> Result<()> {
        let mut after: BTreeMap<LinkId, Option<&LinkRecord>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::PutLink(row) => drop(after.insert(row.id, Some(row))),
                Change::DropLink { id, .. } => drop(after.insert(*id, None)),
                _ => {}
            }
        }
        let mut taken = BTreeMap::new();
        for row in after.values().flatten() {
            for end in exclusive_ends(row) {
                let held = self.ends.get(&end).filter(|holder| !after.contains_key(*holder));
                if held.is_some() || taken.insert(end, row.id).is_some() {
                    let message = "another link uses one of its interfaces";
                    return Err(Error::new(ErrorKind::Conflict, "commit", message).about(&row.key));
                }
            }
        }
        Ok(())
    }

    fn generation(&self, row: &Row) -> u64 {
        match row {
            Row::Lab(id) => self.labs.get(id).map_or(0, |row| row.generation),
            Row::Node(id) => self.nodes.get(id).map_or(0, |row| row.generation),
            Row::Link(id) => self.links.get(id).map_or(0, |row| row.generation),
            Row::Job(id) => self.jobs.get(id).map_or(0, |row| row.generation),
            Row::Host(name) => self.hosts.get(name).map_or(0, |row| row.generation),
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::PutLab(row) => drop(self.labs.insert(row.id, (**row).clone())),
            Change::DropLab { id, .. } => drop(self.labs.remove(id)),
            Change::PutNode(row) => drop(self.nodes.insert(row.id, (**row).clone())),
            Change::DropNode { id, .. } => drop(self.nodes.remove(id)),
            Change::PutLink(row) => {
                self.forget_link(row.id);
                self.keys.insert(row.key.clone(), row.id);
                self.ends.extend(exclusive_ends(row).map(|end| (end, row.id)));
                self.links.insert(row.id, (**row).clone());
            }
            Change::DropLink { id, .. } => self.forget_link(*id),
            Change::PutJob(row) => drop(self.jobs.insert(row.id, (**row).clone())),
            Change::DropJob { id, .. } => drop(self.jobs.remove(id)),
            Change::PutHost(row) => drop(self.hosts.insert(row.name.clone(), (**row).clone())),
        }
    }
}

/// An end that only one link may use, and the host where it is one of a host.
type ExclusiveEnd = (LinkEnd, Option<HostName>);

/// The ends of a link that no other may use. A link that is being removed has given its ends up, and one at a host has none
/// there before it is placed.
fn exclusive_ends(link: &LinkRecord) -> impl Iterator<Item = ExclusiveEnd> {
    let ends = link.key.ends().into_iter().filter(|end| end.is_exclusive() && !link.deleting);
    ends.filter_map(|end| match end.owner {
        EndOwner::Node(_) => Some((end.clone(), None)),
        EndOwner::Host | EndOwner::Shared => Some((end.clone(), Some(link.host.clone()?))),
    })
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Lab(LabId),
    Node(NodeId),
    Link(LinkId),
    Job(JobId),
    Host(HostName),
}

/// The rows as they will be after the changes checked so far.
struct Trial<'a> {
    state: &'a State,
    generations: BTreeMap<Row, u64>,
    keys: BTreeMap<LinkKey, Option<LinkId>>,
}

impl Trial<'_> {
    fn check(&mut self, change: &Change) -> Result<()> {
        let (row, expected, after) = match change {
            Change::PutLab(row) => (Row::Lab(row.id), row.generation.wrapping_sub(1), row.generation),
            Change::PutNode(row) => (Row::Node(row.id), row.generation.wrapping_sub(1), row.generation),
            Change::PutLink(row) => (Row::Link(row.id), row.generation.wrapping_sub(1), row.generation),
            Change::PutJob(row) => (Row::Job(row.id), row.generation.wrapping_sub(1), row.generation),
            Change::PutHost(row) => (Row::Host(row.name.clone()), row.generation.wrapping_sub(1), row.generation),
            Change::DropLab { id, generation } => (Row::Lab(*id), *generation, 0),
            Change::DropNode { id, generation } => (Row::Node(*id), *generation, 0),
            Change::DropLink { id, generation } => (Row::Link(*id), *generation, 0),
            Change::DropJob { id, generation } => (Row::Job(*id), *generation, 0),
        };
        let stored = self.generations.get(&row).copied().unwrap_or_else(|| self.state.generation(&row));
        if stored != expected {
            let message = format!("the stored generation is {stored}, the change expects {expected}");
            return Err(Error::new(ErrorKind::Conflict, "commit", message).about(format!("{row:?}")));
        }
        self.generations.insert(row, after);
        self.check_key(change)
    }

    fn check_key(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::PutLink(row) => {
                let holder = self.keys.get(&row.key).copied().unwrap_or_else(|| self.state.keys.get(&row.key).copied());
                if holder.is_some_and(|holder| holder != row.id) {
                    let message = "another link has the same two ends";
                    return Err(Error::new(ErrorKind::Conflict, "commit", message).about(&row.key));
                }
                self.keys.insert(row.key.clone(), Some(row.id));
            }
            Change::DropLink { id, .. } => {
                if let Some(row) = self.state.links.get(id) {
                    self.keys.insert(row.key.clone(), None);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn take_over(&self, _owner: &str) -> Result<Head> {
        Ok(self.take_over_now())
    }

    async fn release(&self) -> Result<()> {
        Ok(())
    }

    async fn load(&self) -> Result<Snapshot> {
        Ok(self.load_now())
    }

    async fn commit(&self, batch: &Batch) -> Result<()> {
        self.commit_now(batch)
    }

    async fn events_since(&self, seq: u64, limit: usize) -> Result<EventPage> {
        let state = self.lock();
        let start = state.events.partition_point(|event| event.seq <= seq);
        Ok(EventPage {
            events: state.events[start..].iter().take(limit).cloned().collect(),
            oldest: state.events.first().map_or(state.head.event + 1, |event| event.seq),
        })
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        Ok(self.audit_now(query))
    }
}
