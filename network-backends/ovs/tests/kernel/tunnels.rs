//! Links between two hosts: network namespaces with a cable between them, each with a switch and a backend of its own.
//!
//! A switch in user space sends tunnels out of its own bridges only. So each host has one that the cable is plugged into
//! and that has the host's addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::LinkRequest;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::ethtool::{Offloads, set_offloads};
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::{NewLink, Vxlan, create_vxlan};
use lifecycle_linux::testing::halves::{Halves, tunnel};
use lifecycle_linux::testing::hosts::{
    HostAddresses, UPLINK, UPLINK_MTU, give_addresses, lay_cable, route_in, take_addresses,
};
use lifecycle_linux::testing::open_vswitch::{OUTSIDE, OpenVswitch};
use lifecycle_linux::testing::traffic::{address, bulk};
use lifecycle_linux::testing::{Nodes, controller, name};
use lifecycle_network_ovs::OvsBackend;
use lifecycle_testkit::laws::network::tunnels::TunnelFixture;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::{Fixture, Mode, make};

/// What a tunnel adds to a packet: its own header, UDP's, IP's and the inner Ethernet header.
const OVER_V4: u32 = 50;
const OVER_V6: u32 = 70;
const FITS: u32 = UPLINK_MTU - OVER_V4;
/// The other host.
pub(crate) struct Far {
    backend: Arc<OvsBackend>,
    daemon: Mutex<OpenVswitch>,
}

impl Fixture {
    /// A fixture with another host.
    pub(crate) async fn with_far_host() -> Result<Self, Skip> {
        let fixture = Self::new(Mode::Shared)?;
        fixture.join().await;
        Ok(fixture)
    }

    /// Makes another host that this one reaches.
    async fn join(&self) {
        let daemon = OpenVswitch::start();
        lay_cable([&self.daemon().namespace(), &daemon.namespace()]);
        self.daemon().plug_in(0);
        daemon.plug_in(1);
        let backend = make(&daemon, controller(), "netdev");
        backend.initialize().await.unwrap();
        assert!(self.far.set(Far { backend, daemon: Mutex::new(daemon) }).is_ok());
    }

    fn far(&self) -> MutexGuard<'_, OpenVswitch> {
        self.far.get().unwrap().daemon.lock().unwrap()
    }

    fn both(&self) -> [&dyn NetworkBackend; 2] {
        [&*self.backend, &*self.far.get().unwrap().backend]
    }

    /// The name of the interface with an identifier.
    fn tunnel_port(&self, vni: u32) -> String {
        let key = format!("options:key={vni}");
        self.daemon().vsctl(&["--no-wait", "--bare", "--columns=name", "find", "interface", "type=vxlan", &key])
    }
}

#[async_trait]
impl TunnelFixture for Fixture {
    fn far_backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.far.get().unwrap().backend) as _
    }

    fn addresses(&self) -> [IpAddr; 2] {
        addresses()
    }

    fn elsewhere(&self) -> IpAddr {
        HostAddresses::of(1).v4[1]
    }

    async fn tunnels(&self) -> BTreeSet<u32> {
        let find = ["--no-wait", "--bare", "--columns=options", "find", "interface", "type=vxlan"];
        let text = self.daemon().vsctl(&find);
        text.split_whitespace().filter_map(|word| word.strip_prefix("key=")?.parse().ok()).collect()
    }

    async fn make_foreign_tunnel(&self, vni: u32) {
        let (key, remote) = (format!("options:key={vni}"), format!("options:remote_ip={}", self.elsewhere()));
        let words = ["add-port", OUTSIDE, "foreign", "--", "set", "interface", "foreign", "type=vxlan", &key, &remote];
        self.daemon().vsctl(&words);
    }

    async fn delete_tunnel(&self, vni: u32) {
        let port = self.tunnel_port(vni);
        self.daemon().vsctl(&["del-port", &port]);
    }

    async fn lead_astray(&self, vni: u32, remote: IpAddr) {
        let port = self.tunnel_port(vni);
        self.daemon().vsctl(&["set", "interface", &port, &format!("options:remote_ip={remote}")]);
    }
}

fn addresses() -> [IpAddr; 2] {
    [0, 1].map(|host| HostAddresses::of(host).v4[0])
}

fn assert_only_the_outside_is_left(daemon: &OpenVswitch) {
    assert_eq!(daemon.vsctl(&["--no-wait", "list-br"]), OUTSIDE);
    assert_eq!(daemon.vsctl(&["--no-wait", "list-ports", OUTSIDE]), UPLINK);
}

