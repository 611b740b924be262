//! Commits that fail, made to fail through the connection itself.

use std::path::Path;
use std::time::Duration;

use lifecycle_core::ErrorKind;
use lifecycle_core::machine::HostState;
use lifecycle_core::model::{Batch, Change, Head, HostRecord};
use lifecycle_core::name::HostName;
use lifecycle_core::time::Timestamp;
use rusqlite::TransactionBehavior;

use crate::database;
use crate::encode::{Encoded, encode};
use crate::hold::Hold;
use crate::writer::{self, Writer};

fn writer(directory: &Path) -> Writer {
    let connections = database::open(directory).unwrap();
    Writer {
        connection: connections.writing,
        directory: directory.to_owned(),
        database: connections.path,
        hold: None,
        keep_events: 1000,
    }
}

/// A batch that adds a host with a name of its own, some kilobytes long in all.
fn batch(head: Head) -> Encoded {
    let changes = (0..20).map(|row| {
        Change::PutHost(Box::new(HostRecord {
            name: HostName::new(format!("host-{}-{row}-{}", head.batch, "x".repeat(40))).unwrap(),
            state: HostState::Online,
            state_since: Timestamp::UNIX_EPOCH,
            capacity: None,
            generation: 1,
        }))
    });
    let (audit, events) = (Vec::new(), Vec::new());
    encode(&Batch { epoch: head.epoch, number: head.batch + 1, changes: changes.collect(), audit, events }).unwrap()
}

fn counted(writer: &Writer) -> (Head, i64) {
    let hosts = writer.connection.query_row("SELECT count(*) FROM hosts", [], |row| row.get(0)).unwrap();
    (writer::head(&writer.connection).unwrap(), hosts)
}

#[test]
fn a_database_that_may_not_grow_refuses_the_batch_and_stays_usable() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    writer.take_over("test").unwrap();
    let pages: i64 = writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |writer: &Writer, pages: i64| {
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        assert_eq!(writer.connection.pragma_update_and_check(None, "max_page_count", pages, set).unwrap(), pages);
    };
    limit(&writer, pages + 3);
    let error = loop {
        let before = counted(&writer);
        if let Err(error) = writer.commit(&batch(before.0)) {
            assert_eq!(counted(&writer), before, "something is left of the refused batch");
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    let before = counted(&writer);
    assert!(before.0.batch > 0, "nothing could be committed at all");
    limit(&writer, pages + 1000);
    writer.commit(&batch(before.0)).unwrap();
    assert_eq!(counted(&writer), (Head { batch: before.0.batch + 1, ..before.0 }, before.1 + 20));
}

#[test]
fn a_locked_database_refuses_the_batch_and_takes_it_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    let head = writer.take_over("test").unwrap();
    writer.connection.busy_timeout(Duration::from_millis(50)).unwrap();
    let mut other = rusqlite::Connection::open(&writer.database).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let error = writer.commit(&batch(head)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.to_string().contains("another program"), "{error}");
    drop(lock);
    writer.commit(&batch(head)).unwrap();
}

#[test]
fn a_take_over_that_fails_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    writer.connection.pragma_update(None, "query_only", true).unwrap();
    let error = writer.take_over("test").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    drop(Hold::take(directory.path(), "another").unwrap());
    writer.connection.pragma_update(None, "query_only", false).unwrap();
    assert_eq!(writer.take_over("test").unwrap().epoch, 1);

    // One that fails while the hold is ours already does not lose it.
    writer.connection.pragma_update(None, "query_only", true).unwrap();
    writer.take_over("test again").unwrap_err();
    assert_eq!(Hold::take(directory.path(), "another").unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_release_fences_its_own_handle() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    let head = writer.take_over("test").unwrap();
    writer.release();
    let error = writer.commit(&batch(head)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    assert_eq!(counted(&writer), (head, 0));
}
