//! Making, reading, changing and deleting interfaces.

use std::os::fd::{AsFd, OwnedFd};

use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_core::topology::MacvlanMode;
use lifecycle_linux::capability::{Feature, Missing};
use lifecycle_linux::ethtool::{Offloads, offloads, set_offloads};
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{
    Address, BRIDGE_PORT_FORWARD_ALL, Change, NewLink, PortChange, RouteSocket, Veth, Which, add_address,
    add_default_route, change_link, create_bridge, create_ifb, create_macvlan, create_veth, delete_address,
    delete_link, set_port,
};
use lifecycle_linux::testing::Ground;

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("links::a_veth_is_born_in_two_namespaces", a_veth_is_born_in_two_namespaces),
    ("links::a_taken_name_leaves_nothing_behind", a_taken_name_leaves_nothing_behind),
    ("links::refusals_are_in_the_kernels_words", refusals_are_in_the_kernels_words),
    ("links::many_requests_at_once", many_requests_at_once),
    ("links::attributes_change_in_place", attributes_change_in_place),
    ("links::addresses_and_routes", addresses_and_routes),
    ("links::bridge_ports", bridge_ports),
    ("links::a_macvlan_is_born_elsewhere", a_macvlan_is_born_elsewhere),
    ("links::interfaces_that_lead_nowhere", interfaces_that_lead_nowhere),
    ("links::offloads", offloads_can_be_turned_off),
    ("links::what_the_kernel_has", what_the_kernel_has),
];

pub(crate) const GROUP: u32 = 0x1234;

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

pub(crate) fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// A namespace with its route socket.
pub(crate) struct Place {
    pub(crate) ns: OwnedFd,
    pub(crate) route: RouteSocket,
}

impl Place {
    pub(crate) fn new(ground: &Ground, name: &str) -> Self {
        let ns = ground.namespace(name).unwrap();
        let wanted = [Want::Namespace, Want::Socket(SocketKind::Route)];
        let mut all = NamespaceAccess::new().open_all(&ns, &wanted).unwrap();
        let route = RouteSocket::new(all.pop().unwrap()).unwrap();
        Self { ns: all.pop().unwrap(), route }
    }
}

/// Joins `a` and `b` by a veth that is up at both ends.
pub(crate) fn join(a: &mut Place, a_name: &str, b: &mut Place, b_name: &str) {
    let (a_name, b_name) = (name(a_name), name(b_name));
    let veth = Veth {
        a: NewLink {
            mac: Some(mac(1)),
            mtu: Some(9500),
            group: GROUP,
            ns: Some(a.ns.as_fd()),
            up: true,
            ..NewLink::new(&a_name)
        },
        b: NewLink {
            mac: Some(mac(2)),
            mtu: Some(9500),
            group: GROUP,
            ns: Some(b.ns.as_fd()),
            ..NewLink::new(&b_name)
        },
    };
    a.route.run(create_veth(&veth)).unwrap();
    b.route.run(change_link(Which::Name(&b_name), &Change { up: Some(true), ..Change::default() })).unwrap();
}

fn a_veth_is_born_in_two_namespaces(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    join(&mut a, "eth1", &mut b, "eth2");
    let near = a.route.link(Which::Name(&name("eth1"))).unwrap().unwrap();
    let far = b.route.link(Which::Name(&name("eth2"))).unwrap().unwrap();
    for (end, mac) in [(&near, mac(1)), (&far, mac(2))] {
        assert_eq!((end.mac, end.mtu, end.group), (Some(mac), 9500, GROUP));
        assert_eq!(end.kind.as_deref(), Some("veth"));
        assert!(end.admin_up && end.carrier, "{end:?}");
    }
    assert_eq!((near.lower, far.lower), (Some(far.index), Some(near.index)));
    assert_eq!(near.lower_nsid, Some(a.route.nsid(b.ns.as_fd()).unwrap()));
    assert_eq!(far.lower_nsid, Some(b.route.nsid(a.ns.as_fd()).unwrap()));
    // Deleting one end takes the other along; doing it again finds nothing.
    a.route.run(delete_link(Which::Index(near.index))).unwrap();
    assert!(a.route.run(delete_link(Which::Index(near.index))).unwrap_err().is_not_found());
    assert_eq!(b.route.link(Which::Index(far.index)).unwrap(), None);
}

