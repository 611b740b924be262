#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod column;
mod database;
mod encode;
mod failure;
mod hold;
mod migration;
mod reader;
#[cfg(test)]
mod schema_tests;
mod table;
mod worker;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::model::{AuditQuery, AuditRow, Batch, Head, Snapshot};
use lifecycle_core::plugin::store::EventPage;
use lifecycle_core::plugin::{StateStore, StorePlugin};
use lifecycle_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use reader::Reader;
use worker::Worker;
use writer::Writer;

/// The store as a plugin; it is called `sqlite`, and its settings are [`Settings`].
pub const PLUGIN: StorePlugin = StorePlugin { name: "sqlite", open: open_plugin };

inventory::submit! { PLUGIN }

/// What can be chosen about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Entries of the feed that are kept; the oldest are removed, some hundreds at a time.
    pub keep_events: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep_events: 100_000 }
    }
}

fn open_plugin(directory: &Path, settings: &serde_json::Value) -> Result<Arc<dyn StateStore>> {
    let settings = match settings {
        serde_json::Value::Null => Settings::default(),
        settings => Settings::deserialize(settings).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "open", "the settings of the sqlite store are wrong").because(error)
        })?,
    };
    Ok(Arc::new(SqliteStore::open(directory, settings)?))
}

/// A store in a SQLite database.
///
/// One thread writes and one reads, each with a connection of its own, so that no task of a runtime waits for a disk.
/// A commit is on the disk when it returns.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Worker<Writer>,
    reader: Worker<Reader>,
}

impl SqliteStore {
    /// Opens the store in a state directory, and makes it when there is none.
    ///
    /// The database is checked first, and a copy of it is kept when it has to be migrated. This blocks for as long as
    /// reading the database once takes.
    ///
    /// # Errors
    /// `Corrupt` when the database is damaged, was written by a newer version, or is none of ours; `PermissionDenied`
    /// or `Exhausted` when the directory cannot be written; `Conflict` when a database has to be made or migrated while
    /// another controller holds it.
    pub fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let connections = database::open(directory)?;
        let writer = Writer {
            connection: connections.writing,
            directory: directory.to_owned(),
            database: connections.path.clone(),
            hold: None,
            keep_events: settings.keep_events,
        };
        let reader = Reader { connection: connections.reading, database: connections.path };
        let failed = |error| failure::of_file("open", directory, error);
        Ok(Self {
            writer: Worker::spawn("sqlite-writer", writer).map_err(failed)?,
            reader: Worker::spawn("sqlite-reader", reader).map_err(failed)?,
        })
    }
}

/// Dropping a future does not undo its call: a commit that was begun is whole, and repeating it tells.
#[async_trait]
impl StateStore for SqliteStore {
    async fn take_over(&self, owner: &str) -> Result<Head> {
        let owner = owner.to_owned();
        self.writer.run("take over", move |writer| writer.take_over(&owner)).await
    }

    async fn release(&self) -> Result<()> {
        let release = |writer: &mut Writer| {
            writer.release();
            Ok(())
        };
        self.writer.run("release", release).await
    }

    async fn load(&self) -> Result<Snapshot> {
        self.reader.run("load", Reader::load).await
    }

    async fn commit(&self, batch: &Batch) -> Result<()> {
        let batch = encode::encode(batch)?;
        self.writer.run("commit", move |writer| writer.commit(&batch)).await
    }

    async fn events_since(&self, seq: u64, limit: usize) -> Result<EventPage> {
        self.reader.run("read events", move |reader| reader.events_since(seq, limit)).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        let query = query.clone();
        self.reader.run("read the audit trail", move |reader| reader.audit(&query)).await
    }
}
