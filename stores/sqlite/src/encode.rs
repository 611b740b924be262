//! A batch as the statements that carry it out.
//!
//! Encoding happens in the caller's task, so that the writer's thread does nothing but write.

use std::collections::BTreeMap;

use lifecycle_core::id::LinkId;
use lifecycle_core::model::{Batch, Change, Event, LinkRecord};
use lifecycle_core::policy::link::{EndOwner, LinkEnd};
use lifecycle_core::{Error, ErrorKind, Result};
use rusqlite::types::Value;

use crate::column::Column;
use crate::table::Table;

pub(crate) const INSERT_END: &str =
    "INSERT INTO link_ends (link, place, node, host, interface, given_up) VALUES (?, ?, ?, ?, ?, ?)";
pub(crate) const CHANGE_ENDS: &str = "UPDATE link_ends SET host = CASE WHEN node IS NULL THEN ?2 END, given_up = ?3 \
     WHERE link = ?1 AND (given_up <> ?3 OR node IS NULL AND host IS NOT ?2)";
pub(crate) const INSERT_EVENT: &str = "INSERT INTO events (seq, at, lab, body) VALUES (?, ?, ?, ?)";

pub(crate) const DROP_LAB: &str = "DELETE FROM labs WHERE id = ? AND generation = ?";
pub(crate) const DROP_NODE: &str = "DELETE FROM nodes WHERE id = ? AND generation = ?";
pub(crate) const DROP_LINK: &str = "DELETE FROM links WHERE id = ? AND generation = ?";
pub(crate) const DROP_JOB: &str = "DELETE FROM jobs WHERE id = ? AND generation = ?";

/// One statement of a batch.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
    /// The row that it must change; nothing for what follows from another row.
    pub(crate) row: Option<RowRef>,
}

/// A row and the generation that it is expected to have; 0 when it is expected not to exist.
#[derive(Debug)]
pub(crate) struct RowRef {
    pub(crate) table: &'static str,
    pub(crate) key: Value,
    pub(crate) expected: u64,
}

/// A row with its place in a sequence.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) seq: u64,
    pub(crate) params: Vec<Value>,
}

/// A batch, ready to be written.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) audit: Vec<Numbered>,
    pub(crate) events: Vec<Numbered>,
}

/// The statements of a batch.
///
/// # Errors
/// `InvalidInput` when a record cannot be written as JSON.
pub(crate) fn encode(batch: &Batch) -> Result<Encoded> {
    steps(batch).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "commit", "a record of the batch cannot be written as JSON").because(error)
    })
}

fn steps(batch: &Batch) -> serde_json::Result<Encoded> {
    let mut steps = Vec::with_capacity(batch.changes.len());
    let mut links = Links::default();
    for change in &batch.changes {
        match change {
            Change::PutLab(row) => steps.push(put(&**row, row.generation)?),
            Change::PutNode(row) => steps.push(put(&**row, row.generation)?),
            Change::PutJob(row) => steps.push(put(&**row, row.generation)?),
            Change::PutHost(row) => steps.push(put(&**row, row.generation)?),
            Change::PutLink(row) => {
                steps.push(put(&**row, row.generation)?);
                links.put(row);
            }
            Change::DropLab { id, generation } => steps.push(remove("labs", DROP_LAB, id.store(), *generation)),
            Change::DropNode { id, generation } => steps.push(remove("nodes", DROP_NODE, id.store(), *generation)),
            Change::DropLink { id, generation } => {
                steps.push(remove("links", DROP_LINK, id.store(), *generation));
                links.0.remove(id);
            }
            Change::DropJob { id, generation } => steps.push(remove("jobs", DROP_JOB, id.store(), *generation)),
        }
    }
    links.put_ends(&mut steps);
    let mut audit = Vec::with_capacity(batch.audit.len());
    for row in &batch.audit {
        let mut params = row.fixed();
        params.extend(row.changing()?);
        audit.push(Numbered { seq: row.seq, params });
    }
    let events = batch.events.iter().map(event).collect::<serde_json::Result<_>>()?;
    Ok(Encoded { epoch: batch.epoch, number: batch.number, steps, audit, events })
}

fn put<T: Table>(row: &T, generation: u64) -> serde_json::Result<Step> {
    let mut fixed = row.fixed();
    let mut changing = row.changing()?;
    // A put of generation 0 expects what no row has.
    let expected = generation.wrapping_sub(1);
    let key = fixed[0].clone();
    let row = Some(RowRef { table: T::NAME, key, expected });
    if expected == 0 {
        fixed.append(&mut changing);
        Ok(Step { sql: T::INSERT, params: fixed, row })
    } else {
        changing.append(&mut fixed);
        changing.push(expected.store());
        Ok(Step { sql: T::UPDATE, params: changing, row })
    }
}

fn remove(table: &'static str, sql: &'static str, key: Value, generation: u64) -> Step {
    let params = vec![key.clone(), generation.store()];
    Step { sql, params, row: Some(RowRef { table, key, expected: generation }) }
}

/// The links of a batch as it leaves them, and whether it makes them.
#[derive(Default)]
struct Links<'a>(BTreeMap<LinkId, (&'a LinkRecord, bool)>);

impl<'a> Links<'a> {
    fn put(&mut self, link: &'a LinkRecord) {
        let is_new = link.generation == 1 || self.0.get(&link.id).is_some_and(|(_, is_new)| *is_new);
        self.0.insert(link.id, (link, is_new));
    }

    /// The ends of links that no other may use: what some give up others may take in the same batch. They are the link's
    /// key, which never changes; only the host of ends at a host does.
    fn put_ends(self, steps: &mut Vec<Step>) {
        let (leaving, staying): (Vec<_>, Vec<_>) = self.0.into_values().partition(|(link, _)| link.deleting);
        for (link, is_new) in leaving.into_iter().chain(staying) {
            let given_up = link.deleting.store();
            if !is_new {
                let params = vec![link.id.store(), link.host.store(), given_up];
                steps.push(Step { sql: CHANGE_ENDS, params, row: None });
                continue;
            }
            let ends = (0..).zip(link.key.ends()).filter(|(_, end)| end.is_exclusive());
            steps.extend(ends.map(|(place, end)| {
                let (node, host) = owner(end, link);
                let (place, interface) = (Value::Integer(place), Value::Text(end.interface.to_string()));
                let params = vec![link.id.store(), place, node, host, interface, given_up.clone()];
                Step { sql: INSERT_END, params, row: None }
            }));
        }
    }
}

fn owner(end: &LinkEnd, link: &LinkRecord) -> (Value, Value) {
    match end.owner {
        EndOwner::Node(node) => (node.store(), Value::Null),
        EndOwner::Host | EndOwner::Shared => (Value::Null, link.host.store()),
    }
}

fn event(event: &Event) -> serde_json::Result<Numbered> {
    let body = Value::Text(serde_json::to_string(&event.body)?);
    Ok(Numbered { seq: event.seq, params: vec![event.seq.store(), event.at.store(), event.lab.store(), body] })
}
