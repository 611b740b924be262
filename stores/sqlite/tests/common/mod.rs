//! Batches for the tests of this store.
#![allow(dead_code)] // Not every test binary needs everything.

use std::path::Path;
use std::sync::Arc;

use lifecycle_core::id::LabId;
use lifecycle_core::machine::HostState;
use lifecycle_core::model::{
    AuditAction, AuditResult, AuditRow, Batch, Change, Event, EventBody, Head, HostRecord, SubjectKind, Trigger,
};
use lifecycle_core::name::HostName;
use lifecycle_core::plugin::StateStore;
use lifecycle_core::time::Timestamp;
use lifecycle_store_sqlite::{Settings, SqliteStore};

/// Rows of each kind in a batch of [`full_batch`].
pub(crate) const ROWS: u64 = 10;

pub(crate) fn open(directory: &Path) -> Arc<dyn StateStore> {
    Arc::new(SqliteStore::open(directory, Settings::default()).unwrap())
}

pub(crate) fn next(head: Head) -> Batch {
    Batch { epoch: head.epoch, number: head.batch + 1, changes: Vec::new(), audit: Vec::new(), events: Vec::new() }
}

pub(crate) fn after(head: Head, batch: &Batch) -> Head {
    let (audit, event) = (head.audit + batch.audit.len() as u64, head.event + batch.events.len() as u64);
    Head { batch: batch.number, audit, event, ..head }
}

pub(crate) fn host(number: u64, generation: u64) -> HostRecord {
    HostRecord {
        name: HostName::new(format!("host-{number}")).unwrap(),
        state: HostState::Online,
        state_since: Timestamp::UNIX_EPOCH,
        capacity: None,
        generation,
    }
}

pub(crate) fn audit_row(seq: u64) -> AuditRow {
    AuditRow {
        seq,
        at: Timestamp::UNIX_EPOCH,
        subject: SubjectKind::Host,
        id: format!("host-{}", seq % ROWS),
        name: "host".to_owned(),
        lab: None,
        action: AuditAction::StateChanged,
        from: Some("offline".to_owned()),
        to: Some("online".to_owned()),
        trigger: Trigger::Sync,
        result: AuditResult::Success,
        decided_by: "sync".to_owned(),
        reason: None,
        error: None,
        attempt: None,
        job: None,
        metadata: serde_json::json!({ "seq": seq }),
    }
}

pub(crate) fn event(seq: u64) -> Event {
    let lab = LabId::from_u64(seq);
    Event { seq, at: Timestamp::UNIX_EPOCH, lab: Some(lab), body: EventBody::LabGone { id: lab } }
}

/// The batch after `head`: every host gets the number of the batch as its generation, with as many rows and entries.
pub(crate) fn full_batch(head: Head) -> Batch {
    let number = head.batch + 1;
    Batch {
        changes: (0..ROWS).map(|row| Change::PutHost(Box::new(host(row, number)))).collect(),
        audit: (1..=ROWS).map(|row| audit_row(head.audit + row)).collect(),
        events: (1..=ROWS).map(|row| event(head.event + row)).collect(),
        ..next(head)
    }
}

/// Asserts that a store which only ever got [`full_batch`]es holds whole ones, and returns their number.
pub(crate) async fn assert_whole(store: &dyn StateStore) -> u64 {
    let snapshot = store.load().await.unwrap();
    let number = snapshot.head.batch;
    let hosts = if number == 0 { 0 } else { ROWS as usize };
    assert_eq!(snapshot.hosts.len(), hosts);
    assert!(snapshot.hosts.iter().all(|host| host.generation == number), "rows of different batches");
    assert_eq!((snapshot.head.audit, snapshot.head.event), (number * ROWS, number * ROWS));
    let last = store.events_since((number * ROWS).saturating_sub(3), 100).await.unwrap();
    assert_eq!(last.events.last().map_or(0, |event| event.seq), number * ROWS);
    let query = lifecycle_core::model::AuditQuery { limit: usize::MAX, ..Default::default() };
    let rows = store.audit(&query).await.unwrap();
    assert!(rows.iter().map(|row| row.seq).eq(1..=number * ROWS), "a gap in the audit trail");
    number
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
