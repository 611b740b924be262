//! Places of nodes for tests of network backends, with what such a test does to them by hand.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LinkId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::LinkRequest;
use lifecycle_core::topology::LinkAttrs;

use super::Ground;
use crate::namespace::{NamespaceAccess, SocketKind};
use crate::netlink::{Link, NewLink, RouteSocket, Veth, Which, create_veth, delete_link};
use crate::probe::{ProbeEnd, Prober};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A number that this test program has not used yet.
pub fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A controller of its own for each test, since tests run beside each other, in this process and in others.
pub fn controller() -> ControllerId {
    ControllerId::from_u64(u64::from(std::process::id()) << 24 | number())
}

/// The name of an interface.
///
/// # Panics
/// When it is not one.
pub fn name(text: &str) -> IfName {
    IfName::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Namespaces of nodes, each with a place for one interface.
///
/// Methods panic when the kernel refuses them: then a test cannot go on.
#[derive(Debug)]
pub struct Nodes {
    /// Where the namespaces come from.
    pub ground: Ground,
    /// Opens sockets in them.
    pub access: NamespaceAccess,
    namespaces: Mutex<BTreeMap<u64, (String, NsRef)>>,
}

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

impl Nodes {
    /// None yet.
    pub fn new(ground: Ground) -> Self {
        Self { ground, access: NamespaceAccess::new(), namespaces: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (String, NsRef)>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `eth1` in a new namespace.
    pub fn point(&self) -> AttachPoint {
        let number = number();
        let text = format!("n{number}");
        let ns = must(self.ground.namespace(&text));
        self.lock().insert(ns.cookie, (text, ns.clone()));
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
    pub fn place(&self, ifname: &str, place: AttachKind) -> AttachPoint {
        AttachPoint { node: None, incarnation: 0, ifname: name(ifname), place, ..self.point() }
    }

    /// A request for incarnation 1 of link `number`.
    pub fn request(&self, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkRequest {
        LinkRequest {
            lab: None,
            link: LinkId::from_u64(number),
            incarnation: 1,
            a: a.clone(),
            b: b.clone(),
            attrs: LinkAttrs { mtu: 1500, ..LinkAttrs::default() },
        }
    }

    /// Requests for links of as many nodes in a ring: each has an interface to the one before and one to the one after.
    pub fn ring(&self, count: u64) -> Vec<LinkRequest> {
        let points: Vec<AttachPoint> = (0..count).map(|_| self.point()).collect();
        let link = |(number, point): (usize, &AttachPoint)| {
            let mut next = points[(number + 1) % points.len()].clone();
            next.ifname = name("eth2");
            next.mac.0[0] ^= 8;
            self.request(number as u64, point, &next)
        };
        points.iter().enumerate().map(link).collect()
    }

    /// Every namespace that was handed out and still exists.
    pub fn namespaces(&self) -> Vec<NsRef> {
        self.lock().values().map(|(_, ns)| ns.clone()).collect()
    }

    /// The namespace of a point.
    ///
    /// # Panics
    /// When it is in none.
    pub fn ns(point: &AttachPoint) -> &NsRef {
        let AttachKind::Namespace(ns) = &point.place else { panic!("the point is in no namespace of a node") };
        ns
    }

    /// A socket in the namespace of a point.
    pub fn route(&self, point: &AttachPoint) -> RouteSocket {
        self.route_in(Self::ns(point))
    }

    /// A socket in a namespace.
    pub fn route_in(&self, ns: &NsRef) -> RouteSocket {
        must(RouteSocket::new(must(self.access.open(ns, SocketKind::Route))))
    }

    /// The interface at a point.
    pub fn link(&self, point: &AttachPoint) -> Option<Link> {
        must(self.route(point).link(Which::Name(&point.ifname)))
    }

    /// Whether an interface stands at a point whose namespace still exists.
    pub fn exists(&self, point: &AttachPoint) -> bool {
        let stands = self.lock().contains_key(&Self::ns(point).cookie);
        stands && self.link(point).is_some()
    }

    /// Deletes the interface at a point.
    pub fn delete(&self, point: &AttachPoint) {
        must(self.route(point).run(delete_link(Which::Name(&point.ifname))));
    }

    /// Makes an interface of the point's name and address that is not ours.
    pub fn make_foreign(&self, point: &AttachPoint) {
        let other = name(&format!("other{}", number()));
        let pair = Veth { a: NewLink { mac: Some(point.mac), ..NewLink::new(&point.ifname) }, b: NewLink::new(&other) };
        must(self.route(point).run(create_veth(&pair)));
    }

    /// Takes the whole namespace of a point away.
    pub fn take_place(&self, point: &AttachPoint) {
        let (name, _) = self.lock().remove(&Self::ns(point).cookie).unwrap_or_else(|| panic!("it is gone already"));
        must(self.ground.forget(&name));
    }

    /// Sends a frame from an interface at one point to an address, that of the other interface when none is given, and
    /// waits for it at another point.
    pub fn frame_passes(
        &self,
        (from, from_name): (&AttachPoint, &IfName),
        (to, to_name): (&AttachPoint, &IfName),
        address: Option<Mac>,
        patience: Duration,
    ) -> bool {
        let end = |point: &AttachPoint, name: &IfName| {
            let link = must(self.route(point).link(Which::Name(name))).ok_or_else(|| format!("no {name}"));
            let link = must(link);
            let prober = must(Prober::new(must(self.access.open(Self::ns(point), SocketKind::Packet))));
            (prober, ProbeEnd { index: link.index, mac: must(link.mac.ok_or("no address")) })
        };
        let ((near, near_end), (far, far_end)) = (end(from, from_name), end(to, to_name));
        let far_end = ProbeEnd { mac: address.unwrap_or(far_end.mac), ..far_end };
        let sent: io::Result<bool> = near.probe(near_end, &far, far_end, number(), patience);
        must(sent)
    }

    /// Whether frames arrive within some seconds.
    pub fn passes(&self, from: &AttachPoint, to: &AttachPoint) -> bool {
        self.frame_passes((from, &from.ifname), (to, &to.ifname), None, Duration::from_secs(5))
    }
}
