//! A backend with a switch and with namespaces to connect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LabId, LinkId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use lifecycle_linux::netlink::{Link, NewLink, RouteSocket, Veth, Which, create_veth, delete_link};
use lifecycle_linux::probe::{ProbeEnd, Prober};
use lifecycle_linux::testing::Ground;
use lifecycle_network_ovs::OvsBackend;
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::{Skip, Verdict};
use serde_json::json;

use super::daemon::Daemon;

/// Whether labs share a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Dedicated,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

pub(crate) fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct Fixture {
    pub(crate) backend: Arc<OvsBackend>,
    pub(crate) access: NamespaceAccess,
    pub(crate) controller: ControllerId,
    mode: Mode,
    ground: Ground,
    namespaces: Mutex<BTreeMap<u64, (String, NsRef)>>,
    daemon: Mutex<Daemon>,
}

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

pub(crate) fn make(daemon: &Daemon, controller: ControllerId, mode: Mode, datapath: &str) -> Arc<OvsBackend> {
    let context = HostContext {
        controller,
        epoch: 1,
        state_dir: "/nonexistent".into(),
        runtime_dir: "/nonexistent".into(),
        helper: None,
        settings: json!({
            "database": daemon.database(), "namespace": daemon.namespace(), "datapath": datapath
        }),
    };
    let backend = OvsBackend::new(&context).unwrap();
    Arc::new(if mode == Mode::Dedicated { backend.of_lab(LabId::from_u64(controller.as_u64())) } else { backend })
}

impl Fixture {
    pub(crate) fn new(mode: Mode) -> Result<Self, Skip> {
        let daemon = Daemon::start()?;
        let controller = ControllerId::from_u64(u64::from(std::process::id()) << 24 | number());
        let backend = make(&daemon, controller, mode, "netdev");
        Ok(Self {
            backend,
            access: NamespaceAccess::new(),
            controller,
            mode,
            ground: Ground::direct().unwrap(),
            namespaces: Mutex::default(),
            daemon: Mutex::new(daemon),
        })
    }

    pub(crate) fn daemon(&self) -> MutexGuard<'_, Daemon> {
        self.daemon.lock().unwrap()
    }

    /// A backend of another controller, or with another datapath, on the same switch.
    pub(crate) async fn another(&self, controller: ControllerId, datapath: &str) -> Arc<OvsBackend> {
        let backend = make(&self.daemon(), controller, self.mode, datapath);
        backend.initialize().await.unwrap();
        backend
    }

    pub(crate) fn ns(point: &AttachPoint) -> &NsRef {
        let AttachKind::Namespace(ns) = &point.place else { panic!("the point is in no namespace of a node") };
        ns
    }

    /// A socket in the namespace of a point.
    pub(crate) fn route(&self, point: &AttachPoint) -> RouteSocket {
        RouteSocket::new(self.access.open(Self::ns(point), SocketKind::Route).unwrap()).unwrap()
    }

    pub(crate) fn link(&self, point: &AttachPoint) -> Option<Link> {
        self.route(point).link(Which::Name(&point.ifname)).unwrap()
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

    /// Sends a frame from an interface at one point to an address, and waits for it at another.
    pub(crate) fn frame_passes(
        &self,
        (from, from_name): (&AttachPoint, &IfName),
        (to, to_name): (&AttachPoint, &IfName),
        address: Option<Mac>,
        patience: Duration,
    ) -> bool {
        let end = |point: &AttachPoint, name: &IfName| {
            let link = self.route(point).link(Which::Name(name)).unwrap().unwrap();
            let prober = Prober::new(self.access.open(Self::ns(point), SocketKind::Packet).unwrap()).unwrap();
            (prober, ProbeEnd { index: link.index, mac: link.mac.unwrap() })
        };
        let ((near, near_end), (far, far_end)) = (end(from, from_name), end(to, to_name));
        let far_end = ProbeEnd { mac: address.unwrap_or(far_end.mac), ..far_end };
        near.probe(near_end, &far, far_end, number(), patience).unwrap()
    }
}

#[async_trait]
impl NetworkFixture for Fixture {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.backend) as _
    }

    fn reopened(&self) -> Arc<dyn NetworkBackend> {
        make(&self.daemon(), self.controller, self.mode, "netdev")
    }

    async fn point(&self) -> AttachPoint {
        self.new_point()
    }

    fn namespaces(&self) -> Vec<NsRef> {
        self.namespaces.lock().unwrap().values().map(|(_, ns)| ns.clone()).collect()
    }

    async fn exists(&self, point: &AttachPoint) -> bool {
        let stands = self.namespaces.lock().unwrap().contains_key(&Self::ns(point).cookie);
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
        let (name, _) = self.namespaces.lock().unwrap().remove(&Self::ns(point).cookie).unwrap();
        self.ground.forget(&name).unwrap();
        Ok(())
    }

    async fn passes(&self, from: &AttachPoint, to: &AttachPoint) -> Result<bool, Skip> {
        Ok(self.frame_passes((from, &from.ifname), (to, &to.ifname), None, Duration::from_secs(5)))
    }

    async fn teardown(&self) {}
}
