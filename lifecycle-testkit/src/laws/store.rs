//! The laws of [`StateStore`].

mod cases;
mod concurrency;
mod generations;
mod random;
mod records;

use std::sync::Arc;

use lifecycle_core::id::LabId;
use lifecycle_core::model::{AuditQuery, AuditRow, Batch, Change, Event, Head, Snapshot};
use lifecycle_core::plugin::StateStore;

use super::runner::torn_down;
use super::{Skip, Suite};
use records::Records;

/// The laws of a store. For each of them `make` makes a new, empty store and returns how to open it.
///
/// A store may be opened again while it is open, and again after the last handle was dropped.
pub fn suite<O>(name: &str, make: impl Fn() -> Result<O, Skip> + Send + Sync + 'static) -> Suite
where
    O: Fn() -> lifecycle_core::Result<Arc<dyn StateStore>> + 'static,
{
    let make: Arc<Make> = Arc::new(move || Ok(Box::new(make()?) as Box<Open>));
    let mut suite = Suite::new();
    macro_rules! laws {
        ($($module:ident::$law:ident),* $(,)?) => {$({
            let make = Arc::clone(&make);
            suite = suite.law(format!("{name}::store::{}", stringify!($law)), async move || {
                let bench = Bench { open: make()? };
                let law = async {
                    $module::$law(&bench).await;
                    Ok(())
                };
                torn_down(law, async {}).await
            });
        })*};
    }
    laws!(
        cases::a_new_store_is_empty_and_keeps_its_identity,
        cases::a_commit_is_durable_when_it_returns,
        cases::a_commit_is_all_or_nothing,
        cases::a_batch_is_committed_once,
        cases::a_controller_that_never_took_over_is_fenced,
        cases::an_older_epoch_is_fenced,
        cases::a_second_controller_waits_or_fences_the_first_off,
        cases::loading_returns_every_field,
        cases::audit_rows_are_numbered_and_outlive_their_subject,
        cases::audit_queries_select,
        cases::events_are_numbered_and_paged,
        generations::a_put_must_follow_the_stored_generation,
        generations::a_drop_must_name_the_stored_generation,
        generations::a_conflict_keeps_nothing_of_its_batch,
        generations::link_keys_are_unique,
        generations::an_end_has_one_link_that_stays,
        random::random_batches_agree_with_the_reference,
        concurrency::readers_see_whole_batches,
        concurrency::a_dropped_commit_is_whole_or_absent,
    );
    suite
}

type Open = dyn Fn() -> lifecycle_core::Result<Arc<dyn StateStore>>;
type Make = dyn Fn() -> Result<Box<Open>, Skip> + Send + Sync;

/// A store with the calls that laws make of it.
struct Bench {
    open: Box<Open>,
}

impl Bench {
    fn open(&self) -> Arc<dyn StateStore> {
        (self.open)().expect("open")
    }

    /// The store, taken over.
    async fn taken(&self) -> (Arc<dyn StateStore>, Head) {
        let store = self.open();
        let head = store.take_over("the laws").await.expect("take over");
        (store, head)
    }
}

/// The batch that follows `head`, with nothing in it.
fn next(head: Head) -> Batch {
    Batch { epoch: head.epoch, number: head.batch + 1, changes: Vec::new(), audit: Vec::new(), events: Vec::new() }
}

/// The batch that follows `head`, with `changes` and a row and an entry about them.
fn changing(head: Head, records: &mut Records, changes: Vec<Change>) -> Batch {
    let audit = vec![records.audit_row(head.audit + 1)];
    let events = vec![records.event(head.event + 1)];
    Batch { changes, audit, events, ..next(head) }
}

/// Where a store stands after a batch was committed.
fn after(head: Head, batch: &Batch) -> Head {
    Head {
        batch: batch.number,
        audit: head.audit + batch.audit.len() as u64,
        event: head.event + batch.events.len() as u64,
        ..head
    }
}

/// Everything that a store says, in one order.
#[derive(Debug, PartialEq)]
struct Contents {
    snapshot: Snapshot,
    audit: Vec<AuditRow>,
    events: Vec<Event>,
}

async fn contents(store: &dyn StateStore) -> Contents {
    let mut snapshot = store.load().await.expect("load");
    snapshot.labs.sort_by_key(|row| row.id);
    snapshot.nodes.sort_by_key(|row| row.id);
    snapshot.links.sort_by_key(|row| row.id);
    snapshot.jobs.sort_by_key(|row| row.id);
    snapshot.hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let query = AuditQuery { limit: usize::MAX, ..AuditQuery::default() };
    let audit = store.audit(&query).await.expect("audit");
    let events = store.events_since(0, usize::MAX).await.expect("events").events;
    Contents { snapshot, audit, events }
}

/// A change of each kind of row, for a lab with two nodes, a link, a job and a host.
fn one_of_each(records: &mut Records) -> Vec<Change> {
    let lab = records.lab();
    let (a, b) = (records.node(lab.id), records.node(lab.id));
    let link = records.link(lab.id, a.id, b.id);
    vec![
        Change::PutJob(Box::new(records.job(lab.id, &[a.id, b.id]))),
        Change::PutHost(Box::new(records.host())),
        Change::PutLab(Box::new(lab)),
        Change::PutNode(Box::new(a)),
        Change::PutNode(Box::new(b)),
        Change::PutLink(Box::new(link)),
    ]
}

/// A query for what a lab went through.
fn about_lab(lab: LabId) -> AuditQuery {
    AuditQuery { lab: Some(lab), ..AuditQuery::default() }
}
