//! Two hosts for tests of links between hosts: network namespaces with a cable between them.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};

use super::name;
use crate::namespace::{NamespaceAccess, SocketKind, Want};
use crate::netlink::{
    Change, NewLink, RouteSocket, Veth, Which, add_address, add_default_route, change_link, create_veth,
};

/// The interface of a host at the cable.
pub const UPLINK: &str = "uplink";
/// Bytes that a packet may have on the cable.
pub const UPLINK_MTU: u32 = 1500;

/// Addresses of a host, three of either family. The first of both are those that its default routes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddresses {
    /// IPv4.
    pub v4: [IpAddr; 2],
    /// IPv6.
    pub v6: [IpAddr; 2],
}

impl HostAddresses {
    /// Those of the first or second host.
    pub fn of(host: u8) -> Self {
        let v4 = |last: u8| IpAddr::from([10, 200, 0, last]);
        let v6 = |last: u8| IpAddr::from([0xfd00, 0x200, 0, 0, 0, 0, 0, u16::from(last)]);
        let [first, second] = [1 + host, 11 + host];
        Self { v4: [v4(first), v4(second)], v6: [v6(first), v6(second)] }
    }
}

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// A socket in the network namespace with this file.
///
/// # Panics
/// When it cannot be entered.
pub fn route_in(namespace: &Path) -> RouteSocket {
    let want = [Want::Socket(SocketKind::Route)];
    let mut opened = must(NamespaceAccess::new().open_inside(must(File::open(namespace)).into(), None, &want));
    must(RouteSocket::new(must(opened.pop().ok_or("no socket"))))
}

/// Puts a cable between two network namespaces and gives both ends addresses, each with the other as its way to
/// everywhere else.
///
/// # Panics
/// When the kernel refuses.
pub fn join_hosts(hosts: [&Path; 2]) {
    let uplink = name(UPLINK);
    let far = must(File::open(hosts[1]));
    let new = NewLink { mtu: Some(UPLINK_MTU), ..NewLink::new(&uplink) };
    let far_end = NewLink { ns: Some(std::os::fd::AsFd::as_fd(&far)), ..new };
    must(route_in(hosts[0]).run(create_veth(&Veth { a: new, b: far_end })));
    for (host, namespace) in (0..).zip(hosts) {
        let mut route = route_in(namespace);
        let up = Change { up: Some(true), ..Change::default() };
        must(route.run(change_link(Which::Name(&name("lo")), &up)));
        must(route.run(change_link(Which::Name(&uplink), &up)));
        give_addresses(&mut route, host, UPLINK);
    }
}

/// Gives an interface of the first or second host the host's addresses and default routes.
///
/// # Panics
/// When the kernel refuses.
pub fn give_addresses(route: &mut RouteSocket, host: u8, interface: &str) {
    let index = must(must(route.link(Which::Name(&name(interface)))).ok_or("no such interface")).index;
    let (own, other) = (HostAddresses::of(host), HostAddresses::of(1 - host));
    for (address, prefix) in own.v4.map(|it| (it, 24)).into_iter().chain(own.v6.map(|it| (it, 64))) {
        must(route.run(add_address(index, must(IpNet::new(address, prefix)))));
    }
    must(route.run(add_default_route(other.v4[0], index)));
    must(route.run(add_default_route(other.v6[0], index)));
}

/// Runs something on a thread in the network namespace with this file.
///
/// # Panics
/// On the thread, when it cannot be entered.
pub fn inside<T: Send + 'static>(
    namespace: PathBuf,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        must(setns(must(File::open(namespace)), CloneFlags::CLONE_NEWNET));
        work()
    })
}
