//! Laws about what readers and dropped futures see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifecycle_core::model::{Batch, Change};
use lifecycle_core::plugin::StateStore;
use tokio::time::timeout;

use super::records::Records;
use super::{Bench, after, changing, contents, next, one_of_each};

/// Batches that are committed while readers look.
const BATCHES: u64 = 60;

/// Every batch changes the progress of all nodes to one number, so a reader that sees two numbers saw half a batch.
pub(super) async fn readers_see_whole_batches(bench: &Bench) {
    let mut records = Records::seeded(30);
    let (store, mut head) = bench.taken().await;
    let lab = records.lab();
    let mut nodes: Vec<_> = (0..20).map(|_| records.node(lab.id)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [Arc::clone(&store), bench.open()].into_iter().map(|reader| read(reader, &done)).collect();
    for number in 0..BATCHES {
        let mut changes = Vec::new();
        if number == 0 {
            changes.push(Change::PutLab(Box::new(lab.clone())));
        }
        for node in &mut nodes {
            node.generation = number + 1;
            node.incarnation = number;
            changes.push(Change::PutNode(Box::new(node.clone())));
        }
        let batch = changing(head, &mut records, changes);
        store.commit(&batch).await.expect("commit");
        head = after(head, &batch);
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let seen = reader.await.expect("a reader");
        assert!(seen > 0, "a reader never saw anything");
    }
}

fn read(store: Arc<dyn StateStore>, done: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let done = Arc::clone(done);
    tokio::spawn(async move {
        let (mut seen, mut last) = (0, 0);
        loop {
            let ending = done.load(Ordering::Relaxed);
            let snapshot = store.load().await.expect("load");
            let head = snapshot.head;
            assert!(head.batch >= last, "a reader went back from batch {last} to {}", head.batch);
            last = head.batch;
            for node in &snapshot.nodes {
                assert_eq!(node.incarnation + 1, head.batch, "a reader saw half of batch {}", head.batch);
            }
            assert_eq!(snapshot.nodes.len(), if head.batch == 0 { 0 } else { 20 });
            let page = store.events_since(0, usize::MAX).await.expect("events");
            assert!(page.events.len() as u64 >= head.event, "events lag behind the state");
            seen += 1;
            if ending {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    })
}

pub(super) async fn a_dropped_commit_is_whole_or_absent(bench: &Bench) {
    let mut records = Records::seeded(31);
    let (store, mut head) = bench.taken().await;
    for cut in [0, 0, 0, 1, 1, 2] {
        let rows = one_of_each(&mut records);
        let batch = changing(head, &mut records, rows);
        drop(timeout(Duration::from_millis(cut), store.commit(&batch)).await);
        // Committing again is how its author learns what became of it.
        store.commit(&batch).await.expect("commit again");
        head = after(head, &batch);
        let found = contents(&*store).await;
        assert_eq!(found.snapshot.head, head);
        assert_eq!(found.audit.last(), batch.audit.last());
        assert_eq!(found.events.last(), batch.events.last());
    }
    store.commit(&Batch { ..next(head) }).await.expect("commit");
}
