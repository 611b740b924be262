//! What this store does beyond the laws: the ring of the feed, damage, versions, and refusals in plain words.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lifecycle_core::id::{LabId, LinkId, NodeId};
use lifecycle_core::machine::{LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{Batch, Change, Head, LabRecord, LinkRecord, NodeRecord, NodeTimes, ReadyState};
use lifecycle_core::name::{HostName, IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::StateStore;
use lifecycle_core::policy::enforcement::Budget;
use lifecycle_core::policy::link::{EndOwner, LinkEnd, LinkKey, OperState};
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::{Endpoint, LinkSpec, Topology};
use lifecycle_core::{Error, ErrorKind, Registry};
use lifecycle_store_sqlite::{PLUGIN, Settings, SqliteStore};
use rusqlite::Connection;
use serde_json::json;

use common::{after, assert_whole, event, full_batch, next, open, run};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn the_plugin_registers_itself_and_reads_its_settings() {
    assert_eq!(Registry::discover().unwrap().store("sqlite").unwrap().name, "sqlite");
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("made/when/missing");
    (PLUGIN.open)(&nested, &json!({ "keep_events": 5 })).unwrap();
    let error = (PLUGIN.open)(&nested, &json!({ "keep_event": 5 })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.chain().contains("keep_event") && error.chain().contains("keep_events"), "{}", error.chain());
}

#[test]
fn the_feed_is_a_ring() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Settings { keep_events: 1000 }).unwrap();
    run(async {
        let mut head = store.take_over("test").await.unwrap();
        for _ in 0..60 {
            let events = (1..=100).map(|n| event(head.event + n)).collect();
            let batch = Batch { events, ..next(head) };
            store.commit(&batch).await.unwrap();
            head = after(head, &batch);
            let page = store.events_since(0, usize::MAX).await.unwrap();
            assert!(page.events.iter().map(|event| event.seq).eq(page.oldest..=head.event), "a gap");
            let kept = page.events.len() as u64;
            assert!(kept >= head.event.min(1000), "{kept} entries are fewer than are to be kept");
            assert!(kept < 1000 + 512 + 100, "{kept} entries were kept");
        }
        let page = store.events_since(0, 1).await.unwrap();
        assert_eq!(page.events[0].seq, page.oldest);
        assert!(page.oldest > 4000);
    });
}

#[test]
fn the_feed_goes_on_when_nothing_of_it_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Settings { keep_events: 0 }).unwrap();
    run(async {
        let mut head = store.take_over("test").await.unwrap();
        for _ in 0..2 {
            let events = (1..=600).map(|n| event(head.event + n)).collect();
            let batch = Batch { events, ..next(head) };
            store.commit(&batch).await.unwrap();
            head = after(head, &batch);
            assert_eq!(store.events_since(0, 10).await.unwrap().oldest, head.event + 1);
        }
    });
}

