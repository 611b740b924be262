//! A batch as the statements that carry it out.
//!
//! Encoding happens in the caller's task, so that the writer's thread does nothing but write.

use lifecycle_core::model::{Batch, Change, Event, LinkRecord};
use lifecycle_core::policy::link::{EndOwner, LinkEnd};
use lifecycle_core::{Error, ErrorKind, Result};
use rusqlite::types::Value;

use crate::column::Column;
use crate::table::Table;

pub(crate) const INSERT_END: &str = "INSERT INTO link_ends (link, place, node, host, interface) VALUES (?, ?, ?, ?, ?)";
pub(crate) const MOVE_ENDS: &str = "UPDATE link_ends SET host = ?2 WHERE link = ?1 AND node IS NULL AND host IS NOT ?2";
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
    for change in &batch.changes {
        match change {
            Change::PutLab(row) => steps.push(put(&**row, row.generation)?),
            Change::PutNode(row) => steps.push(put(&**row, row.generation)?),
            Change::PutJob(row) => steps.push(put(&**row, row.generation)?),
            Change::PutHost(row) => steps.push(put(&**row, row.generation)?),
            Change::PutLink(row) => {
                steps.push(put(&**row, row.generation)?);
                put_ends(row, &mut steps);
            }
            Change::DropLab { id, generation } => steps.push(remove("labs", DROP_LAB, id.store(), *generation)),
            Change::DropNode { id, generation } => steps.push(remove("nodes", DROP_NODE, id.store(), *generation)),
            Change::DropLink { id, generation } => steps.push(remove("links", DROP_LINK, id.store(), *generation)),
            Change::DropJob { id, generation } => steps.push(remove("jobs", DROP_JOB, id.store(), *generation)),
        }
    }
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

/// The ends of a link that no other may use. They are the link's key, which never changes; only the host of ends at a
/// host does.
fn put_ends(link: &LinkRecord, steps: &mut Vec<Step>) {
    let ends = (0..).zip(link.key.ends()).filter(|(_, end)| end.is_exclusive());
    if link.generation == 1 {
        steps.extend(ends.map(|(place, end)| {
            let (node, host) = owner(end, link);
            let params =
                vec![link.id.store(), Value::Integer(place), node, host, Value::Text(end.interface.to_string())];
            Step { sql: INSERT_END, params, row: None }
        }));
    } else if ends.into_iter().any(|(_, end)| end.owner == EndOwner::Host) {
        steps.push(Step { sql: MOVE_ENDS, params: vec![link.id.store(), link.host.store()], row: None });
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
