//! Laws about commits, epochs, loading, the audit trail and the feed.

use lifecycle_core::ErrorKind;
use lifecycle_core::model::{AuditQuery, Batch, Change, Head, SubjectKind};

use super::records::Records;
use super::{Bench, about_lab, after, changing, contents, next, one_of_each};

pub(super) async fn a_new_store_is_empty_and_keeps_its_identity(bench: &Bench) {
    let store = bench.open();
    let before = store.load().await.expect("load");
    assert_eq!(before.head, Head { controller: before.head.controller, epoch: 0, batch: 0, audit: 0, event: 0 });
    assert!(before.labs.is_empty() && before.nodes.is_empty() && before.links.is_empty());
    assert!(before.jobs.is_empty() && before.hosts.is_empty());
    let page = store.events_since(0, 10).await.expect("events");
    assert_eq!((page.events.len(), page.oldest), (0, 1));
    drop(store);
    let (store, head) = bench.taken().await;
    assert_eq!(head, Head { epoch: 1, ..before.head });
    assert_eq!(store.load().await.expect("load").head, head);
}

pub(super) async fn a_commit_is_durable_when_it_returns(bench: &Bench) {
    let mut records = Records::seeded(1);
    let (store, head) = bench.taken().await;
    let batch = changing(head, &mut records, one_of_each(&mut Records::seeded(2)));
    store.commit(&batch).await.expect("commit");
    let reader = bench.open();
    let committed = contents(&*store).await;
    assert_eq!(committed.snapshot.head, after(head, &batch));
    assert_eq!(contents(&*reader).await, committed, "another handle sees something else");
    drop((store, reader));
    assert_eq!(contents(&*bench.open()).await, committed, "opening again shows something else");
}

pub(super) async fn a_commit_is_all_or_nothing(bench: &Bench) {
    let mut records = Records::seeded(3);
    let (store, head) = bench.taken().await;
    let before = contents(&*store).await;
    let good = changing(head, &mut records, one_of_each(&mut Records::seeded(4)));
    let last = good.changes.len();
    for place in 0..=last {
        let mut bad = good.clone();
        let mut lab = records.lab();
        lab.generation = 2;
        bad.changes.insert(place, Change::PutLab(Box::new(lab)));
        let error = store.commit(&bad).await.expect_err("a change of what does not exist");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(contents(&*store).await, before, "something is left of a batch that failed at change {place}");
    }
    let spoil: [fn(&mut Batch); 4] = [
        |batch| batch.audit[0].seq += 1,
        |batch| batch.audit[0].seq -= 1,
        |batch| batch.events[0].seq += 1,
        |batch| batch.events[0].seq -= 1,
    ];
    for spoil in spoil {
        let mut bad = good.clone();
        spoil(&mut bad);
        let error = store.commit(&bad).await.expect_err("a gap in the numbers");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(contents(&*store).await, before, "something is left of a batch with a gap");
    }
    store.commit(&good).await.expect("the store is usable after failures");
}

pub(super) async fn a_batch_is_committed_once(bench: &Bench) {
    let mut records = Records::seeded(5);
    let (store, head) = bench.taken().await;
    let batch = changing(head, &mut records, one_of_each(&mut Records::seeded(6)));
    store.commit(&batch).await.expect("commit");
    let committed = contents(&*store).await;
    store.commit(&batch).await.expect("repeat");
    assert_eq!(contents(&*store).await, committed, "a repetition changed something");

    let head = after(head, &batch);
    for number in [0, head.batch + 2, head.batch + 100] {
        let batch = Batch { number, ..changing(head, &mut records, Vec::new()) };
        let error = store.commit(&batch).await.expect_err("a batch out of order");
        assert_eq!(error.kind(), ErrorKind::Conflict, "batch {number}: {error:?}");
    }
    assert_eq!(contents(&*store).await, committed);
    store.commit(&next(head)).await.expect("a batch with nothing in it counts too");
    assert_eq!(store.load().await.expect("load").head.batch, 2);
}

pub(super) async fn a_controller_that_never_took_over_is_fenced(bench: &Bench) {
    let store = bench.open();
    let head = store.load().await.expect("load").head;
    for epoch in [0, 1] {
        let error = store.commit(&Batch { epoch, ..next(head) }).await.expect_err("commit without taking over");
        assert_eq!(error.kind(), ErrorKind::Fenced, "epoch {epoch}: {error:?}");
    }
    assert_eq!(store.load().await.expect("load").head, head);
}

pub(super) async fn an_older_epoch_is_fenced(bench: &Bench) {
    let mut records = Records::seeded(7);
    let (store, first) = bench.taken().await;
    store.commit(&changing(first, &mut records, Vec::new())).await.expect("commit");
    let second = store.take_over("the laws again").await.expect("take over again");
    assert_eq!(second.epoch, first.epoch + 1);
    assert_eq!((second.batch, second.audit, second.event), (1, 1, 1), "a take-over goes on where the last one ended");
    for epoch in [0, first.epoch, second.epoch + 1] {
        for number in [second.batch, second.batch + 1] {
            let batch = Batch { epoch, number, ..changing(second, &mut records, Vec::new()) };
            let error = store.commit(&batch).await.expect_err("a batch of another epoch");
            assert_eq!(error.kind(), ErrorKind::Fenced, "epoch {epoch}: {error:?}");
        }
    }
    store.commit(&changing(second, &mut records, Vec::new())).await.expect("a batch of the present epoch");
}

