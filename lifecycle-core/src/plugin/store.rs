//! Stores keep the state, the audit trail and the feed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::{AuditQuery, AuditRow, Batch, Event, Head, Snapshot};

/// A compiled-in store: its name and how to open one.
#[derive(Debug, Clone, Copy)]
pub struct StorePlugin {
    /// Name by which programs ask for it.
    pub name: &'static str,
    /// Opens the store in a state directory, or connects to the one that `settings` describe.
    pub open: fn(&Path, &serde_json::Value) -> Result<Arc<dyn StateStore>>,
}

inventory::collect!(StorePlugin);

/// A part of the feed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// Entries in sequence, without gaps.
    pub events: Vec<Event>,
    /// The oldest entry that is still kept; what came before can only be had as a snapshot.
    pub oldest: u64,
}

/// Keeps the state, the audit trail and the feed.
///
/// # Laws
///
/// - *A commit is all or nothing*, and durable when it returns.
/// - *A batch is committed once*: repeated with its number, it succeeds and changes nothing; with any number but the
///   next it is [`ErrorKind::Conflict`](crate::error::ErrorKind::Conflict).
/// - *Fencing*: a batch of an older epoch is [`ErrorKind::Fenced`](crate::error::ErrorKind::Fenced); so is one of a
///   controller that never took over.
/// - *Generations*: a change against another generation than the stored one is `Conflict`, and nothing of its batch is
///   kept.
/// - *Audit rows are never changed or removed*, not even with their subject. Rows and events are numbered without gaps.
/// - *Loading returns what was committed*, equal in every field.
/// - *Link keys are unique* within the store, and an interface of a node or a host has one link that is not being removed. What
///   one link gives up another may take in the same batch, in whichever order the changes stand.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Takes the state over: the epoch grows by one, and older controllers are fenced off.
    ///
    /// # Errors
    /// `Conflict` when another controller that is alive holds the state.
    async fn take_over(&self, owner: &str) -> Result<Head>;

    /// Gives the state back, so that the next controller need not wait.
    async fn release(&self) -> Result<()>;

    /// Everything.
    async fn load(&self) -> Result<Snapshot>;

    /// Commits a batch.
    async fn commit(&self, batch: &Batch) -> Result<()>;

    /// Entries of the feed after `seq`, at most `limit`.
    async fn events_since(&self, seq: u64, limit: usize) -> Result<EventPage>;

    /// Rows of the audit trail.
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>>;
}
