//! Network backends that misbehave.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::Result;
use lifecycle_core::attach::NsRef;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{
    LinkIdentity, LinkReport, LinkRequest, NetworkCapabilities, NetworkEvent, ObservedLink,
};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;

use super::Faulty;

#[async_trait]
impl NetworkBackend for Faulty<dyn NetworkBackend> {
    fn capabilities(&self) -> NetworkCapabilities {
        self.inner.capabilities()
    }

    async fn initialize(&self) -> Result<()> {
        self.call("initialize", |backend| backend.initialize()).await
    }

    async fn cleanup(&self) -> Result<()> {
        self.call("cleanup", |backend| backend.cleanup()).await
    }

    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity> {
        self.call("connect", |backend| backend.connect(request)).await
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        self.call("disconnect", |backend| backend.disconnect(identity)).await
    }

    async fn release(&self, identity: &LinkIdentity) -> Result<()> {
        self.call("release", |backend| backend.release(identity)).await
    }

    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        self.call("set_params", |backend| backend.set_params(identity, attrs)).await
    }

    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        self.call("set_carrier", |backend| backend.set_carrier(identity, side, up)).await
    }

    async fn observe(&self, namespaces: &[NsRef]) -> Result<Vec<ObservedLink>> {
        self.call("observe", |backend| backend.observe(namespaces)).await
    }

    async fn remove(&self, observed: &ObservedLink, namespaces: &[NsRef]) -> Result<()> {
        self.call("remove", |backend| backend.remove(observed, namespaces)).await
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        self.inner.watch()
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        self.call("verify", |backend| backend.verify(identity)).await
    }
}
