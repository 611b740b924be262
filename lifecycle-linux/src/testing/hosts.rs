//! Two hosts for tests of links between hosts: network namespaces with a cable between them.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};

use super::name;
use crate::namespace::{NamespaceAccess, SocketKind, Want};
use crate::netlink::{
    Change, NewLink, RouteSocket, Veth, Which, add_address, add_default_route, change_link, create_veth, delete_address,
};

/// The interface of a host at the cable.
pub const UPLINK: &str = "uplink";
/// Bytes that a packet may have on the cable.
pub const UPLINK_MTU: u32 = 1500;

/// Addresses of a host, two of either family. The first ones are those that its default routes use.
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

    fn nets(&self, which: usize) -> [IpNet; 2] {
        [must(IpNet::new(self.v4[which], 24)), must(IpNet::new(self.v6[which], 64))]
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

/// Puts a cable between two network namespaces.
///
/// # Panics
/// When the kernel refuses.
pub fn lay_cable(hosts: [&Path; 2]) {
    let uplink = name(UPLINK);
    let far = must(File::open(hosts[1]));
    let new = NewLink { mtu: Some(UPLINK_MTU), ..NewLink::new(&uplink) };
    let far_end = NewLink { ns: Some(far.as_fd()), ..new };
    must(route_in(hosts[0]).run(create_veth(&Veth { a: new, b: far_end })));
    for namespace in hosts {
        set_up(&mut route_in(namespace), "lo");
        set_up(&mut route_in(namespace), UPLINK);
    }
}

fn set_up(route: &mut RouteSocket, interface: &str) {
    let up = Change { up: Some(true), ..Change::default() };
    must(route.run(change_link(Which::Name(&name(interface)), &up)));
}

/// Puts a cable between two network namespaces and gives both ends addresses, each with the other as its way to
/// everywhere else.
///
/// # Panics
/// When the kernel refuses.
pub fn join_hosts(hosts: [&Path; 2]) {
    lay_cable(hosts);
    for (host, namespace) in (0..).zip(hosts) {
        for which in [0, 1] {
            give_addresses(&mut route_in(namespace), host, which, UPLINK);
        }
    }
}

/// Sets an interface of the first or second host up, and gives it the host's first or second addresses and default routes.
///
/// # Panics
/// When the kernel refuses.
pub fn give_addresses(route: &mut RouteSocket, host: u8, which: usize, interface: &str) {
    set_up(route, interface);
    let index = index_of(route, interface);
    for net in HostAddresses::of(host).nets(which) {
        must(route.run(add_address(index, net)));
    }
    let other = HostAddresses::of(1 - host);
    must(route.run(add_default_route(other.v4[0], index)));
    must(route.run(add_default_route(other.v6[0], index)));
}

/// Takes them away again.
///
/// # Panics
/// When the kernel refuses.
pub fn take_addresses(route: &mut RouteSocket, host: u8, which: usize, interface: &str) {
    let index = index_of(route, interface);
    for net in HostAddresses::of(host).nets(which) {
        must(route.run(delete_address(index, net)));
    }
}

fn index_of(route: &mut RouteSocket, interface: &str) -> u32 {
    must(must(route.link(Which::Name(&name(interface)))).ok_or("no such interface")).index
}

/// How many packets the host with this network namespace has cut into pieces.
///
/// # Panics
/// When the kernel does not tell.
pub fn cut_packets(namespace: PathBuf) -> u64 {
    let read = || ["snmp", "snmp6"].map(|file| must(std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))));
    let [v4, v6] = must(inside(namespace, read).join());
    let rows: Vec<Vec<&str>> =
        v4.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split_whitespace().collect()).collect();
    let column = rows[0].iter().position(|word| *word == "FragCreates");
    let v4 = must(column.map(|column| rows[1][column]).ok_or("no such counter"));
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6FragCreates"));
    must(v4.parse::<u64>()) + must(must(v6.ok_or("no such counter")).trim().parse::<u64>())
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
