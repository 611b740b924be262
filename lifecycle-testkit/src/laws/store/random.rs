//! Random batches, good and bad, compared with the reference store.

use std::collections::BTreeSet;

use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::model::{Batch, Change, Head, LabRecord, LinkRecord, NodeRecord, Snapshot};

use super::records::Records;
use super::{Bench, Contents, contents, next};

/// Sequences and batches of each.
const SEQUENCES: u64 = 4;
const BATCHES: usize = 120;

pub(super) async fn random_batches_agree_with_the_reference(bench: &Bench) {
    // One after the other in one store, each with another seed.
    let model = MemoryStore::new(ControllerId::from_u64(0));
    for seed in 0..SEQUENCES {
        let mut records = Records::seeded(1000 + seed);
        let (store, head) = bench.taken().await;
        model.take_over_now();
        for step in 0..BATCHES {
            let here = model.load_now();
            let mut batch = good(&here, &mut records);
            if records.chance(3) {
                spoil(&mut batch, &here, &mut records);
            }
            let (expected, got) = (model.commit_now(&batch), store.commit(&batch).await);
            let kinds = (expected.as_ref().err().map(|e| e.kind()), got.as_ref().err().map(|e| e.kind()));
            assert_eq!(kinds.0, kinds.1, "seed {seed} step {step}: {got:?} where {expected:?}\n{batch:#?}");
            if step % 10 == 0 {
                agree(&contents(&*store).await, &contents(&model).await, head, (seed, step));
            }
        }
        agree(&contents(&*store).await, &contents(&model).await, head, (seed, BATCHES));
        store.release().await.expect("release");
    }
}

fn agree(found: &Contents, expected: &Contents, head: Head, place: (u64, usize)) {
    let head = Head { controller: head.controller, ..expected.snapshot.head };
    let snapshot = Snapshot { head, ..expected.snapshot.clone() };
    assert_eq!(found.snapshot, snapshot, "(seed, step) {place:?}");
    assert_eq!(found.audit, expected.audit, "(seed, step) {place:?}");
    assert_eq!(found.events, expected.events, "(seed, step) {place:?}");
}

/// A batch that the store has to take: drops first, from links to labs, then puts, from labs to links.
fn good(here: &Snapshot, records: &mut Records) -> Batch {
    let mut batch = next(here.head);
    let mut gone = BTreeSet::new();
    for link in &here.links {
        if records.chance(12) {
            gone.insert(link.id.as_u64());
            batch.changes.push(Change::DropLink { id: link.id, generation: link.generation });
        }
    }
    for job in &here.jobs {
        if records.chance(8) {
            gone.insert(job.id.as_u64());
            batch.changes.push(Change::DropJob { id: job.id, generation: job.generation });
        }
    }
    let links: Vec<_> = here.links.iter().filter(|link| !gone.contains(&link.id.as_u64())).collect();
    for node in &here.nodes {
        if records.chance(12) && !links.iter().any(|link| link.nodes.contains(&Some(node.id))) {
            gone.insert(node.id.as_u64());
            batch.changes.push(Change::DropNode { id: node.id, generation: node.generation });
        }
    }
    let nodes: Vec<_> = here.nodes.iter().filter(|node| !gone.contains(&node.id.as_u64())).collect();
    for lab in &here.labs {
        let used = nodes.iter().any(|node| node.lab == lab.id) || links.iter().any(|link| link.lab == lab.id);
        if records.chance(4) && !used {
            gone.insert(lab.id.as_u64());
            batch.changes.push(Change::DropLab { id: lab.id, generation: lab.generation });
        }
    }
    let labs: Vec<_> = here.labs.iter().filter(|lab| !gone.contains(&lab.id.as_u64())).collect();
    put(here, &labs, &nodes, &links, &gone, records, &mut batch.changes);
    batch.audit = (1..=records.up_to(4)).map(|n| records.audit_row(here.head.audit + n)).collect();
    batch.events = (1..=records.up_to(4)).map(|n| records.event(here.head.event + n)).collect();
    batch
}

fn put(
    here: &Snapshot,
    labs: &[&LabRecord],
    nodes: &[&NodeRecord],
    links: &[&LinkRecord],
    gone: &BTreeSet<u64>,
    records: &mut Records,
    changes: &mut Vec<Change>,
) {
    if labs.is_empty() || records.chance(10) {
        changes.push(Change::PutLab(Box::new(records.lab())));
    }
    for lab in labs.iter().filter(|_| records.chance(4)).collect::<Vec<_>>() {
        changes.push(Change::PutLab(Box::new(records.lab_after(lab))));
    }
    if let Some(lab) = records.pick(labs) {
        for _ in 0..records.up_to(3) {
            changes.push(Change::PutNode(Box::new(records.node(lab.id))));
        }
    }
    for node in nodes.iter().filter(|_| records.chance(3)).collect::<Vec<_>>() {
        changes.push(Change::PutNode(Box::new(records.node_after(node))));
    }
    if let (Some(a), Some(b)) = (records.pick(nodes), records.pick(nodes)) {
        changes.push(Change::PutLink(Box::new(records.link(a.lab, a.id, b.id))));
        changes.push(Change::PutJob(Box::new(records.job(a.lab, &[a.id, b.id]))));
    }
    for link in links.iter().filter(|_| records.chance(3)).collect::<Vec<_>>() {
        changes.push(Change::PutLink(Box::new(records.link_after(link))));
    }
    for job in here.jobs.iter().filter(|job| !gone.contains(&job.id.as_u64())) {
        if records.chance(3) {
            changes.push(Change::PutJob(Box::new(records.job_after(job))));
        }
    }
    for host in &here.hosts {
        if records.chance(3) {
            changes.push(Change::PutHost(Box::new(records.host_after(host))));
        }
    }
    if records.chance(10) {
        changes.push(Change::PutHost(Box::new(records.host())));
    }
}

/// Makes a good batch one that the store has to refuse, or to take for a repetition.
fn spoil(batch: &mut Batch, here: &Snapshot, records: &mut Records) {
    match records.up_to(7) {
        0 => batch.number = here.head.batch,
        1 => batch.number += 1,
        2 => batch.epoch += 1,
        3 => batch.epoch -= 1,
        4 => batch.audit.push(records.audit_row(here.head.audit + batch.audit.len() as u64 + 2)),
        5 => batch.events.push(records.event(here.head.event + batch.events.len() as u64 + 2)),
        6 => {
            let mut lab = records.lab();
            lab.generation = 1 + records.up_to(2) * 7;
            if lab.generation == 1 {
                lab.generation = 0;
            }
            batch.changes.push(Change::PutLab(Box::new(lab)));
        }
        _ => {
            if let Some(link) = records.pick(&here.links.iter().collect::<Vec<_>>()) {
                let mut twin = link.clone();
                (twin.id, twin.generation) = (LinkId::from_u64(link.id.as_u64() ^ 1), 1);
                let dropped = |change: &Change| matches!(change, Change::DropLink { id, .. } if *id == link.id);
                batch.changes.retain(|change| !dropped(change));
                batch.changes.push(Change::PutLink(Box::new(twin)));
            }
        }
    }
}