#[test]
fn a_second_handle_of_one_process_is_refused_too() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (open(directory.path()), open(directory.path()));
    run(async {
        first.take_over("the first").await.unwrap();
        let error = second.take_over("the second").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("the first"), "{error}");
        drop(first);
        assert_eq!(second.take_over("the second").await.unwrap().epoch, 2);
    });
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let directory = filled();
    let path = directory.path().join("lifecycle.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(directory.path());
    for part in ["version 99", "newer", "another state directory", "lifecycle.db"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(fs::read(&path).unwrap() == before, "the newer database was changed");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    assert_eq!(run(assert_whole(&*open(directory.path()))), 50);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lifecycle.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(directory.path());
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
    fs::write(&path, "not a database at all, but a letter to a friend".repeat(100)).unwrap();
    assert!(refused(directory.path()).to_string().contains("damaged"));
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn damage_is_found_when_the_store_is_opened() {
    let whole = filled();
    let database = fs::read(whole.path().join("lifecycle.db")).unwrap();
    assert!(database.len() > 20 * 4096);
    let damages: [(&str, Damage); 5] = [
        ("emptied", Vec::clear),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("cut within a page", |bytes| bytes.truncate(5000)),
        ("cut within the header", |bytes| bytes.truncate(50)),
        ("overwritten in the middle", |bytes| bytes[6 * 4096..12 * 4096].fill(0x5a)),
    ];
    for (damage, spoil) in damages {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = database.clone();
        spoil(&mut bytes);
        fs::write(directory.path().join("lifecycle.db"), &bytes).unwrap();
        let error = refused(directory.path());
        assert!(error.to_string().contains("damaged"), "{damage}: {error}");
        assert!(error.to_string().contains("Put a copy of it back"), "{damage}: {error}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let directory = filled();
    let database = Connection::open(directory.path().join("lifecycle.db")).unwrap();
    database.execute("UPDATE hosts SET body = '{\"state_since\": 7}' WHERE name = 'host-3'", []).unwrap();
    let error = run(open(directory.path()).load()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("row host-3 of `hosts`"), "{error}");
}

#[test]
fn a_half_made_database_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lifecycle.new"), "half").unwrap();
    fs::write(directory.path().join("lifecycle.new-journal"), "half").unwrap();
    assert_eq!(run(assert_whole(&*open(directory.path()))), 0);
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("new")), "{names:?}");
}

#[test]
fn what_the_tables_refuse_is_said_in_words_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    run(async {
        let mut head = store.take_over("test").await.unwrap();
        let good = vec![
            Change::PutLab(Box::new(lab(1, "lab"))),
            Change::PutNode(Box::new(node(1, 1, "a"))),
            Change::PutNode(Box::new(node(2, 1, "b"))),
            Change::PutLink(Box::new(link(1, [on(1, "eth1"), on(2, "eth1")]))),
            Change::PutLink(Box::new(link(2, [on(1, "eth2"), on_host("br1")]))),
        ];
        let batch = Batch { changes: good, ..next(head) };
        store.commit(&batch).await.unwrap();
        head = after(head, &batch);
        let before = store.load().await.unwrap();

        let mut renamed = node(1, 1, "c");
        renamed.generation = 2;
        let mut moved = link(1, [on(1, "eth5"), on(2, "eth1")]);
        moved.generation = 2;
        let cases = [
            (ErrorKind::Conflict, "another lab has this name", Change::PutLab(Box::new(lab(2, "lab")))),
            (ErrorKind::Conflict, "another node of the lab", Change::PutNode(Box::new(node(3, 1, "a")))),
            (ErrorKind::Conflict, "never changes", Change::PutNode(Box::new(renamed))),
            (ErrorKind::Conflict, "never changes", Change::PutLink(Box::new(moved))),
            (ErrorKind::Conflict, "interface of the node", put_link(3, [on(1, "eth1"), on(2, "eth9")])),
            (ErrorKind::Conflict, "interface of the node", put_link(3, [on(1, "eth9"), on(2, "eth1")])),
            (ErrorKind::Conflict, "interface of the host", put_link(3, [on(2, "eth9"), on_host("br1")])),
            (ErrorKind::InvalidInput, "not there", Change::PutNode(Box::new(node(3, 9, "x")))),
            (ErrorKind::InvalidInput, "not there", put_link(3, [on(1, "eth9"), on(77, "eth1")])),
            (ErrorKind::InvalidInput, "not there", Change::DropNode { id: NodeId::from_u64(1), generation: 1 }),
            (ErrorKind::InvalidInput, "not there", Change::DropLab { id: LabId::from_u64(1), generation: 1 }),
            (ErrorKind::Conflict, "the stored generation is 1", Change::PutLab(Box::new(lab(1, "lab")))),
        ];
        for (kind, words, change) in cases {
            let shown = format!("{change:?}");
            let batch = Batch { changes: vec![change], ..full_batch(head) };
            let error = store.commit(&batch).await.expect_err(&shown);
            assert_eq!(error.kind(), kind, "{shown}: {error:?}");
            assert!(error.to_string().contains(words), "{shown}: {error}");
            assert_eq!(store.load().await.unwrap(), before, "{shown}");
        }
        // The same interface of another host, and any number of shared ends, are free.
        let mut elsewhere = link(3, [on(2, "eth3"), on_host("br1")]);
        elsewhere.host = Some(HostName::new("h2").unwrap());
        let changes = vec![
            Change::PutLink(Box::new(elsewhere.clone())),
            put_link(4, [on(2, "eth4"), shared("p")]),
            put_link(5, [on(2, "eth5"), shared("p")]),
        ];
        let batch = Batch { changes, ..next(head) };
        store.commit(&batch).await.unwrap();
        head = after(head, &batch);
        // A link that comes to the host finds the interface in use.
        elsewhere.host = Some(HostName::new("h1").unwrap());
        elsewhere.generation = 2;
        let error = commit(&*store, head, Change::PutLink(Box::new(elsewhere))).await.unwrap_err();
        assert!(error.to_string().contains("interface of the host"), "{error}");
    });
}

