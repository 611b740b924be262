//! Links between two hosts: network namespaces with a cable between them, each with a backend of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::LinkRequest;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, OurName};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::{Link, NewLink, Vxlan, Which, create_bridge, create_vxlan, delete_link, redirect_vxlan};
use lifecycle_linux::testing::halves::{Halves, tunnel};
use lifecycle_linux::testing::hosts::{HostAddresses, UPLINK, UPLINK_MTU, cut_packets, inside, join_hosts};
use lifecycle_linux::testing::{controller, name};
use lifecycle_linux::wiring::label::{link_bridge_mac, port_mac};
use lifecycle_testkit::laws::network::tunnels::TunnelFixture;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::{Fixture, Reach, host_file, make};

const PATIENCE: Duration = Duration::from_secs(3);
/// What a tunnel adds to a packet: its own header, UDP's, IP's and the inner Ethernet header.
const OVER_V4: u32 = 50;
const OVER_V6: u32 = 70;
const FITS: u32 = UPLINK_MTU - OVER_V4;

/// The other host.
pub(crate) struct Far {
    backend: Arc<dyn NetworkBackend>,
    _host: FreshNamespace,
}

impl Fixture {
    /// A fixture with another host.
    pub(crate) async fn with_far_host() -> Result<Self, Skip> {
        let fixture = Self::new(Reach::Path)?;
        fixture.join().await;
        Ok(fixture)
    }

    /// Makes another host that this one reaches.
    async fn join(&self) {
        let host = FreshNamespace::new().unwrap();
        join_hosts([&self.host_file(), &host_file(&host)]);
        let backend = make(controller(), &host);
        backend.initialize().await.unwrap();
        assert!(self.far.set(Far { backend, _host: host }).is_ok());
    }

    fn both(&self) -> [&dyn NetworkBackend; 2] {
        [&*self.backend, &*self.far.get().unwrap().backend]
    }

    fn tunnel_device(&self, vni: u32) -> Link {
        let links = self.switch().links().unwrap();
        links.into_iter().find(|link| link.vxlan.is_some_and(|vxlan| vxlan.vni == vni)).unwrap()
    }
}

#[async_trait]
impl TunnelFixture for Fixture {
    fn far_backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::clone(&self.far.get().unwrap().backend)
    }

    fn addresses(&self) -> [IpAddr; 2] {
        addresses()
    }

    fn elsewhere(&self) -> IpAddr {
        HostAddresses::of(1).v4[1]
    }

    async fn tunnels(&self) -> BTreeSet<u32> {
        self.switch().links().unwrap().iter().filter_map(|link| Some(link.vxlan?.vni)).collect()
    }

    async fn make_foreign_tunnel(&self, vni: u32) {
        let vxlan = Vxlan { vni, remote: Some(self.elsewhere()), port: 4789, ..Vxlan::default() };
        self.switch().run(create_vxlan(&NewLink::new(&name("foreign")), &vxlan)).unwrap();
    }

    async fn delete_tunnel(&self, vni: u32) {
        self.switch().run(delete_link(Which::Index(self.tunnel_device(vni).index))).unwrap();
    }

    async fn lead_astray(&self, vni: u32, remote: IpAddr) {
        let device = self.tunnel_device(vni);
        let vxlan = Vxlan { remote: Some(remote), ..device.vxlan.unwrap() };
        self.switch().run(redirect_vxlan(Which::Index(device.index), &vxlan)).unwrap();
    }
}

fn addresses() -> [IpAddr; 2] {
    [0, 1].map(|host| HostAddresses::of(host).v4[0])
}

/// A tunnel from what only a broker reaches would lead nowhere.
pub(crate) async fn only_root_reaches_other_hosts(fixture: &Fixture) -> Verdict {
    let [near, there] = addresses();
    let result =
        fixture.backend.connect(&fixture.request(1, &fixture.point(), &tunnel(fixture, 101, near, there))).await;
    if fixture.ground.is_brokered() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(fixture.switch_side(), Vec::<String>::new());
    } else {
        let report = fixture.backend.verify(&result.unwrap()).await.unwrap();
        let carrier = report.b.as_ref().map(|b| b.carrier);
        assert!(report.is_intact() && carrier == Some(false), "there is no way to the far end: {report:?}");
    }
    Ok(())
}

