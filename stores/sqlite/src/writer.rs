//! What the one writing connection does: take-overs and commits.

use std::path::PathBuf;

use lifecycle_core::model::Head;
use lifecycle_core::{Error, ErrorKind, Result};
use lifecycle_crash::crash_point;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params_from_iter};

use crate::column::Column;
use crate::encode::{Encoded, INSERT_EVENT, Numbered, RowRef, Step};
use crate::failure;
use crate::hold::Hold;
use crate::table::Table;

/// Entries of the feed that may stand beyond the limit before they are removed together.
const PRUNE: u64 = 512;

pub(crate) const MOVE_HEAD: &str = "UPDATE head SET batch = ?, audit = ?, event = ?";
pub(crate) const OLDEST_EVENT: &str = "SELECT min(seq) FROM events";
pub(crate) const PRUNE_EVENTS: &str = "DELETE FROM events WHERE seq <= ?";

/// The writing connection, and the hold while this controller has the state.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) directory: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) hold: Option<Hold>,
    pub(crate) keep_events: u64,
}

impl Writer {
    pub(crate) fn take_over(&mut self, owner: &str) -> Result<Head> {
        const OPERATION: &str = "take over";
        let taken = match self.hold {
            Some(_) => None,
            None => Some(Hold::take(&self.directory, owner)?),
        };
        let mut grow = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("UPDATE head SET epoch = epoch + 1", [])?;
            let head = head(&transaction)?;
            crash_point("store-taking-over");
            transaction.commit()?;
            Ok(head)
        };
        let head = sorted(grow(), OPERATION, &self.database)?;
        // Only a take-over that succeeded keeps the hold.
        self.hold = self.hold.take().or(taken);
        Ok(head)
    }

    pub(crate) fn release(&mut self) {
        self.hold = None;
    }

    pub(crate) fn commit(&mut self, batch: &Encoded) -> Result<()> {
        if self.hold.is_none() {
            let message = "this controller does not hold the state: it never took it over, or gave it back";
            return Err(Error::new(ErrorKind::Fenced, "commit", message));
        }
        sorted(write(&mut self.connection, batch, self.keep_events), "commit", &self.database)
    }
}

/// What can go wrong within a transaction.
enum Stop {
    Refused(Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn sorted<T>(result: Result<T, Stop>, operation: &'static str, path: &std::path::Path) -> Result<T> {
    result.map_err(|stop| match stop {
        Stop::Refused(error) => error,
        Stop::Sqlite(error) => failure::of_sqlite(operation, path, error),
    })
}

fn conflict(message: String) -> Stop {
    Stop::Refused(Error::new(ErrorKind::Conflict, "commit", message))
}

/// Where the store stands.
pub(crate) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let mut statement = connection.prepare_cached("SELECT controller, epoch, batch, audit, event FROM head")?;
    statement.query_row([], |row| {
        let unreadable = |index, error: String| {
            rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
        };
        let number = |index| u64::read(row.get_ref(index)?).map_err(|error| unreadable(index, error));
        let controller = row.get_ref(0)?.as_str()?;
        let controller = controller.parse().map_err(|_| unreadable(0, format!("`{controller}` is no identifier")))?;
        Ok(Head { controller, epoch: number(1)?, batch: number(2)?, audit: number(3)?, event: number(4)? })
    })
}

/// One transaction: all of the batch, or, when it ends early, nothing.
fn write(connection: &mut Connection, batch: &Encoded, keep_events: u64) -> Result<(), Stop> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let head = head(&transaction)?;
    if !admit(&head, batch)? {
        return Ok(());
    }
    check_sequence("audit row", head.audit, &batch.audit)?;
    check_sequence("event", head.event, &batch.events)?;
    for step in &batch.steps {
        change(&transaction, step)?;
    }
    insert(&transaction, lifecycle_core::model::AuditRow::INSERT, &batch.audit)?;
    insert(&transaction, INSERT_EVENT, &batch.events)?;
    let audit = head.audit + batch.audit.len() as u64;
    let event = head.event + batch.events.len() as u64;
    prune(&transaction, event, keep_events)?;
    let numbers = [batch.number.store(), audit.store(), event.store()];
    transaction.prepare_cached(MOVE_HEAD)?.execute(params_from_iter(numbers))?;
    crash_point("store-written");
    Ok(transaction.commit()?)
}