async fn commit(store: &dyn StateStore, head: Head, change: Change) -> Result<(), Error> {
    store.commit(&Batch { changes: vec![change], ..next(head) }).await
}

/// A store with 50 batches in it, closed.
fn filled() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    run(async {
        let mut head = store.take_over("test").await.unwrap();
        for _ in 0..50 {
            let batch = full_batch(head);
            store.commit(&batch).await.unwrap();
            head = after(head, &batch);
        }
    });
    directory
}

fn refused(directory: &Path) -> Error {
    let error = SqliteStore::open(directory, Settings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    error
}

fn lab(id: u64, name: &str) -> LabRecord {
    LabRecord {
        id: LabId::from_u64(id),
        topology: Arc::new(Topology::new(LabName::new(name).unwrap(), "/")),
        deleting: false,
        generation: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn node(id: u64, lab: u64, name: &str) -> NodeRecord {
    NodeRecord {
        id: NodeId::from_u64(id),
        lab: LabId::from_u64(lab),
        name: NodeName::new(name).unwrap(),
        desired: NodeIntent::Running,
        actual: NodeState::Undeployed,
        state_since: NOW,
        provider: PluginName::new("netns").unwrap(),
        host: None,
        instance: None,
        incarnation: 0,
        budget: Budget::default(),
        blocked: None,
        stale_since: None,
        ready: ReadyState::default(),
        configured: false,
        healthy_commands: None,
        exit: None,
        job: None,
        deadline: None,
        running_since: None,
        recreate: false,
        deleting: false,
        times: NodeTimes {
            created_at: NOW,
            updated_at: NOW,
            starting_started_at: None,
            stopping_started_at: None,
            boot_started_at: None,
        },
        generation: 1,
    }
}

fn end(owner: EndOwner, interface: &str) -> LinkEnd {
    LinkEnd { owner, interface: IfName::new(interface).unwrap() }
}

fn on(node: u64, interface: &str) -> LinkEnd {
    end(EndOwner::Node(NodeId::from_u64(node)), interface)
}

fn on_host(interface: &str) -> LinkEnd {
    end(EndOwner::Host, interface)
}

fn shared(interface: &str) -> LinkEnd {
    end(EndOwner::Shared, interface)
}

fn put_link(id: u64, ends: [LinkEnd; 2]) -> Change {
    Change::PutLink(Box::new(link(id, ends)))
}

fn link(id: u64, [a, b]: [LinkEnd; 2]) -> LinkRecord {
    let node = |end: &LinkEnd| match end.owner {
        EndOwner::Node(node) => Some(node),
        EndOwner::Host | EndOwner::Shared => None,
    };
    LinkRecord {
        id: LinkId::from_u64(id),
        lab: LabId::from_u64(1),
        nodes: [node(&a), node(&b)],
        key: LinkKey::new(a, b).unwrap(),
        spec: LinkSpec::new(Endpoint::Dummy, Endpoint::Dummy),
        desired: LinkIntent::Up,
        actual: LinkState::Unknown,
        state_since: NOW,
        backend: PluginName::new("veth").unwrap(),
        host: Some(HostName::new("h1").unwrap()),
        identity: None,
        span: None,
        path_mtu: None,
        incarnation: 0,
        budget: Budget::default(),
        verified_at: None,
        applied: None,
        carrier: [Some(false); 2],
        next_backend: None,
        parked: None,
        rebuild: false,
        oper: [OperState::new(None); 2],
        deadline: None,
        deleting: false,
        created_at: NOW,
        updated_at: NOW,
        generation: 1,
    }
}