async fn joined(fixture: &Fixture, addresses: impl Fn(HostAddresses) -> IpAddr, over: u32) -> Verdict {
    fixture.join().await;
    let addresses = [0, 1].map(|host| addresses(HostAddresses::of(host)));
    assert_eq!(fixture.backend.overlay().unwrap().underlay().await.unwrap().mtu, UPLINK_MTU);
    let halves = Halves::build(fixture, fixture.both(), 1, addresses, UPLINK_MTU - over).await;
    halves.carry();
    assert_eq!(cut_packets(fixture.host_file()), 0, "what fits was sent in pieces");
    halves.remove().await;
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
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

pub(crate) async fn nothing_is_lost_when_a_tunnel_is_redirected(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let mut halves = Halves::build(fixture, fixture.both(), 1, addresses(), FITS).await;
    let flow = halves.redirect([0, 1].map(|host| HostAddresses::of(host).v4[1]), || {}).await;
    assert!(flow.received + 2 >= flow.sent && flow.gap < Duration::from_millis(100), "{flow:?}");
    Ok(())
}

pub(crate) async fn a_device_in_place_of_the_tunnel_is_not_the_tunnel(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let [near, there] = addresses();
    let halves = Halves::build(fixture, fixture.both(), 1, [near, there], FITS).await;
    let [identity, _] = &halves.identities;
    let device = identity.b.as_ref().unwrap().ifindex;
    let link = fixture.switch().link(Which::Index(device)).unwrap().unwrap();
    fixture.switch().run(delete_link(Which::Index(device))).unwrap();
    let called = name(&link.name);
    let new = NewLink { mac: link.mac, master: link.master, up: true, ..NewLink::new(&called) };
    fixture.switch().run(create_vxlan(&new, &link.vxlan.unwrap())).unwrap();
    assert!(!fixture.backend.verify(identity).await.unwrap().is_intact());
    // Nor is it ours to remove.
    let request = LinkRequest {
        incarnation: 2,
        attrs: LinkAttrs { mtu: FITS, ..LinkAttrs::default() },
        ..fixture.request(1, &halves.points[0], &tunnel(fixture, 101, near, there))
    };
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    fixture.backend.disconnect(identity).await.unwrap();
    assert_eq!(fixture.switch_side(), [link.name], "something is left, or what is not ours is gone");
    Ok(())
}

pub(crate) async fn half_a_tunnel_is_found(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let [near, there] = addresses();
    let id = LinkId::from_u64(1);
    let called = OurName::LinkEnd { link: id, side: Side::B }.ifname();
    let bridge = OurName::LinkBridge { link: id }.ifname();
    let end = tunnel(fixture, 101, near, there);
    let born = || {
        let mac = Some(link_bridge_mac(fixture.controller, id));
        fixture.switch().run(create_bridge(&NewLink { mac, group: LINK_GROUP, ..NewLink::new(&bridge) })).unwrap();
        let mac = Some(port_mac(fixture.controller, called.as_str()));
        let vxlan = Vxlan { vni: 101, remote: Some(there), local: Some(near), port: 4789, ..Vxlan::default() };
        let new = NewLink { mac, group: LINK_GROUP, ..NewLink::new(&called) };
        fixture.switch().run(create_vxlan(&new, &vxlan)).unwrap();
    };
    born();
    let found = fixture.backend.observe(&fixture.namespaces()).await.unwrap();
    assert_eq!(found.iter().map(|found| (found.link, found.interfaces.len())).collect::<Vec<_>>(), [(id, 2)]);
    fixture.backend.remove(&found[0], &fixture.namespaces()).await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    // The same link can be built over what is left of it.
    born();
    let identity = fixture.backend.connect(&fixture.request(1, &fixture.point(), &end)).await.unwrap();
    assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
    // A link whose node's namespace goes away goes along.
    fixture.take_place(&identity.a.point);
    let end = Instant::now() + PATIENCE;
    while !fixture.switch_side().is_empty() {
        assert!(Instant::now() < end, "{:?}", fixture.switch_side());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub(crate) async fn a_tunnel_goes_out_of_the_interface_and_port_that_it_is_told(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let [near, there] = addresses();
    let mut end = tunnel(fixture, 101, near, there);
    let AttachKind::Tunnel(tunnel) = &mut end.place else { panic!("{end:?}") };
    (tunnel.parent, tunnel.source_port) = (Some(name(UPLINK)), Some(5555));
    let mut request = fixture.request(1, &fixture.point(), &end);
    // The kernel would pass shorter packets without a word.
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.chain().contains("1450") && error.chain().contains("1500"), "{error:?}");
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    request.attrs.mtu = FITS;
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
    let vxlan = fixture.tunnel_device(101).vxlan.unwrap();
    assert_eq!(vxlan.source_ports, (5555, 5556));
    assert_eq!(vxlan.lower, fixture.switch().link(Which::Name(&name(UPLINK))).unwrap().map(|link| link.index));
    Ok(())
}

pub(crate) async fn a_port_that_something_else_uses_is_refused(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let socket = inside(fixture.host_file(), || UdpSocket::bind("0.0.0.0:4789").unwrap()).join().unwrap();
    let [near, there] = addresses();
    let request = fixture.request(1, &fixture.point(), &tunnel(fixture, 101, near, there));
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.chain().contains("4789"), "{error:?}");
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    drop(socket);
    fixture.backend.connect(&request).await.unwrap();
    Ok(())
}

pub(crate) async fn a_rate_holds_for_what_goes_into_a_tunnel(fixture: &Fixture) -> Verdict {
    fixture.join().await;
    let can = fixture.backend.capabilities();
    if !can.rate {
        return Err(Skip::new("tbf", can.missing["rate"].clone()));
    }
    let halves = Halves::build(fixture, fixture.both(), 1, addresses(), FITS).await;
    let [a, b] = &halves.points;
    let passes = |frames: u32| {
        let begun = Instant::now();
        assert!((0..frames).all(|_| fixture.passes(a, b)));
        begun.elapsed()
    };
    // Test frames of 60 bytes: 32 kbit/s pass some 67 of them in a second, besides what may go at once.
    let slow = LinkAttrs { mtu: FITS, rate: Some(32_000), ..LinkAttrs::default() };
    fixture.backend.set_params(&halves.identities[0], &slow).await.unwrap();
    let (with, report) = (passes(100), fixture.backend.verify(&halves.identities[0]).await.unwrap());
    assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
    fixture.backend.set_params(&halves.identities[0], &LinkAttrs { rate: None, ..slow }).await.unwrap();
    let without = passes(100);
    assert!(with > Duration::from_millis(500), "{with:?} with a rate, {without:?} without");
    Ok(())
}
