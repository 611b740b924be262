//! Laws about optimistic changes: generations and the keys of links.

use lifecycle_core::ErrorKind;
use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::model::{Batch, Change, Head, LinkRecord};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::StateStore;
use lifecycle_core::policy::link::{EndOwner, LinkEnd, LinkKey};

use super::records::Records;
use super::{Bench, after, changing, contents, next, one_of_each};

/// The same change with another generation.
fn with_generation(change: &Change, generation: u64) -> Change {
    let mut change = change.clone();
    match &mut change {
        Change::PutLab(row) => row.generation = generation,
        Change::PutNode(row) => row.generation = generation,
        Change::PutLink(row) => row.generation = generation,
        Change::PutJob(row) => row.generation = generation,
        Change::PutHost(row) => row.generation = generation,
        Change::DropLab { generation: named, .. }
        | Change::DropNode { generation: named, .. }
        | Change::DropLink { generation: named, .. }
        | Change::DropJob { generation: named, .. } => *named = generation,
    }
    change
}

/// The drop of what a put wrote; hosts are never dropped.
fn drop_of(change: &Change) -> Option<Change> {
    match change {
        Change::PutLab(row) => Some(Change::DropLab { id: row.id, generation: row.generation }),
        Change::PutNode(row) => Some(Change::DropNode { id: row.id, generation: row.generation }),
        Change::PutLink(row) => Some(Change::DropLink { id: row.id, generation: row.generation }),
        Change::PutJob(row) => Some(Change::DropJob { id: row.id, generation: row.generation }),
        _ => None,
    }
}

async fn refused(store: &dyn StateStore, head: Head, change: Change) {
    let shown = format!("{change:?}");
    let error = store.commit(&Batch { changes: vec![change], ..next(head) }).await.expect_err(&shown);
    assert_eq!(error.kind(), ErrorKind::Conflict, "{shown}: {error:?}");
}

pub(super) async fn a_put_must_follow_the_stored_generation(bench: &Bench) {
    let mut records = Records::seeded(20);
    let (store, mut head) = bench.taken().await;
    let rows = one_of_each(&mut records);
    for wrong in [0, 2, u64::MAX] {
        for row in &rows {
            refused(&*store, head, with_generation(row, wrong)).await;
        }
    }
    for generation in 1..=3 {
        let changes = rows.iter().map(|row| with_generation(row, generation)).collect();
        let batch = changing(head, &mut records, changes);
        store.commit(&batch).await.expect("the next generation of each row");
        head = after(head, &batch);
        let before = contents(&*store).await;
        for wrong in [0, 1, generation, generation + 2] {
            for row in &rows {
                refused(&*store, head, with_generation(row, wrong)).await;
            }
        }
        assert_eq!(contents(&*store).await, before);
    }
}

pub(super) async fn a_drop_must_name_the_stored_generation(bench: &Bench) {
    let mut records = Records::seeded(21);
    let (store, mut head) = bench.taken().await;
    let rows = one_of_each(&mut records);
    let batch = Batch { changes: rows.clone(), ..next(head) };
    store.commit(&batch).await.expect("commit");
    head = after(head, &batch);
    // Links before their nodes, nodes before their lab.
    for drop in rows.iter().rev().filter_map(drop_of) {
        for wrong in [0, 2, u64::MAX] {
            refused(&*store, head, with_generation(&drop, wrong)).await;
        }
        let batch = Batch { changes: vec![drop.clone()], ..next(head) };
        store.commit(&batch).await.expect("drop");
        head = after(head, &batch);
        refused(&*store, head, drop).await;
    }
    let nowhere = [
        Change::DropLab { id: LabId::from_u64(404), generation: 1 },
        Change::DropNode { id: NodeId::from_u64(404), generation: 1 },
        Change::DropLink { id: LinkId::from_u64(404), generation: 1 },
        Change::DropJob { id: JobId::from_u64(404), generation: 1 },
    ];
    for drop in nowhere {
        refused(&*store, head, drop).await;
    }
    let left = store.load().await.expect("load");
    assert!(left.labs.is_empty() && left.nodes.is_empty() && left.links.is_empty() && left.jobs.is_empty());
}

