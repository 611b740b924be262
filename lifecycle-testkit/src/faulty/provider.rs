//! Providers that misbehave.

use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::Result;
use lifecycle_core::attach::AttachPoint;
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    Carrier, Console, CreateNode, CreatedNode, Exec, HostResources, Images, InstanceRef, Logs, ObservedNode,
    PortRequest, ProviderCapabilities, ProviderEvent,
};

use super::Faulty;

#[async_trait]
impl Provider for Faulty<dyn Provider> {
    fn capabilities(&self) -> ProviderCapabilities {
        self.inner.capabilities()
    }

    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        self.inner.node_identifier(node, long_name)
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        self.call("create_node", |provider| provider.create_node(request)).await
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        self.call("start_node", |provider| provider.start_node(instance)).await
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        self.call("stop_node", |provider| provider.stop_node(instance, grace)).await
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        self.call("destroy_node", |provider| provider.destroy_node(instance)).await
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        self.call("list_nodes", |provider| provider.list_nodes()).await
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        self.call("observe_node", |provider| provider.observe_node(instance)).await
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        self.inner.watch()
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        self.call("attach_point", |provider| provider.attach_point(instance, port)).await
    }

    // The optional faces are the provider's own: what goes wrong in them is no fault of a node's life.

    fn exec(&self) -> Option<&dyn Exec> {
        self.inner.exec()
    }

    fn logs(&self) -> Option<&dyn Logs> {
        self.inner.logs()
    }

    fn console(&self) -> Option<&dyn Console> {
        self.inner.console()
    }

    fn images(&self) -> Option<&dyn Images> {
        self.inner.images()
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        self.inner.carrier()
    }

    fn resources(&self) -> Option<&dyn HostResources> {
        self.inner.resources()
    }
}
