//! A backend with namespaces to connect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LinkId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use lifecycle_linux::netlink::{Link, NewLink, RouteSocket, Veth, Which, create_veth, delete_link};
use lifecycle_linux::probe::{ProbeEnd, Prober};
use lifecycle_linux::testing::Ground;
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::{Skip, Verdict};

/// How namespaces are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Path,
    Broker,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct Fixture {
    pub(crate) ground: Ground,
    pub(crate) controller: ControllerId,
    pub(crate) backend: Arc<dyn NetworkBackend>,
    pub(crate) access: NamespaceAccess,
    namespaces: Mutex<BTreeMap<u64, (String, NsRef)>>,
}

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

impl Fixture {
    pub(crate) fn new(reach: Reach) -> Result<Self, Skip> {
        let ground = match reach {
            Reach::Broker => Ground::brokered().map_err(|error| Skip::new("user namespaces", error.to_string()))?,
            Reach::Path if nix::unistd::geteuid().is_root() => Ground::direct().unwrap(),
            Reach::Path => return Err(Skip::new("root", "only root reaches namespaces by path")),
        };
        // Tests run beside each other, in this process and in others: each is a controller of its own.
        let controller = ControllerId::from_u64(u64::from(std::process::id()) << 24 | number());
        let backend = make(controller);
        Ok(Self { ground, controller, backend, access: NamespaceAccess::new(), namespaces: Mutex::default() })
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

    /// A socket in the namespace of a point.
    pub(crate) fn route(&self, point: &AttachPoint) -> RouteSocket {
        let AttachKind::Namespace(ns) = &point.place else { panic!("the point is in no namespace of a node") };
        self.route_in(ns)
    }

    pub(crate) fn route_in(&self, ns: &NsRef) -> RouteSocket {
        RouteSocket::new(self.access.open(ns, SocketKind::Route).unwrap()).unwrap()
    }

    pub(crate) fn link(&self, point: &AttachPoint) -> Option<Link> {
        self.route(point).link(Which::Name(&point.ifname)).unwrap()
    }

    pub(crate) fn new_point(&self) -> AttachPoint {
        let number = number();
        let text = format!("n{number}");
        let ns = self.ground.namespace(&text).unwrap();
        self.namespaces.lock().unwrap().insert(ns.cookie, (text, ns.clone()));
        let [.., a, b, c, d] = number.to_be_bytes();
        AttachPoint {
            node: Some(NodeId::from_u64(number)),
            incarnation: 1,
            ifname: name("eth1"),
            mac: Mac([0x06, 0, a, b, c, d]),
            mtu: 1500,
            place: AttachKind::Namespace(ns),
        }
    }

    /// An end that is at no node.
    pub(crate) fn place(&self, ifname: &str, place: AttachKind) -> AttachPoint {
        AttachPoint { node: None, incarnation: 0, ifname: name(ifname), place, ..self.new_point() }
    }

    pub(crate) fn request(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkRequest {
        LinkRequest {
            link: LinkId::from_u64(number),
            incarnation: 1,
            a: a.clone(),
            b: b.clone(),
            attrs: LinkAttrs { mtu: 1500, ..LinkAttrs::default() },
        }
    }

    pub(crate) async fn connect(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkIdentity {
        self.backend.connect(&self.request(number, a, b)).await.unwrap()
    }

    /// Sends a frame from one point to another; both are in namespaces of nodes.
    pub(crate) async fn frame_passes(&self, from: &AttachPoint, to: &AttachPoint, patience: Duration) -> bool {
        let end = |point: &AttachPoint| {
            let AttachKind::Namespace(ns) = &point.place else { panic!("the point is in no namespace of a node") };
            let link = self.link(point).unwrap();
            let prober = Prober::new(self.access.open(ns, SocketKind::Packet).unwrap()).unwrap();
            (prober, ProbeEnd { index: link.index, mac: link.mac.unwrap() })
        };
        let ((near, near_end), (far, far_end)) = (end(from), end(to));
        near.probe(near_end, &far, far_end, number(), patience).unwrap()
    }
}

pub(crate) fn make(controller: ControllerId) -> Arc<dyn NetworkBackend> {
    let context = HostContext {
        controller,
        epoch: 1,
        state_dir: "/nonexistent".into(),
        runtime_dir: "/nonexistent".into(),
        helper: None,
        settings: serde_json::Value::Null,
    };
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
        self.new_point()
    }

    fn namespaces(&self) -> Vec<NsRef> {
        self.namespaces.lock().unwrap().values().map(|(_, ns)| ns.clone()).collect()
    }

    async fn exists(&self, point: &AttachPoint) -> bool {
        let AttachKind::Namespace(ns) = &point.place else { return false };
        let stands = self.namespaces.lock().unwrap().contains_key(&ns.cookie);
        stands && self.link(point).is_some()
    }

    async fn delete(&self, point: &AttachPoint) {
        self.route(point).run(delete_link(Which::Name(&point.ifname))).unwrap();
    }

    async fn make_foreign(&self, point: &AttachPoint) {
        let other = name(&format!("other{}", number()));
        let pair = Veth { a: NewLink { mac: Some(point.mac), ..NewLink::new(&point.ifname) }, b: NewLink::new(&other) };
        self.route(point).run(create_veth(&pair)).unwrap();
    }

    async fn take_place(&self, point: &AttachPoint) -> Verdict {
        let AttachKind::Namespace(ns) = &point.place else { panic!("the point is in no namespace of a node") };
        let (name, _) = self.namespaces.lock().unwrap().remove(&ns.cookie).unwrap();
        self.ground.forget(&name).unwrap();
        Ok(())
    }

    async fn passes(&self, from: &AttachPoint, to: &AttachPoint) -> Result<bool, Skip> {
        Ok(self.frame_passes(from, to, Duration::from_secs(5)).await)
    }

    async fn teardown(&self) {}
}
