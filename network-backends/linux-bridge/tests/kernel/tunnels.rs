//! Links between two hosts: network namespaces with a cable between them, each with a backend of its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, Tunnel};
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, OurName};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::{
    NewLink, RouteSocket, Vxlan, Which, create_bridge, create_vxlan, delete_link, redirect_vxlan,
};
use lifecycle_linux::testing::hosts::{HostAddresses, UPLINK_MTU, inside, join_hosts};
use lifecycle_linux::testing::traffic::{Stream, address, bulk};
use lifecycle_linux::testing::{controller, name};
use lifecycle_linux::wiring::label::{link_bridge_mac, port_mac};
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::{Fixture, host_file, make};

/// Bytes that are sent in one go; pings pass where this does not.
const BULK: usize = 20_000_000;
const PATIENCE: Duration = Duration::from_secs(3);
/// What a tunnel adds to a packet: its own header, UDP's, IP's and the inner Ethernet header.
const OVER_V4: u32 = 50;
const OVER_V6: u32 = 70;

/// The other host, with a backend of the same controller.
struct Far {
    backend: Arc<dyn NetworkBackend>,
    host: FreshNamespace,
}

impl Far {
    async fn join(fixture: &Fixture) -> Result<Self, Skip> {
        if fixture.ground.is_brokered() {
            refused(fixture).await;
            return Err(Skip::new("root", "what a broker's namespaces are joined to leads to no other host"));
        }
        let host = FreshNamespace::new().unwrap();
        join_hosts([&fixture.host_file(), &host_file(&host)]);
        let backend = make(controller(), &host);
        backend.initialize().await.unwrap();
        Ok(Self { backend, host })
    }

    fn route(&self) -> RouteSocket {
        RouteSocket::new(self.host.route.try_clone().unwrap()).unwrap()
    }
}

fn tunnel(fixture: &Fixture, vni: u32, local: IpAddr, remote: IpAddr) -> AttachPoint {
    let tunnel = Tunnel { vni, remote, local: Some(local), port: 4789, source_port: None, parent: None };
    fixture.place("far", AttachKind::Tunnel(tunnel))
}

/// A tunnel for what only a broker reaches would lead nowhere.
async fn refused(fixture: &Fixture) {
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4[0]);
    let request = fixture.request(1, &fixture.point(), &tunnel(fixture, 101, near, there));
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
}

/// Both halves of a link between the hosts, with as much as fits.
struct Halves {
    points: [AttachPoint; 2],
    identities: [LinkIdentity; 2],
}

impl Halves {
    async fn build(fixture: &Fixture, far: &Far, number: u64, [near, there]: [IpAddr; 2], mtu: u32) -> Self {
        let points = [fixture.point(), fixture.point()];
        let vni = 100 + number as u32;
        let tunnels = [tunnel(fixture, vni, near, there), tunnel(fixture, vni, there, near)];
        let attrs = LinkAttrs { mtu, ..LinkAttrs::default() };
        let request = |index: usize| LinkRequest { attrs, ..fixture.request(number, &points[index], &tunnels[index]) };
        let near = fixture.backend.connect(&request(0)).await.unwrap();
        let far = far.backend.connect(&request(1)).await.unwrap();
        Self { points, identities: [near, far] }
    }
}