async fn joined(fixture: &Fixture, addresses: impl Fn(HostAddresses) -> IpAddr, over: u32) -> Verdict {
    fixture.join().await;
    let addresses = [0, 1].map(|host| addresses(HostAddresses::of(host)));
    let underlay = fixture.backend.overlay().unwrap().underlay().await.unwrap();
    assert_eq!((underlay.address, underlay.mtu), (Some(HostAddresses::of(0).v4[0]), UPLINK_MTU));
    let halves = Halves::build(fixture, fixture.both(), 1, addresses, UPLINK_MTU - over).await;
    halves.carry();
    halves.remove().await;
    assert_only_the_outside_is_left(&fixture.daemon());
    assert_only_the_outside_is_left(&fixture.far());
    Ok(())
}

pub(crate) async fn hosts_are_joined_over_ipv4(fixture: &Fixture) -> Verdict {
    joined(fixture, |host| host.v4[0], OVER_V4).await
}

pub(crate) async fn hosts_are_joined_over_ipv6(fixture: &Fixture) -> Verdict {
    joined(fixture, |host| host.v6[0], OVER_V6).await
}

pub(crate) async fn link_local_frames_pass_between_hosts(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    Halves::build(fixture, fixture.both(), 1, addresses(), FITS).await.carry_link_local_frames();
    Ok(())
}

pub(crate) async fn little_is_lost_when_a_tunnel_is_redirected(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let mut halves = Halves::build(fixture, fixture.both(), 1, addresses(), FITS).await;
    // The far host has another address now, and one is all that a switch in user space sends from.
    let readdress = || {
        let mut route = route_in(&fixture.far().namespace());
        take_addresses(&mut route, 1, 0, OUTSIDE);
        give_addresses(&mut route, 1, 1, OUTSIDE);
    };
    let (near, there) = (HostAddresses::of(0), HostAddresses::of(1));
    let flow = halves.redirect([near.v4[0], there.v4[1]], readdress).await;
    assert!(flow.gap < Duration::from_millis(1500), "{flow:?}");
    Ok(())
}

/// A tunnel that would carry nothing is not built.
pub(crate) async fn a_way_out_past_the_switch_is_refused_by_name(fixture: &Fixture) -> Verdict {
    let daemon = OpenVswitch::start();
    lay_cable([&fixture.daemon().namespace(), &daemon.namespace()]);
    give_addresses(&mut route_in(&fixture.daemon().namespace()), 0, 0, UPLINK);
    let [near, there] = addresses();
    let request = fixture.request(1, &fixture.point(), &tunnel(fixture, 101, near, there));
    let errors = [
        fixture.backend.overlay().unwrap().underlay().await.unwrap_err(),
        fixture.backend.connect(&request).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.chain().contains(UPLINK) && error.chain().contains("datapath_type=netdev"), "{error:?}");
    }
    fixture.assert_empty_switch();
    Ok(())
}

/// The far end takes nothing that comes from another address than it was told.
pub(crate) async fn an_address_that_the_switch_does_not_send_from_is_refused_by_name(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    give_addresses(&mut route_in(&fixture.daemon().namespace()), 0, 1, OUTSIDE);
    let ([first, second], there) = (HostAddresses::of(0).v4, HostAddresses::of(1).v4[0]);
    let request = fixture.request(1, &fixture.point(), &tunnel(fixture, 101, second, there));
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.chain().contains(&format!("from {first} and not from {second}")), "{error:?}");
    Ok(())
}

/// Whatever speaks VXLAN can be the other half, as a Linux host with a device of its own.
pub(crate) async fn a_device_of_linux_is_the_other_half(fixture: &Fixture) -> Verdict {
    let host = FreshNamespace::new().unwrap();
    let file = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), host.ns.as_raw_fd()));
    lay_cable([&fixture.daemon().namespace(), &file]);
    fixture.daemon().plug_in(0);
    let mut route = route_in(&file);
    give_addresses(&mut route, 1, 0, UPLINK);
    // What a virtual cable leaves to the other end, no real one would.
    set_offloads(&route, &name(UPLINK), Offloads::NONE).unwrap();
    let [near, there] = addresses();
    let (a, b) = (fixture.point(), fixture.point());
    let attrs = LinkAttrs { mtu: FITS, ..LinkAttrs::default() };
    let request = LinkRequest { attrs, ..fixture.request(1, &a, &tunnel(fixture, 101, near, there)) };
    let identity = fixture.backend.connect(&request).await.unwrap();
    let ns = fixture.access.open_ns(Nodes::ns(&b)).unwrap();
    let vxlan = Vxlan { vni: 101, remote: Some(near), local: Some(there), port: 4789, ..Vxlan::default() };
    let new = NewLink { mtu: Some(FITS), ns: Some(ns.as_fd()), up: true, ..NewLink::new(&b.ifname) };
    route.run(create_vxlan(&new, &vxlan)).unwrap();
    address(fixture, &a, 1);
    let there = address(fixture, &b, 2);
    assert!(bulk(fixture, &a, &b, there, 20_000_000).unwrap(), "what arrived is not what was sent");
    assert!(fixture.is_up(&identity).await);
    Ok(())
}