pub(super) async fn a_conflict_keeps_nothing_of_its_batch(bench: &Bench) {
    let mut records = Records::seeded(22);
    let (store, mut head) = bench.taken().await;
    let rows = one_of_each(&mut records);
    let batch = changing(head, &mut records, rows.clone());
    store.commit(&batch).await.expect("commit");
    head = after(head, &batch);
    let before = contents(&*store).await;
    for stale in &rows {
        let mut changes = one_of_each(&mut records);
        changes.extend(rows.iter().filter(|row| *row != stale).map(|row| with_generation(row, 2)));
        changes.push(stale.clone());
        let batch = changing(head, &mut records, changes);
        let error = store.commit(&batch).await.expect_err("a change made against an older row");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(contents(&*store).await, before);
    }
}

pub(super) async fn link_keys_are_unique(bench: &Bench) {
    let mut records = Records::seeded(23);
    let (store, mut head) = bench.taken().await;
    let rows = one_of_each(&mut records);
    let batch = Batch { changes: rows.clone(), ..next(head) };
    store.commit(&batch).await.expect("commit");
    head = after(head, &batch);
    let Some(Change::PutLink(first)) = rows.last() else { unreachable!("the link is the last row") };

    let mut twin = first.clone();
    twin.id = LinkId::from_u64(1 + first.id.as_u64());
    refused(&*store, head, Change::PutLink(twin.clone())).await;

    let gone = Change::DropLink { id: first.id, generation: 1 };
    let changes = vec![gone, Change::PutLink(twin.clone())];
    let batch = Batch { changes, ..next(head) };
    store.commit(&batch).await.expect("the key is free once its link is dropped, in the same batch too");
    head = after(head, &batch);
    refused(&*store, head, Change::PutLink(first.clone())).await;
    assert_eq!(store.load().await.expect("load").links, [*twin]);
}

pub(super) async fn an_end_has_one_link_that_stays(bench: &Bench) {
    let mut records = Records::seeded(24);
    let (store, mut head) = bench.taken().await;
    let mut rows = one_of_each(&mut records);
    let Some(Change::PutLink(first)) = rows.last_mut() else { unreachable!("the link is the last row") };
    first.deleting = false;
    let first = first.clone();
    let batch = Batch { changes: rows, ..next(head) };
    store.commit(&batch).await.expect("commit");
    head = after(head, &batch);

    // Another one at the first one's interface of a node.
    let mut second = first.clone();
    second.id = LinkId::from_u64(1 + first.id.as_u64());
    let ends = first.key.ends();
    let shared = ends.into_iter().find(|end| matches!(end.owner, EndOwner::Node(_))).expect("an end at a node").clone();
    let other = LinkEnd { owner: EndOwner::Shared, interface: IfName::new("other0").expect("a name") };
    second.key = LinkKey::new(shared, other).expect("two ends");
    refused(&*store, head, Change::PutLink(second.clone())).await;

    let leaving = |row: &LinkRecord| LinkRecord { deleting: true, generation: row.generation + 1, ..row.clone() };
    let gone = leaving(&first);
    let changes = vec![Change::PutLink(second.clone()), Change::PutLink(Box::new(gone.clone()))];
    let batch = Batch { changes, ..next(head) };
    store.commit(&batch).await.expect("what one link gives up another takes, in the same batch and in any order");
    head = after(head, &batch);

    let back = LinkRecord { deleting: false, generation: gone.generation + 1, ..gone };
    refused(&*store, head, Change::PutLink(Box::new(back.clone()))).await;
    let changes = vec![Change::PutLink(Box::new(back)), Change::PutLink(Box::new(leaving(&second)))];
    let batch = Batch { changes, ..next(head) };
    store.commit(&batch).await.expect("and the other way round");
}