async fn joined(fixture: &Fixture, addresses: impl Fn(HostAddresses) -> IpAddr, over: u32) -> Verdict {
    let far = Far::join(fixture).await?;
    let addresses = [0, 1].map(|host| addresses(HostAddresses::of(host)));
    let underlay = fixture.backend.overlay().unwrap().underlay().await.unwrap();
    assert_eq!(underlay.mtu, UPLINK_MTU);
    let halves = Halves::build(fixture, &far, 1, addresses, UPLINK_MTU - over).await;
    for (backend, identity) in [&fixture.backend, &far.backend].into_iter().zip(&halves.identities) {
        let report = backend.verify(identity).await.unwrap();
        assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
        assert_eq!(report.b.unwrap().mtu, UPLINK_MTU - over);
    }
    let [a, b] = &halves.points;
    address(fixture, a, 1);
    let there = address(fixture, b, 2);
    assert!(fixture.passes(a, b) && fixture.passes(b, a));
    assert!(bulk(fixture, a, b, there, BULK).unwrap(), "what arrived is not what was sent");
    // What fits is not sent in pieces.
    let counters = inside(fixture.host_file(), || {
        ["snmp", "snmp6"].map(|file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap())
    });
    let [v4, v6] = counters.join().unwrap();
    let created = |text: &str, at: usize| text.split_whitespace().rev().nth(at).map(str::to_owned);
    let ip: Vec<&str> = v4.lines().filter(|line| line.starts_with("Ip:")).collect();
    assert!(ip[0].contains("FragCreates"), "{ip:?}");
    let column = ip[0].split_whitespace().position(|word| word == "FragCreates").unwrap();
    assert_eq!(ip[1].split_whitespace().nth(column), Some("0"), "packets were cut");
    let v6 = v6.lines().find(|line| line.starts_with("Ip6FragCreates")).unwrap();
    assert_eq!(created(v6, 0).as_deref(), Some("0"), "packets were cut");
    for (backend, identity) in [&fixture.backend, &far.backend].into_iter().zip(&halves.identities) {
        backend.disconnect(identity).await.unwrap();
    }
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    Ok(())
}

pub(crate) async fn hosts_are_joined_over_ipv4(fixture: &Fixture) -> Verdict {
    joined(fixture, |host| host.v4[0], OVER_V4).await
}

pub(crate) async fn hosts_are_joined_over_ipv6(fixture: &Fixture) -> Verdict {
    joined(fixture, |host| host.v6[0], OVER_V6).await
}

pub(crate) async fn group_frames_pass(fixture: &Fixture) -> Verdict {
    let far = Far::join(fixture).await?;
    let halves = Halves::build(fixture, &far, 1, [0, 1].map(|host| HostAddresses::of(host).v4[0]), 1450).await;
    let [a, b] = &halves.points;
    // Spanning tree, LACP, 802.1X, LLDP.
    for last in [0, 2, 3, 0x0e] {
        let group = Mac([1, 0x80, 0xc2, 0, 0, last]);
        assert!(fixture.nodes.frame_passes((a, &a.ifname), (b, &b.ifname), Some(group), PATIENCE), "{group}");
    }
    Ok(())
}

pub(crate) async fn what_is_done_by_hand_is_noticed(fixture: &Fixture) -> Verdict {
    let far = Far::join(fixture).await?;
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4);
    let halves = Halves::build(fixture, &far, 1, [near[0], there[0]], 1450).await;
    let [identity, _] = &halves.identities;
    let verify = async || fixture.backend.verify(identity).await.unwrap();
    let device = identity.b.as_ref().unwrap().ifindex;
    let astray = |remote: IpAddr| {
        let vxlan = Vxlan { remote: Some(remote), local: Some(near[0]), ..Vxlan::default() };
        fixture.switch().run(redirect_vxlan(Which::Index(device), &vxlan)).unwrap();
    };
    astray(there[1]);
    let report = verify().await;
    assert!(!report.is_intact() && report.a.intact, "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.contains(&there[1].to_string())), "{report:?}");
    astray(there[0]);
    assert!(verify().await.is_up());

    // A device of the same name and number in its place is not the tunnel.
    let link = fixture.switch().link(Which::Index(device)).unwrap().unwrap();
    fixture.switch().run(delete_link(Which::Index(device))).unwrap();
    assert!(!verify().await.is_intact());
    let called = name(&link.name);
    let new = NewLink { mac: link.mac, master: link.master, up: true, ..NewLink::new(&called) };
    fixture.switch().run(create_vxlan(&new, &link.vxlan.unwrap())).unwrap();
    assert!(!verify().await.is_intact());

    // Nor is it ours to remove, and its number is taken.
    let request = LinkRequest {
        incarnation: 2,
        attrs: LinkAttrs { mtu: 1450, ..LinkAttrs::default() },
        ..fixture.request(1, &halves.points[0], &tunnel(fixture, 101, near[0], there[0]))
    };
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert!(fixture.switch().link(Which::Name(&called)).unwrap().is_some());
    fixture.backend.disconnect(identity).await.unwrap();
    let other = fixture.request(2, &fixture.point(), &tunnel(fixture, 101, near[0], there[0]));
    let error = fixture.backend.connect(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.chain().contains("101"), "{error:?}");
    assert_eq!(fixture.switch_side(), [link.name], "something is left, or what is not ours is gone");
    Ok(())
}

