//! Stores that misbehave.

use async_trait::async_trait;
use lifecycle_core::Result;
use lifecycle_core::model::{AuditQuery, AuditRow, Batch, Head, Snapshot};
use lifecycle_core::plugin::StateStore;
use lifecycle_core::plugin::store::EventPage;

use super::Faulty;

#[async_trait]
impl StateStore for Faulty<dyn StateStore> {
    async fn take_over(&self, owner: &str) -> Result<Head> {
        self.call("take_over", |store| store.take_over(owner)).await
    }

    async fn release(&self) -> Result<()> {
        self.call("release", |store| store.release()).await
    }

    async fn load(&self) -> Result<Snapshot> {
        self.call("load", |store| store.load()).await
    }

    async fn commit(&self, batch: &Batch) -> Result<()> {
        self.call("commit", |store| store.commit(batch)).await
    }

    async fn events_since(&self, seq: u64, limit: usize) -> Result<EventPage> {
        self.call("events_since", |store| store.events_since(seq, limit)).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        self.call("audit", |store| store.audit(query)).await
    }
}
