//! The laws of stores, tried on stores that break them: each bug has to be found.
#![allow(clippy::unwrap_used)]

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use libtest_mimic::{Arguments, Trial};
use lifecycle_core::Result;
use lifecycle_core::id::ControllerId;
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::model::{AuditQuery, AuditRow, Batch, Change, Head, Snapshot};
use lifecycle_core::plugin::StateStore;
use lifecycle_core::plugin::store::EventPage;
use lifecycle_testkit::laws;
use strum::VariantArray;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, VariantArray)]
enum Bug {
    ForgetsWhenClosed,
    KeepsPartOfARefusedBatch,
    CommitsARepetitionAgain,
    RefusesARepetition,
    TakesAnyEpoch,
    TakesAnyGeneration,
    LosesAField,
    LosesAuditRowsOfWhatIsGone,
    ReturnsAllAuditRows,
    SelectsAuditRowsByIdOnly,
    RepeatsAnEvent,
    TakesOverWithoutANewEpoch,
    TakesALinkForAnother,
}

#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    bug: Bug,
}

fn new_store() -> MemoryStore {
    MemoryStore::new(ControllerId::from_u64(7))
}

#[async_trait]
impl StateStore for Broken {
    async fn take_over(&self, owner: &str) -> Result<Head> {
        let head = self.inner.load_now().head;
        if self.bug == Bug::TakesOverWithoutANewEpoch && head.epoch > 0 {
            return Ok(head);
        }
        self.inner.take_over(owner).await
    }

    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }

    async fn load(&self) -> Result<Snapshot> {
        let mut snapshot = self.inner.load_now();
        if self.bug == Bug::LosesAField {
            snapshot.nodes.iter_mut().for_each(|node| node.times.stopping_started_at = None);
        }
        Ok(snapshot)
    }

    async fn commit(&self, batch: &Batch) -> Result<()> {
        let here = self.inner.load_now();
        let mut batch = batch.clone();
        let repeated = batch.number == here.head.batch && batch.number > 0;
        match self.bug {
            Bug::CommitsARepetitionAgain if repeated => batch.number += 1,
            Bug::RefusesARepetition if repeated => batch.number += 7,
            Bug::TakesAnyEpoch if here.head.epoch > 0 => batch.epoch = here.head.epoch,
            Bug::TakesAnyGeneration => batch.changes.iter_mut().for_each(|change| fix_generation(change, &here)),
            Bug::TakesALinkForAnother => batch.changes.retain(|change| !is_twin(change, &here)),
            _ => {}
        }
        let result = self.inner.commit_now(&batch);
        if self.bug == Bug::KeepsPartOfARefusedBatch && result.is_err() && batch.number == here.head.batch + 1 {
            batch.changes.truncate(1);
            drop(self.inner.commit_now(&batch));
        }
        result
    }

    async fn events_since(&self, seq: u64, limit: usize) -> Result<EventPage> {
        let seq = if self.bug == Bug::RepeatsAnEvent { seq.saturating_sub(1) } else { seq };
        self.inner.events_since(seq, limit).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        let mut query = query.clone();
        match self.bug {
            Bug::ReturnsAllAuditRows if query.limit == 0 => query.limit = usize::MAX,
            Bug::SelectsAuditRowsByIdOnly if query.id.is_some() => query.subject = None,
            _ => {}
        }
        let mut rows = self.inner.audit_now(&query);
        if self.bug == Bug::LosesAuditRowsOfWhatIsGone {
            let labs = self.inner.load_now().labs;
            rows.retain(|row| row.lab.is_none_or(|lab| labs.iter().any(|there| there.id == lab)));
        }
        Ok(rows)
    }
}

fn fix_generation(change: &mut Change, here: &Snapshot) {
    if let Change::PutNode(row) = change {
        let stored = here.nodes.iter().find(|stored| stored.id == row.id);
        row.generation = stored.map_or(0, |stored| stored.generation) + 1;
    }
}

fn is_twin(change: &Change, here: &Snapshot) -> bool {
    let Change::PutLink(row) = change else { return false };
    here.links.iter().any(|link| link.key == row.key && link.id != row.id)
}

fn suite(bug: Bug) -> Vec<Trial> {
    let suite = laws::store::suite("planted", move || {
        let store = new_store();
        Ok(move || {
            let inner = if bug == Bug::ForgetsWhenClosed { new_store() } else { store.clone() };
            Ok(Arc::new(Broken { inner, bug }) as Arc<dyn StateStore>)
        })
    });
    suite.into_trials()
}

fn main() -> ExitCode {
    let found = Bug::VARIANTS.iter().map(|&bug| {
        Trial::test(format!("{bug:?} is found"), move || {
            // What the laws say of a broken store is of no interest, only that they say something.
            let silent = Arguments { logfile: Some("/dev/null".into()), test_threads: Some(1), ..Arguments::default() };
            let conclusion = libtest_mimic::run(&silent, suite(bug));
            if conclusion.num_failed > 0 { Ok(()) } else { Err(format!("no law noticed {bug:?}").into()) }
        })
    });
    // Broken laws panic, and say so at length.
    std::panic::set_hook(Box::new(|_| {}));
    libtest_mimic::run(&Arguments::from_args(), found.collect()).exit_code()
}