pub(crate) async fn half_a_tunnel_is_found(fixture: &Fixture) -> Verdict {
    let _far = Far::join(fixture).await?;
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4[0]);
    let id = LinkId::from_u64(1);
    let (called, bridge) =
        (OurName::LinkEnd { link: id, side: Side::B }.ifname(), OurName::LinkBridge { link: id }.ifname());
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

pub(crate) async fn a_redirected_tunnel_stays(fixture: &Fixture) -> Verdict {
    let far = Far::join(fixture).await?;
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4);
    let halves = Halves::build(fixture, &far, 1, [near[0], there[0]], 1450).await;
    let [a, b] = &halves.points;
    address(fixture, a, 1);
    let stream = Stream::start(fixture, a, b, address(fixture, b, 2)).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let overlay = fixture.backend.overlay().unwrap();
    let [first, _] = &halves.identities;
    let AttachKind::Tunnel(old) = &first.b.as_ref().unwrap().point.place else { panic!("{first:?}") };
    let other = Tunnel { local: Some(near[1]), remote: there[1], ..old.clone() };
    let second = overlay.redirect(first, &other).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let flow = stream.finish().unwrap();
    assert!(flow.received + 2 >= flow.sent && flow.gap < Duration::from_millis(100), "{flow:?}");

    let mut expected = first.clone();
    expected.b.as_mut().unwrap().point.place = AttachKind::Tunnel(other.clone());
    assert_eq!(second, expected);
    assert_eq!(overlay.redirect(&second, &other).await.unwrap(), second);
    assert!(fixture.backend.verify(&second).await.unwrap().is_up());
    assert!(!fixture.backend.verify(first).await.unwrap().is_intact());
    for (to, kind) in [
        (Tunnel { remote: there[1], local: Some("10.9.9.9".parse().unwrap()), ..old.clone() }, ErrorKind::Failed),
        (Tunnel { vni: 7, ..other.clone() }, ErrorKind::Unsupported),
        (Tunnel { remote: HostAddresses::of(1).v6[0], local: None, ..other.clone() }, ErrorKind::Unsupported),
    ] {
        let error = overlay.redirect(&second, &to).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{to:?}: {error:?}");
        assert!(fixture.backend.verify(&second).await.unwrap().is_up(), "something was changed");
    }
    Ok(())
}

pub(crate) async fn many_come_and_go(fixture: &Fixture) -> Verdict {
    const LINKS: u64 = 100;
    let far = Far::join(fixture).await?;
    let [near, there] = [0, 1].map(|host| HostAddresses::of(host).v4[0]);
    let numbers: Vec<u64> = (0..LINKS).collect();
    let all = join_all(numbers.iter().map(|number| Halves::build(fixture, &far, *number, [near, there], 1450))).await;
    let in_use = async |backend: &Arc<dyn NetworkBackend>| backend.overlay().unwrap().underlay().await.unwrap().vnis;
    let every: BTreeSet<u32> = (100..100 + LINKS as u32).collect();
    assert_eq!([in_use(&fixture.backend).await, in_use(&far.backend).await], [every.clone(), every.clone()]);
    for halves in all.iter().step_by(10) {
        assert!(fixture.passes(&halves.points[0], &halves.points[1]));
    }
    // Every other one goes.
    let (gone, kept): (Vec<_>, Vec<_>) = all.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let gone = gone.iter().map(|(_, halves)| fixture.backend.disconnect(&halves.identities[0]));
    assert!(join_all(gone).await.into_iter().all(|result| result.is_ok()));
    let left: BTreeSet<u32> = kept.iter().map(|(index, _)| 100 + *index as u32).collect();
    assert_eq!(in_use(&fixture.backend).await, left);
    assert_eq!(fixture.switch_side().len(), 3 * kept.len());
    for (_, halves) in kept {
        assert!(fixture.backend.verify(&halves.identities[0]).await.unwrap().is_up());
        fixture.backend.disconnect(&halves.identities[0]).await.unwrap();
    }
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    assert_eq!(in_use(&fixture.backend).await, BTreeSet::new());
    assert_eq!(far.route().links().unwrap().iter().filter(|link| link.vxlan.is_some()).count(), LINKS as usize);
    Ok(())
}
