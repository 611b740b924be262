//! A backend with a switch and with namespaces to connect.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifecycle_core::attach::{AttachPoint, NsRef};
use lifecycle_core::id::{ControllerId, LabId};
use lifecycle_core::plugin::network::{LinkIdentity, LinkLab};
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_linux::testing::open_vswitch::{OpenVswitch, missing};
use lifecycle_linux::testing::{Ground, Nodes, controller};
use lifecycle_network_ovs::OvsBackend;
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::{Skip, Verdict};
use serde_json::json;

use super::tunnels::Far;

/// Whether labs share a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Dedicated,
}

pub(crate) struct Fixture {
    pub(crate) backend: Arc<OvsBackend>,
    pub(crate) nodes: Nodes,
    pub(crate) controller: ControllerId,
    mode: Mode,
    daemon: Mutex<OpenVswitch>,
    /// The other host, for tests that join one.
    pub(crate) far: OnceLock<Far>,
}

impl Deref for Fixture {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

pub(crate) fn make(daemon: &OpenVswitch, controller: ControllerId, datapath: &str) -> Arc<OvsBackend> {
    let context = HostContext::without_directories(
        controller,
        json!({
            "database": daemon.database(), "namespace": daemon.namespace(), "datapath": datapath
        }),
    );
    Arc::new(OvsBackend::new(&context).unwrap())
}

impl Fixture {
    pub(crate) fn new(mode: Mode) -> Result<Self, Skip> {
        if let Some(reason) = missing() {
            return Err(Skip::new("ovs", reason));
        }
        let daemon = OpenVswitch::start();
        let controller = controller();
        let backend = make(&daemon, controller, "netdev");
        let nodes = Nodes::new(Ground::direct().unwrap());
        Ok(Self { backend, nodes, controller, mode, daemon: Mutex::new(daemon), far: OnceLock::new() })
    }

    pub(crate) fn daemon(&self) -> MutexGuard<'_, OpenVswitch> {
        self.daemon.lock().unwrap()
    }

    /// A backend of another controller, or with another datapath, on the same switch.
    pub(crate) async fn another(&self, controller: ControllerId, datapath: &str) -> Arc<OvsBackend> {
        let backend = make(&self.daemon(), controller, datapath);
        backend.initialize().await.unwrap();
        backend
    }

    /// The names of interfaces of links in the switch's namespace.
    pub(crate) fn switch_side(&self) -> Vec<String> {
        let links = self.daemon().route().links().unwrap();
        let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        names.retain(|name| name.starts_with("lc"));
        names.sort();
        names
    }

    /// Neither bridge nor port nor interface is left.
    pub(crate) fn assert_empty_switch(&self) {
        let bridges = self.daemon().vsctl(&["--no-wait", "list-br"]);
        assert_eq!((bridges, self.switch_side()), (String::new(), vec![]));
    }

    pub(crate) async fn connect(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkIdentity {
        self.backend.connect(&self.request(number, a, b)).await.unwrap()
    }

    pub(crate) async fn is_up(&self, identity: &LinkIdentity) -> bool {
        self.backend.verify(identity).await.is_ok_and(|report| report.is_up())
    }

    /// Waits until the link is up.
    pub(crate) async fn comes_up(&self, identity: &LinkIdentity, within: Duration) {
        let end = Instant::now() + within;
        while !self.is_up(identity).await {
            assert!(Instant::now() < end, "not up within {within:?}: {:?}", self.backend.verify(identity).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[async_trait]
impl NetworkFixture for Fixture {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.backend) as _
    }

    fn reopened(&self) -> Arc<dyn NetworkBackend> {
        make(&self.daemon(), self.controller, "netdev")
    }

    fn lab(&self) -> Option<LinkLab> {
        let id = LabId::from_u64(self.controller.as_u64());
        Some(LinkLab { id, own_switch: self.mode == Mode::Dedicated })
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
