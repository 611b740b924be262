//! What others do to parts of a link by hand.

use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lifecycle_core::ErrorKind;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest, NetworkEvent, ProbeResult, SwitchPort};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, OurName};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, NewLink, PortChange, Veth, Which, change_link, create_bridge, create_veth,
    delete_link, set_port,
};
use lifecycle_linux::testing::Nodes;
use lifecycle_linux::wiring::label::link_bridge_mac;
use lifecycle_testkit::laws::Verdict;
use tokio::time::{sleep, timeout};

use super::fixture::Fixture;

async fn is_up(fixture: &Fixture, identity: &LinkIdentity) -> bool {
    for _ in 0..200 {
        let report = fixture.backend.verify(identity).await.unwrap();
        if report.is_up() && report.problems.is_empty() && report.probe == ProbeResult::Passed {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

fn port_name(side: Side) -> lifecycle_core::name::IfName {
    OurName::LinkEnd { link: LinkId::from_u64(1), side }.ifname()
}

fn bridge_name() -> lifecycle_core::name::IfName {
    OurName::LinkBridge { link: LinkId::from_u64(1) }.ifname()
}

pub(crate) async fn a_veth_made_again_under_its_old_name_is_not_the_link(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let (port, bridge) = (port_name(Side::A), bridge_name());
    let mut switch = fixture.switch();
    let old = switch.link(Which::Name(&port)).unwrap().unwrap();
    let alias = fixture.nodes.link(&a).unwrap().alias.unwrap();
    switch.run(delete_link(Which::Name(&port))).unwrap();
    // The same names, addresses, group, labels, bridge and mask: the best of forgeries.
    let ns = fixture.nodes.access.open_ns(Nodes::ns(&a)).unwrap();
    let new = |name, mac| NewLink { mac: Some(mac), mtu: Some(1500), group: LINK_GROUP, ..NewLink::new(name) };
    let master = switch.link(Which::Name(&bridge)).unwrap().unwrap().index;
    let host = NewLink { master: Some(master), ..new(&port, old.mac.unwrap()) };
    let pair = Veth { a: host, b: NewLink { ns: Some(ns.as_fd()), ..new(&a.ifname, a.mac) } };
    switch.run(create_veth(&pair)).unwrap();
    switch
        .run(set_port(Which::Name(&port), PortChange { group_fwd_mask: Some(BRIDGE_PORT_FORWARD_ALL), learning: None }))
        .unwrap();
    let up = Change { up: Some(true), alias: old.alias.as_deref(), ..Change::default() };
    switch.run(change_link(Which::Name(&port), &up)).unwrap();
    let up = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
    fixture.nodes.route(&a).run(change_link(Which::Name(&a.ifname), &up)).unwrap();
    // By name, master, mask and state, all is well, and here frames even pass: nothing but the identity tells.
    let seen = switch.link(Which::Name(&port)).unwrap().unwrap();
    assert_eq!((seen.master, seen.admin_up, seen.alias), (Some(master), true, old.alias));
    assert!(fixture.frame_passes(&a, &b, Duration::from_secs(3)));
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && !report.problems.is_empty(), "{report:?}");
    let request = LinkRequest { incarnation: 2, ..fixture.nodes.request(1, &a, &b) };
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert!(is_up(fixture, &identity).await);
    Ok(())
}

pub(crate) async fn a_port_off_its_bridge_is_noticed_and_put_right(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    assert!(is_up(fixture, &identity).await);
    let mut news = fixture.backend.watch();
    let port = port_name(Side::B);
    let told = SwitchPort { bridge: bridge_name().to_string(), port: port.to_string(), vlan: None };
    assert_eq!(identity.b.as_ref().and_then(|end| end.plugged.as_ref()), Some(&told));
    fixture.switch().run(change_link(Which::Name(&port), &Change { master: Some(0), ..Change::default() })).unwrap();
    let heard = timeout(Duration::from_secs(5), news.next()).await.unwrap();
    assert_eq!(heard, Some(NetworkEvent::Changed(identity.link)));
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("not a port")), "{report:?}");
    let request = LinkRequest { incarnation: 2, ..fixture.nodes.request(1, &a, &b) };
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert!(is_up(fixture, &identity).await);
    // A mask that holds frames back is noticed as well.
    let narrow = PortChange { group_fwd_mask: Some(0), learning: None };
    fixture.switch().run(set_port(Which::Name(&port), narrow)).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("link-local")), "{report:?}");
    // Connecting again mends it in place.
    assert_eq!(fixture.backend.connect(&request).await.unwrap(), identity);
    assert!(is_up(fixture, &identity).await);
    Ok(())
}