fn a_taken_name_leaves_nothing_behind(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    join(&mut a, "eth1", &mut b, "eth1");
    let (one, two) = (name("eth1"), name("eth2"));
    for (near, far) in [(&one, &two), (&two, &one)] {
        let veth = Veth {
            a: NewLink { ns: Some(a.ns.as_fd()), ..NewLink::new(near) },
            b: NewLink { ns: Some(b.ns.as_fd()), ..NewLink::new(far) },
        };
        let error = a.route.run(create_veth(&veth)).unwrap_err();
        assert!(error.is_exists(), "{error}");
    }
    for place in [&mut a, &mut b] {
        let names: Vec<String> = place.route.links().unwrap().into_iter().map(|link| link.name).collect();
        assert!(!names.contains(&"eth2".to_owned()), "{names:?}");
    }
}

fn refusals_are_in_the_kernels_words(ground: &Ground) {
    let mut a = Place::new(ground, "a");
    let missing = change_link(Which::Index(9999), &Change { up: Some(true), ..Change::default() });
    let error = a.route.run(missing).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    // A macvlan's child cannot have a bridge mode that does not exist on a loopback parent; the kernel says why.
    let own = name("m");
    let error = a.route.run(create_macvlan(&NewLink::new(&own), 9999, MacvlanMode::Bridge)).unwrap_err();
    assert!(error.to_string().starts_with("cannot create the macvlan: "), "{error}");
    let net = "192.0.2.1/24".parse().unwrap();
    let error = a.route.run(add_address(9999, net)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

fn many_requests_at_once(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    let names: Vec<IfName> = (0..100).map(|n| name(&format!("eth{n}"))).collect();
    let requests: Vec<_> = names
        .iter()
        .map(|name| {
            create_veth(&Veth {
                a: NewLink { ns: Some(a.ns.as_fd()), up: true, ..NewLink::new(name) },
                b: NewLink { ns: Some(b.ns.as_fd()), ..NewLink::new(name) },
            })
        })
        .collect();
    let twice: Vec<_> = requests.iter().chain(&requests[..3]).cloned().collect();
    let results = a.route.run_all(&twice);
    assert!(results[..100].iter().all(Result::is_ok));
    assert!(results[100..].iter().all(|result| result.as_ref().is_err_and(|error| error.is_exists())));
    // The loopback interface is the hundred and first.
    assert_eq!(a.route.links().unwrap().len(), 101);
    assert_eq!(b.route.links().unwrap().len(), 101);
}

fn attributes_change_in_place(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    join(&mut a, "eth1", &mut b, "eth1");
    let before = a.route.link(Which::Name(&name("eth1"))).unwrap().unwrap();
    let change =
        Change { up: Some(false), mtu: Some(1400), mac: Some(mac(9)), alias: Some("of a test"), ..Change::default() };
    a.route.run(change_link(Which::Index(before.index), &change)).unwrap();
    let after = a.route.link(Which::Index(before.index)).unwrap().unwrap();
    assert_eq!((after.mtu, after.mac, after.alias.as_deref()), (1400, Some(mac(9)), Some("of a test")));
    assert!(!after.admin_up && !after.carrier);
    // The far end sees that nobody is there.
    let far = b.route.link(Which::Name(&name("eth1"))).unwrap().unwrap();
    assert!(far.admin_up && !far.carrier);
}

fn addresses_and_routes(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    join(&mut a, "eth1", &mut b, "eth1");
    let index = a.route.link(Which::Name(&name("eth1"))).unwrap().unwrap().index;
    for net in ["192.0.2.1/24", "2001:db8::1/64"] {
        let net = net.parse().unwrap();
        // A second time is no error: the address is wanted, not the act of adding it.
        a.route.run(add_address(index, net)).unwrap();
        a.route.run(add_address(index, net)).unwrap();
        assert!(a.route.addresses().unwrap().contains(&Address { index, net }));
    }
    for gateway in ["192.0.2.254", "2001:db8::fe"] {
        a.route.run(add_default_route(gateway.parse().unwrap(), index)).unwrap();
        a.route.run(add_default_route(gateway.parse().unwrap(), index)).unwrap();
    }
    let net = "192.0.2.1/24".parse().unwrap();
    a.route.run(delete_address(index, net)).unwrap();
    assert!(!a.route.addresses().unwrap().contains(&Address { index, net }));
}

fn bridge_ports(ground: &Ground) {
    let (mut hub, mut a) = (Place::new(ground, "hub"), Place::new(ground, "a"));
    let (bridge, port, eth) = (name("br0"), name("port0"), name("eth1"));
    hub.route
        .run(create_bridge(&NewLink { mac: Some(mac(7)), group: GROUP, up: true, ..NewLink::new(&bridge) }))
        .unwrap();
    let master = hub.route.link(Which::Name(&bridge)).unwrap().unwrap().index;
    let veth = Veth {
        a: NewLink { master: Some(master), up: true, ..NewLink::new(&port) },
        b: NewLink { ns: Some(a.ns.as_fd()), ..NewLink::new(&eth) },
    };
    hub.route.run(create_veth(&veth)).unwrap();
    let change = PortChange { group_fwd_mask: Some(BRIDGE_PORT_FORWARD_ALL), learning: None };
    hub.route.run(set_port(Which::Name(&port), change)).unwrap();
    a.route.run(change_link(Which::Name(&eth), &Change { up: Some(true), ..Change::default() })).unwrap();
    let link = hub.route.link(Which::Name(&port)).unwrap().unwrap();
    assert_eq!(link.master, Some(master));
    let state = link.port.unwrap();
    assert!(state.forwarding, "{link:?}");
    assert_eq!(state.group_fwd_mask, BRIDGE_PORT_FORWARD_ALL);
}

fn a_macvlan_is_born_elsewhere(ground: &Ground) {
    let (mut hub, mut a) = (Place::new(ground, "hub"), Place::new(ground, "a"));
    let mut other = Place::new(ground, "other");
    join(&mut hub, "uplink", &mut other, "far");
    let parent = hub.route.link(Which::Name(&name("uplink"))).unwrap().unwrap().index;
    let own = name("eth1");
    let child = NewLink { mac: Some(mac(5)), ns: Some(a.ns.as_fd()), up: true, ..NewLink::new(&own) };
    hub.route.run(create_macvlan(&child, parent, MacvlanMode::Bridge)).unwrap();
    let link = a.route.link(Which::Name(&own)).unwrap().unwrap();
    assert_eq!((link.kind.as_deref(), link.lower, link.mac), (Some("macvlan"), Some(parent), Some(mac(5))));
    assert_eq!(link.lower_nsid, Some(a.route.nsid(hub.ns.as_fd()).unwrap()));
    assert_eq!(hub.route.link(Which::Name(&own)).unwrap(), None);
}

fn interfaces_that_lead_nowhere(ground: &Ground) {
    let mut a = Place::new(ground, "a");
    let own = name("eth1");
    let missing = Missing::detect().unwrap();
    if !missing.has(Feature::Ifb) {
        return assert!(missing.reason(Feature::Ifb).is_some());
    }
    a.route.run(create_ifb(&NewLink { mac: Some(mac(5)), mtu: Some(9500), up: true, ..NewLink::new(&own) })).unwrap();
    let link = a.route.link(Which::Name(&own)).unwrap().unwrap();
    assert_eq!((link.kind.as_deref(), link.mac, link.mtu), (Some("ifb"), Some(mac(5)), 9500));
    assert!(link.admin_up && link.carrier);
}

fn offloads_can_be_turned_off(ground: &Ground) {
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    join(&mut a, "eth1", &mut b, "eth1");
    assert!(offloads(&a.route, &name("eth1")).unwrap().tx_checksum);
    set_offloads(&a.route, &name("eth1"), Offloads::NONE).unwrap();
    assert_eq!(offloads(&a.route, &name("eth1")).unwrap(), Offloads::NONE);
    assert!(offloads(&b.route, &name("eth1")).unwrap().tx_checksum);
    assert!(offloads(&a.route, &name("eth2")).is_err());
}

fn what_the_kernel_has(_: &Ground) {
    let missing = Missing::detect().unwrap();
    // Without these the other tests could not run.
    for feature in [Feature::Veth, Feature::Bridge, Feature::UserNamespaces] {
        assert_eq!(missing.reason(feature), None, "{feature}");
    }
    for (feature, reason) in missing.iter() {
        assert!(!reason.is_empty() && !missing.has(feature));
    }
}
