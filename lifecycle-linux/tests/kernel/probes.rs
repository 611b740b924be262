//! Test frames, through a bridge and not through one.

use std::time::{Duration, Instant};

use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use lifecycle_linux::netlink::{Change, NewLink, Veth, Which, change_link, create_bridge, create_veth};
use lifecycle_linux::probe::{ProbeEnd, Prober};
use lifecycle_linux::testing::Ground;

use super::Test;
use super::links::{Place, mac, name};
use std::os::fd::AsFd;

pub(crate) const TESTS: &[Test] = &[
    ("probes::a_frame_crosses_a_bridge", a_frame_crosses_a_bridge),
    ("probes::no_frame_crosses_what_is_cut", no_frame_crosses_what_is_cut),
];

const PATIENCE: Duration = Duration::from_secs(5);

/// Two namespaces whose interfaces are ports of one bridge, with their probers.
struct Segment {
    hub: Place,
    ends: [(Prober, ProbeEnd); 2],
}

fn segment(ground: &Ground) -> Segment {
    let mut hub = Place::new(ground, "hub");
    let bridge = name("br0");
    hub.route.run(create_bridge(&NewLink { up: true, ..NewLink::new(&bridge) })).unwrap();
    let master = hub.route.link(Which::Name(&bridge)).unwrap().unwrap().index;
    let mut end = |which: &str, last: u8| {
        let mut place = Place::new(ground, which);
        let (port, eth) = (name(&format!("port{which}")), name("eth1"));
        let veth = Veth {
            a: NewLink { master: Some(master), up: true, ..NewLink::new(&port) },
            b: NewLink { mac: Some(mac(last)), ns: Some(place.ns.as_fd()), ..NewLink::new(&eth) },
        };
        hub.route.run(create_veth(&veth)).unwrap();
        place.route.run(change_link(Which::Name(&eth), &Change { up: Some(true), ..Change::default() })).unwrap();
        let index = place.route.link(Which::Name(&eth)).unwrap().unwrap().index;
        let ns = ground.namespace(which).unwrap();
        let packet = NamespaceAccess::new().open(&ns, SocketKind::Packet).unwrap();
        (Prober::new(packet).unwrap(), ProbeEnd { index, mac: mac(last) })
    };
    let ends = [end("a", 1), end("b", 2)];
    Segment { hub, ends }
}

fn a_frame_crosses_a_bridge(ground: &Ground) {
    let Segment { ends: [(a, a_end), (b, b_end)], .. } = segment(ground);
    for nonce in 0..20 {
        assert!(a.probe(a_end, &b, b_end, nonce, PATIENCE).unwrap());
        assert!(b.probe(b_end, &a, a_end, nonce, PATIENCE).unwrap());
    }
}

fn no_frame_crosses_what_is_cut(ground: &Ground) {
    let Segment { mut hub, ends: [(a, a_end), (b, b_end)] } = segment(ground);
    assert!(a.probe(a_end, &b, b_end, 1, PATIENCE).unwrap());
    hub.route.run(change_link(Which::Name(&name("porta")), &Change { master: Some(0), ..Change::default() })).unwrap();
    let before = Instant::now();
    assert!(!a.probe(a_end, &b, b_end, 2, Duration::from_millis(100)).unwrap());
    assert!(before.elapsed() >= Duration::from_millis(100));
}
