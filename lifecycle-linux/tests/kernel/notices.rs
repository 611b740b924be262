//! Hearing of changes in many namespaces through one socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use lifecycle_linux::netlink::{Change, Which, change_link, delete_link};
use lifecycle_linux::notify::{Notice, NoticeSocket};
use lifecycle_linux::testing::Ground;

use super::Test;
use super::links::{Place, join, name};

pub(crate) const TESTS: &[Test] = &[
    ("notices::all_numbered_namespaces_are_heard", all_numbered_namespaces_are_heard),
    ("notices::a_namespace_that_dies_is_heard", a_namespace_that_dies_is_heard),
    ("notices::lost_notices_are_told", lost_notices_are_told),
    ("notices::a_reader_can_be_stopped", a_reader_can_be_stopped),
];

fn listen(ground: &Ground) -> NoticeSocket {
    let hub = ground.namespace("hub").unwrap();
    NoticeSocket::new(NamespaceAccess::new().open(&hub, SocketKind::Route).unwrap()).unwrap()
}

/// A pipe whose read end never tells anything while the write end lives.
fn never() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().map_err(io::Error::from).unwrap()
}

/// Receives until a notice fits.
fn wait_for(socket: &NoticeSocket, fits: impl Fn(&Notice) -> bool) {
    let (stop, guard) = never();
    let timer = thread::spawn(move || {
        thread::sleep(Duration::from_secs(10));
        drop(guard);
    });
    loop {
        let notices = socket.receive(stop.as_fd()).unwrap().expect("the notice did not come");
        if notices.iter().any(&fits) {
            break;
        }
    }
    drop(timer);
}

fn all_numbered_namespaces_are_heard(ground: &Ground) {
    let socket = listen(ground);
    let mut hub = Place::new(ground, "hub");
    let (mut a, mut b) = (Place::new(ground, "a"), Place::new(ground, "b"));
    let (at_a, at_b) = (hub.route.nsid(a.ns.as_fd()).unwrap(), hub.route.nsid(b.ns.as_fd()).unwrap());
    assert_ne!(at_a, at_b);
    join(&mut a, "eth1", &mut b, "eth2");
    let is_up = |notice: &Notice, id, text| match notice {
        Notice::Changed { nsid, link } => *nsid == Some(id) && link.name == text && link.carrier,
        _ => false,
    };
    wait_for(&socket, |notice| is_up(notice, at_b, "eth2"));
    a.route.run(change_link(Which::Name(&name("eth1")), &Change { up: Some(false), ..Change::default() })).unwrap();
    let is_down = |notice: &Notice| match notice {
        Notice::Changed { nsid, link } => *nsid == Some(at_a) && link.name == "eth1" && !link.admin_up,
        _ => false,
    };
    wait_for(&socket, is_down);
    a.route.run(delete_link(Which::Name(&name("eth1")))).unwrap();
    let is_gone = |notice: &Notice| match notice {
        Notice::Gone { nsid, link } => *nsid == Some(at_b) && link.name == "eth2",
        _ => false,
    };
    wait_for(&socket, is_gone);
}

fn a_namespace_that_dies_is_heard(ground: &Ground) {
    let socket = listen(ground);
    let mut hub = Place::new(ground, "hub");
    let a = Place::new(ground, "a");
    let id = hub.route.nsid(a.ns.as_fd()).unwrap();
    drop(a);
    ground.forget("a").unwrap();
    wait_for(&socket, |notice| *notice == Notice::NamespaceGone { nsid: id });
}

fn lost_notices_are_told(ground: &Ground) {
    let socket = listen(ground);
    let (mut hub, mut a) = (Place::new(ground, "hub"), Place::new(ground, "a"));
    join(&mut hub, "eth1", &mut a, "eth1");
    // More changes than the buffer has room for, while nobody reads.
    let eth = name("eth1");
    let requests: Vec<_> = (0..20_000u32)
        .map(|n| change_link(Which::Name(&eth), &Change { mtu: Some(1000 + n % 2), ..Change::default() }))
        .collect();
    for result in hub.route.run_all(&requests) {
        result.unwrap();
    }
    wait_for(&socket, |notice| *notice == Notice::Overrun);
}

fn a_reader_can_be_stopped(ground: &Ground) {
    let socket = listen(ground);
    let (stop, guard) = never();
    let reader = thread::spawn(move || socket.receive(stop.as_fd()).unwrap());
    thread::sleep(Duration::from_millis(20));
    drop(guard);
    assert_eq!(reader.join().unwrap(), None);
}