pub(crate) async fn a_deleted_bridge_is_noticed_and_put_right(fixture: &Fixture) -> Verdict {
    let (a, b, c, d) = (fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let other = fixture.connect(2, &c, &d).await;
    fixture.switch().run(delete_link(Which::Name(&bridge_name()))).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("bridge")), "{report:?}");
    let request = LinkRequest { incarnation: 2, ..fixture.nodes.request(1, &a, &b) };
    let again = fixture.backend.connect(&request).await.unwrap();
    assert!(is_up(fixture, &again).await && is_up(fixture, &other).await);
    for identity in [&again, &other] {
        fixture.backend.disconnect(identity).await.unwrap();
    }
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    Ok(())
}

pub(crate) async fn what_is_not_ours_is_left_alone(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let mut switch = fixture.switch();
    // A bridge with a lookalike name.
    let bridge = bridge_name();
    switch.run(create_bridge(&NewLink::new(&bridge))).unwrap();
    let error = fixture.backend.connect(&fixture.nodes.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    fixture.backend.cleanup().await.unwrap();
    assert!(switch.link(Which::Name(&bridge)).unwrap().is_some());
    assert!(fixture.nodes.link(&a).is_none() && fixture.nodes.link(&b).is_none());
    switch.run(delete_link(Which::Name(&bridge))).unwrap();
    // Another controller's is foreign, and it takes ours for foreign.
    let identity = fixture.connect(1, &a, &b).await;
    let other = fixture.another(ControllerId::from_u64(fixture.controller.as_u64() ^ 1 << 50)).await;
    let error = other.connect(&fixture.nodes.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert_eq!(other.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    other.disconnect(&identity).await.unwrap();
    assert!(is_up(fixture, &identity).await);
    // So is an older incarnation of ours that comes late.
    let late = LinkRequest { incarnation: 0, ..fixture.nodes.request(1, &a, &b) };
    let error = fixture.backend.connect(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    Ok(())
}

pub(crate) async fn what_a_dead_controller_left_half_made_is_found(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let bridge = bridge_name();
    let born = || {
        let mac = Some(link_bridge_mac(fixture.controller, LinkId::from_u64(1)));
        fixture.switch().run(create_bridge(&NewLink { mac, group: LINK_GROUP, ..NewLink::new(&bridge) })).unwrap();
    };
    born();
    let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
    assert_eq!(found.iter().map(|found| found.link).collect::<Vec<_>>(), [LinkId::from_u64(1)]);
    fixture.backend.remove(&found[0], &fixture.nodes.namespaces()).await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    // The same link can be built over what is left of it.
    born();
    let identity = fixture.connect(1, &a, &b).await;
    assert!(is_up(fixture, &identity).await);
    // What was marked to be removed, and was not, is still found, and goes with the next start.
    let doomed = Change { group: Some(lifecycle_linux::wiring::doomed::DOOMED_GROUP), ..Change::default() };
    for name in [port_name(Side::A), port_name(Side::B), bridge] {
        fixture.switch().run(change_link(Which::Name(&name), &doomed)).unwrap();
    }
    assert!(!fixture.backend.verify(&identity).await.unwrap().is_intact());
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap().len(), 1);
    fixture.backend.initialize().await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    assert!(fixture.nodes.link(&a).is_none() && fixture.nodes.link(&b).is_none());
    Ok(())
}

pub(crate) async fn nothing_is_said_of_what_was_done_here(fixture: &Fixture) -> Verdict {
    let mut news = fixture.backend.watch();
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    fixture.backend.set_params(&identity, &LinkAttrs { mtu: 1400, ..LinkAttrs::default() }).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    // Carrier may come a moment after everything else, which is news on a busy machine.
    while news.next().now_or_never().is_some() {}
    fixture.backend.disconnect(&identity).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(news.next().now_or_never(), None, "a link that was removed on request is no news");
    Ok(())
}
