//! What the reading connection does. Every answer is of one moment, whatever is being written meanwhile.

use std::path::PathBuf;

use lifecycle_core::model::{AuditQuery, AuditRow, Event, Head, Snapshot};
use lifecycle_core::plugin::store::EventPage;
use lifecycle_core::{Error, ErrorKind, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params_from_iter};

use crate::column::Column;
use crate::failure;
use crate::table::Table;
use crate::writer::{self, OLDEST_EVENT};

/// Rows that an audit query returns when it sets no limit.
const DEFAULT_AUDIT_LIMIT: usize = 1000;

pub(crate) const EVENTS_SINCE: &str = "SELECT seq, at, lab, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?";

/// The reading connection.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) database: PathBuf,
}

impl Reader {
    pub(crate) fn load(&mut self) -> Result<Snapshot> {
        self.read("load", |transaction| {
            let mut snapshot = Snapshot {
                head: writer::head(transaction)?,
                labs: all(transaction)?,
                nodes: all(transaction)?,
                links: all(transaction)?,
                jobs: all(transaction)?,
                hosts: all(transaction)?,
            };
            snapshot.labs.sort_by_key(|row| row.id);
            snapshot.nodes.sort_by_key(|row| row.id);
            snapshot.links.sort_by_key(|row| row.id);
            snapshot.jobs.sort_by_key(|row| row.id);
            snapshot.hosts.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(snapshot)
        })
    }

    pub(crate) fn events_since(&mut self, seq: u64, limit: usize) -> Result<EventPage> {
        self.read("read events", |transaction| {
            let oldest: Option<i64> = transaction.prepare_cached(OLDEST_EVENT)?.query_row([], |row| row.get(0))?;
            let last: Head = writer::head(transaction)?;
            let oldest = oldest.and_then(|oldest| u64::try_from(oldest).ok()).unwrap_or(last.event + 1);
            let mut statement = transaction.prepare_cached(EVENTS_SINCE)?;
            let mut rows = statement.query([seq.store(), (limit as u64).store()])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(event(row).map_err(|error| unreadable("events", row, &error))?);
            }
            Ok(EventPage { events, oldest })
        })
    }

    pub(crate) fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        let (sql, params) = audit_query(query);
        self.read("read the audit trail", |transaction| {
            let mut statement = transaction.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(&params))?;
            collect(&mut rows)
        })
    }

    fn read<T>(
        &mut self,
        operation: &'static str,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>,
    ) -> Result<T> {
        let database = &self.database;
        let transaction = self.connection.transaction().map_err(Stop::Sqlite);
        transaction.and_then(|transaction| read(&transaction)).map_err(|stop| match stop {
            Stop::Unreadable(message) => {
                let message = format!("{}: {message}", failure::DAMAGED);
                Error::new(ErrorKind::Corrupt, operation, message).about(database.display())
            }
            Stop::Sqlite(error) => failure::of_sqlite(operation, database, error),
        })
    }
}

/// What can go wrong while reading.
enum Stop {
    Unreadable(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn unreadable(table: &str, row: &Row<'_>, error: &str) -> Stop {
    let key = row.get_ref(0).ok().map(|key| match key {
        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
        other => other.as_str().unwrap_or("without a key").to_owned(),
    });
    Stop::Unreadable(format!("row {} of `{table}` cannot be read: {error}", key.unwrap_or_default()))
}

fn all<T: Table>(transaction: &Transaction<'_>) -> Result<Vec<T>, Stop> {
    let mut statement = transaction.prepare_cached(&format!("SELECT {} FROM {}", T::SELECT, T::NAME))?;
    let mut rows = statement.query([])?;
    collect(&mut rows)
}

fn collect<T: Table>(rows: &mut rusqlite::Rows<'_>) -> Result<Vec<T>, Stop> {
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(T::read(row).map_err(|error| unreadable(T::NAME, row, &error))?);
    }
    Ok(records)
}

fn event(row: &Row<'_>) -> Result<Event, String> {
    let value = |index| row.get_ref(index).map_err(|error| error.to_string());
    let body = value(3)?.as_str().map_err(|error| error.to_string())?;
    Ok(Event {
        seq: u64::read(value(0)?)?,
        at: Column::read(value(1)?)?,
        lab: Column::read(value(2)?)?,
        body: serde_json::from_str(body).map_err(|error| error.to_string())?,
    })
}

/// The statement of an audit query names only what it selects by, so that an index can serve it: the one by subject, or
/// else the one by lab. A `+` keeps SQLite from searching by what it stands before.
pub(crate) fn audit_query(query: &AuditQuery) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {} FROM audit WHERE seq > ?", AuditRow::SELECT);
    let mut params = vec![query.after.store()];
    let mut by = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(&format!(" AND {column} = ?"));
            params.push(value);
        }
    };
    by("id", query.id.as_ref().map(Column::store));
    by(if query.id.is_some() { "+lab" } else { "lab" }, query.lab.as_ref().map(Column::store));
    by("subject", query.subject.as_ref().map(Column::store));
    sql.push_str(" ORDER BY seq LIMIT ?");
    let limit = if query.limit == 0 { DEFAULT_AUDIT_LIMIT } else { query.limit };
    params.push((limit as u64).store());
    (sql, params)
}