/// Whether the batch is to be written: `false` when it was already.
fn admit(head: &Head, batch: &Encoded) -> Result<bool, Stop> {
    if batch.epoch != head.epoch {
        let message = format!("epoch {} was fenced off by epoch {}", batch.epoch, head.epoch);
        return Err(Stop::Refused(Error::new(ErrorKind::Fenced, "commit", message)));
    }
    if batch.number == head.batch {
        return Ok(false);
    }
    if batch.number != head.batch + 1 {
        return Err(conflict(format!("batch {} does not follow batch {}", batch.number, head.batch)));
    }
    Ok(true)
}

fn check_sequence(what: &str, last: u64, rows: &[Numbered]) -> Result<(), Stop> {
    match (last + 1..).zip(rows).find(|(expected, row)| row.seq != *expected) {
        None => Ok(()),
        Some((expected, row)) => Err(conflict(format!("{what} {} stands where {expected} is expected", row.seq))),
    }
}

fn change(transaction: &Transaction<'_>, step: &Step) -> Result<(), Stop> {
    let changed = transaction.prepare_cached(step.sql)?.execute(params_from_iter(&step.params));
    let Some(row) = &step.row else {
        changed?;
        return Ok(());
    };
    match changed {
        Ok(1) => Ok(()),
        Ok(_) => Err(mismatch(row, stored_generation(transaction, row)?)),
        Err(error) => match stored_generation(transaction, row) {
            // A row of the same key where none is expected; what else a row can violate is not about generations.
            Ok(stored) if stored != row.expected && is_unique(&error) => Err(mismatch(row, stored)),
            _ => Err(error.into()),
        },
    }
}

fn is_unique(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|cause| cause.extended_code);
    matches!(code, Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY | rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE))
}

fn stored_generation(transaction: &Transaction<'_>, row: &RowRef) -> rusqlite::Result<u64> {
    let key = if row.table == "hosts" { "name" } else { "id" };
    let sql = format!("SELECT generation FROM {} WHERE {key} = ?", row.table);
    let stored: Option<i64> = transaction.query_row(&sql, [&row.key], |row| row.get(0)).optional()?;
    Ok(stored.and_then(|generation| generation.try_into().ok()).unwrap_or(0))
}

fn mismatch(row: &RowRef, stored: u64) -> Stop {
    let key = match &row.key {
        rusqlite::types::Value::Text(key) => key.as_str(),
        _ => "",
    };
    let message = if stored == row.expected {
        "a change would alter what never changes: the lab, the name or the key".to_owned()
    } else {
        format!("the stored generation is {stored}, the change expects {}", row.expected)
    };
    Stop::Refused(Error::new(ErrorKind::Conflict, "commit", message).about(format!("{} {key}", row.table)))
}

fn insert(transaction: &Transaction<'_>, sql: &str, rows: &[Numbered]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(sql)?;
    rows.iter().try_for_each(|row| statement.execute(params_from_iter(&row.params)).map(drop))
}

/// Removes the oldest entries of the feed once enough of them are beyond the limit.
fn prune(transaction: &Transaction<'_>, last: u64, keep: u64) -> rusqlite::Result<()> {
    let oldest: Option<i64> = transaction.prepare_cached(OLDEST_EVENT)?.query_row([], |row| row.get(0))?;
    let oldest = oldest.and_then(|oldest| u64::try_from(oldest).ok());
    let Some(oldest) = oldest else { return Ok(()) };
    if last - oldest >= keep.saturating_add(PRUNE) {
        transaction.prepare_cached(PRUNE_EVENTS)?.execute([(last - keep).store()])?;
    }
    Ok(())
}
