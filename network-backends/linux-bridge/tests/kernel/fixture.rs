//! A backend with namespaces to connect.

use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use lifecycle_core::attach::{AttachPoint, NsRef};
use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::RouteSocket;
use lifecycle_linux::testing::{Ground, Nodes, controller};
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::tunnels::Far;

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
    /// What is the host's network: bridges of tests that run beside each other do not meet.
    host: FreshNamespace,
    /// The other host, for tests that join one.
    pub(crate) far: OnceLock<Far>,
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
        let (controller, host) = (controller(), FreshNamespace::new().unwrap());
        let backend = make(controller, &host);
        Ok(Self { nodes: Nodes::new(ground), controller, backend, host, far: OnceLock::new() })
    }

    pub(crate) async fn initialized(&self) {
        self.backend.initialize().await.unwrap();
    }

    /// A socket where bridges and ports are.
    pub(crate) fn switch(&self) -> RouteSocket {
        if self.nodes.ground.is_brokered() {
            return self.nodes.route_in(&self.nodes.ground.home().unwrap());
        }
        RouteSocket::new(self.host.route.try_clone().unwrap()).unwrap()
    }

    /// The file of what is the host's network.
    pub(crate) fn host_file(&self) -> PathBuf {
        host_file(&self.host)
    }

    /// The names of interfaces on the switch's side.
    pub(crate) fn switch_side(&self) -> Vec<String> {
        let mut names: Vec<String> = self.switch().links().unwrap().into_iter().map(|link| link.name).collect();
        names.retain(|name| name.starts_with("lc") || name.starts_with("lb") || name.starts_with("lt"));
        names.sort();
        names
    }

    /// Another backend, as it would be made for a controller.
    pub(crate) async fn another(&self, controller: ControllerId) -> Arc<dyn NetworkBackend> {
        let backend = make(controller, &self.host);
        backend.initialize().await.unwrap();
        backend
    }

    pub(crate) async fn connect(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkIdentity {
        self.backend.connect(&self.request(number, a, b)).await.unwrap()
    }

    /// Sends a frame from one point to another.
    pub(crate) fn frame_passes(&self, from: &AttachPoint, to: &AttachPoint, patience: Duration) -> bool {
        self.nodes.frame_passes((from, &from.ifname), (to, &to.ifname), None, patience)
    }
}

pub(crate) fn host_file(host: &FreshNamespace) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), host.ns.as_raw_fd()).into()
}

pub(crate) fn make(controller: ControllerId, host: &FreshNamespace) -> Arc<dyn NetworkBackend> {
    let context = HostContext::without_directories(
        controller,
        serde_json::json!({
            "namespace": host_file(host)
        }),
    );
    (lifecycle_network_linux_bridge::PLUGIN.make)(&context).unwrap()
}

#[async_trait]
impl NetworkFixture for Fixture {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.backend)
    }

    fn reopened(&self) -> Arc<dyn NetworkBackend> {
        make(self.controller, &self.host)
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