pub(super) async fn a_second_controller_waits_or_fences_the_first_off(bench: &Bench) {
    let (first, head) = bench.taken().await;
    let second = bench.open();
    match second.take_over("another").await {
        Ok(taken) => {
            assert_eq!(taken.epoch, head.epoch + 1);
            let error = first.commit(&next(head)).await.expect_err("a batch of the one that was fenced off");
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            first.commit(&next(head)).await.expect("the holder goes on");
            let error = second.commit(&next(head)).await.expect_err("a batch of the one that waits");
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
        }
    }
    first.release().await.expect("release");
    second.release().await.expect("release");
    let before = second.load().await.expect("load").head;
    let taken = second.take_over("another").await.expect("take over what was released");
    assert_eq!(taken.epoch, before.epoch + 1);
    second.commit(&next(taken)).await.expect("commit");
    let error = first.commit(&next(head)).await.expect_err("a batch of the one before");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
}

pub(super) async fn loading_returns_every_field(bench: &Bench) {
    let mut records = Records::seeded(8);
    let (store, mut head) = bench.taken().await;
    let mut expected = Vec::new();
    for _ in 0..60 {
        let rows = one_of_each(&mut records);
        let batch = changing(head, &mut records, rows);
        store.commit(&batch).await.expect("commit");
        head = after(head, &batch);
        expected.push(batch);
    }
    for store in [store, bench.open()] {
        let found = contents(&*store).await;
        for batch in &expected {
            for change in &batch.changes {
                let same = match change {
                    Change::PutLab(row) => found.snapshot.labs.contains(row),
                    Change::PutNode(row) => found.snapshot.nodes.contains(row),
                    Change::PutLink(row) => found.snapshot.links.contains(row),
                    Change::PutJob(row) => found.snapshot.jobs.contains(row),
                    Change::PutHost(row) => found.snapshot.hosts.contains(row),
                    _ => unreachable!("only puts were made"),
                };
                assert!(same, "not loaded as committed: {change:#?}");
            }
        }
        let audit: Vec<_> = expected.iter().flat_map(|batch| batch.audit.clone()).collect();
        assert_eq!(found.audit, audit);
        let events: Vec<_> = expected.iter().flat_map(|batch| batch.events.clone()).collect();
        assert_eq!(found.events, events);
        assert_eq!(found.snapshot.head, head);
    }
}

pub(super) async fn audit_rows_are_numbered_and_outlive_their_subject(bench: &Bench) {
    let mut records = Records::seeded(9);
    let (store, mut head) = bench.taken().await;
    let lab = records.lab();
    let mut row = records.audit_row(1);
    (row.subject, row.id, row.lab) = (SubjectKind::Lab, lab.id.to_string(), Some(lab.id));
    let put = Batch { changes: vec![Change::PutLab(Box::new(lab.clone()))], audit: vec![row.clone()], ..next(head) };
    store.commit(&put).await.expect("put");
    head = after(head, &put);
    let mut last = row.clone();
    last.seq = 2;
    let gone = Change::DropLab { id: lab.id, generation: 1 };
    let drop = Batch { changes: vec![gone], audit: vec![last.clone()], ..next(head) };
    store.commit(&drop).await.expect("drop");
    assert!(store.load().await.expect("load").labs.is_empty());
    assert_eq!(store.audit(&about_lab(lab.id)).await.expect("audit"), [row, last]);
}

pub(super) async fn audit_queries_select(bench: &Bench) {
    let mut records = Records::seeded(10);
    let (store, head) = bench.taken().await;
    let rows: Vec<_> = (1..=1100).map(|seq| records.audit_row(seq)).collect();
    store.commit(&Batch { audit: rows.clone(), ..next(head) }).await.expect("commit");
    let all = store.audit(&AuditQuery::default()).await.expect("audit");
    assert_eq!(all, rows[..1000], "a query without a limit returns the first 1000 rows");
    let some = &rows[7];
    for subject in [None, Some(some.subject)] {
        for id in [None, Some(some.id.clone())] {
            for lab in [None, some.lab, Some(lifecycle_core::id::LabId::from_u64(404))] {
                for (after, limit) in [(0, usize::MAX), (500, usize::MAX), (0, 3), (1100, 5)] {
                    let query = AuditQuery { subject, id: id.clone(), lab, after, limit };
                    let wanted = rows.iter().filter(|row| {
                        row.seq > after
                            && subject.is_none_or(|subject| row.subject == subject)
                            && id.as_ref().is_none_or(|id| row.id == *id)
                            && lab.is_none_or(|lab| row.lab == Some(lab))
                    });
                    let expected: Vec<_> = wanted.take(limit).cloned().collect();
                    assert_eq!(store.audit(&query).await.expect("audit"), expected, "{query:?}");
                }
            }
        }
    }
}

pub(super) async fn events_are_numbered_and_paged(bench: &Bench) {
    let mut records = Records::seeded(11);
    let (store, mut head) = bench.taken().await;
    let mut all = Vec::new();
    for size in [0, 1, 7, 40, 2] {
        let events: Vec<_> = (head.event + 1..=head.event + size).map(|seq| records.event(seq)).collect();
        all.extend(events.clone());
        let batch = Batch { events, ..next(head) };
        store.commit(&batch).await.expect("commit");
        head = after(head, &batch);
    }
    let count = all.len() as u64;
    for since in [0, 1, 8, 49, count - 1, count, count + 10] {
        for limit in [0, 1, 5, usize::MAX] {
            let page = store.events_since(since, limit).await.expect("events");
            let expected: Vec<_> = all.iter().filter(|event| event.seq > since).take(limit).cloned().collect();
            assert_eq!(page.events, expected, "since {since}, at most {limit}");
            assert_eq!(page.oldest, 1);
        }
    }
}
