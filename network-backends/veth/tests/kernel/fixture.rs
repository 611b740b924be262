//! A backend with namespaces to connect.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lifecycle_core::attach::{AttachPoint, NsRef};
use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_linux::testing::{Ground, Nodes, controller};
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::{Skip, Verdict};

/// How namespaces are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Path,
    Broker,
}

pub(crate) struct Fixture {
    pub(crate) nodes: Nodes,
    pub(crate) controller: ControllerId,
    pub(crate) backend: Arc<dyn NetworkBackend>,
}

impl Deref for Fixture {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl Fixture {
    pub(crate) fn new(reach: Reach) -> Result<Self, Skip> {
        let ground = match reach {
            Reach::Broker => Ground::brokered().map_err(|error| Skip::new("user namespaces", error.to_string()))?,
            Reach::Path if nix::unistd::geteuid().is_root() => Ground::direct().unwrap(),
            Reach::Path => return Err(Skip::new("root", "only root reaches namespaces by path")),
        };
        let controller = controller();
        Ok(Self { nodes: Nodes::new(ground), controller, backend: make(controller) })
    }

    pub(crate) async fn initialized(&self) {
        self.backend.initialize().await.unwrap();
    }

    /// Skips unless the host's own namespace is within reach.
    pub(crate) fn needs_host(&self) -> Verdict {
        match self.backend.capabilities().missing.get("host_net") {
            Some(reason) => Err(Skip::new("host", reason)),
            None => Ok(()),
        }
    }

    pub(crate) async fn connect(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkIdentity {
        self.backend.connect(&self.request(number, a, b)).await.unwrap()
    }

    /// Sends a frame from one point to another.
    pub(crate) fn frame_passes(&self, from: &AttachPoint, to: &AttachPoint, patience: Duration) -> bool {
        self.nodes.frame_passes((from, &from.ifname), (to, &to.ifname), None, patience)
    }
}

pub(crate) fn make(controller: ControllerId) -> Arc<dyn NetworkBackend> {
    let context = HostContext::without_directories(controller, serde_json::Value::Null);
    (lifecycle_network_veth::PLUGIN.make)(&context).unwrap()
}

#[async_trait]
impl NetworkFixture for Fixture {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.backend)
    }

    fn reopened(&self) -> Arc<dyn NetworkBackend> {
        make(self.controller)
    }

    async fn point(&self) -> AttachPoint {
        self.nodes.point()
    }

    fn namespaces(&self) -> Vec<NsRef> {
        self.nodes.namespaces()
    }

    async fn exists(&self, point: &AttachPoint) -> bool {
        self.nodes.exists(point)
    }

    async fn delete(&self, point: &AttachPoint) {
        self.nodes.delete(point);
    }

    async fn make_foreign(&self, point: &AttachPoint) {
        self.nodes.make_foreign(point);
    }

    async fn take_place(&self, point: &AttachPoint) -> Verdict {
        self.nodes.take_place(point);
        Ok(())
    }

    async fn passes(&self, from: &AttachPoint, to: &AttachPoint) -> Result<bool, Skip> {
        Ok(self.nodes.passes(from, to))
    }

    async fn teardown(&self) {}
}
