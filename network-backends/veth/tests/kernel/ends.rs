//! Ends of links in the namespaces of nodes.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, Mac, PlaceKind};
use lifecycle_core::plugin::network::{LinkRequest, NetworkEvent, ProbeResult};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_core::time::BootId;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::namespace::Want;
use lifecycle_linux::netlink::{Change, NewLink, Veth, Which, change_link, create_veth};
use lifecycle_linux::testing::name;
use lifecycle_testkit::laws::{Skip, Verdict};
use tokio::time::{sleep, timeout};

use super::fixture::{Fixture, make};
use std::os::fd::AsFd;

pub(crate) async fn a_conflict_is_told_from_a_foreign_object(fixture: &Fixture) -> Verdict {
    let (a, b, c) = (fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    // Another link of ours is at the end: that may pass.
    let error = fixture.backend.connect(&fixture.request(2, &c, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.chain().contains(&identity.link.to_string()), "{error:?}");
    // So is an older incarnation that comes late.
    let late = LinkRequest { incarnation: 0, ..fixture.request(1, &a, &b) };
    let error = fixture.backend.connect(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // Another controller's is foreign, and it takes ours for foreign.
    let other = make(lifecycle_core::id::ControllerId::from_u64(fixture.controller.as_u64() ^ 1 << 50));
    other.initialize().await.unwrap();
    let error = other.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert_eq!(other.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    other.disconnect(&identity).await.unwrap();
    assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
    assert!(fixture.link(&c).is_none(), "half a link is left");
    Ok(())
}

pub(crate) async fn what_a_node_does_to_its_own_end_is_told_and_no_more(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let mut node = fixture.route(&a);
    let which = Which::Index(identity.a.ifindex);
    let change = Change {
        up: Some(false),
        mtu: Some(1300),
        mac: Some(Mac([2, 0, 0, 0, 0, 9])),
        alias: Some("uplink"),
        ..Change::default()
    };
    node.run(change_link(which, &change)).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_intact() && !report.is_up(), "{report:?}");
    assert_eq!((report.a.admin_up, report.a.mtu), (false, 1300));
    assert_eq!(report.probe, ProbeResult::NotNeeded);
    assert!(report.problems.iter().any(|problem| problem.contains("02:00:00:00:00:09")), "{report:?}");
    // It is removed all the same.
    fixture.backend.disconnect(&identity).await.unwrap();
    assert!(fixture.link(&a).is_none() && fixture.link(&b).is_none());
    Ok(())
}

/// What is there when the controller dies right after the kernel made a pair: marked, not labelled, not up.
async fn born(fixture: &Fixture, request: &LinkRequest) {
    let ns = |place: &AttachKind| match place {
        AttachKind::Namespace(ns) => fixture.access.open_all(ns, &[Want::Namespace]).unwrap().remove(0),
        other => panic!("{other:?}"),
    };
    let (ns_a, ns_b) = (ns(&request.a.place), ns(&request.b.place));
    let new = |mac| NewLink { mac: Some(mac), mtu: Some(1500), group: LINK_GROUP, ..NewLink::new(&request.a.ifname) };
    let pair = Veth {
        a: NewLink { ns: Some(ns_a.as_fd()), ..new(request.a.mac) },
        b: NewLink { ns: Some(ns_b.as_fd()), ..new(request.b.mac) },
    };
    fixture.route(&request.a).run(create_veth(&pair)).unwrap();
}

pub(crate) async fn a_crash_between_birth_and_label_is_mended(fixture: &Fixture) -> Verdict {
    let mut request = fixture.request(1, &fixture.nodes.point(), &fixture.nodes.point());
    // Addresses as Lifecycle derives them: only by them can such ends be told.
    for (side, point) in [(Side::A, &mut request.a), (Side::B, &mut request.b)] {
        point.mac = lifecycle_core::policy::naming::mac(request.link, 1, side);
    }
    born(fixture, &request).await;
    let before = fixture.link(&request.a).unwrap().index;
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert_eq!(identity.a.ifindex, before, "what stood already was built again");
    assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
    fixture.backend.disconnect(&identity).await.unwrap();

    // When nobody remembers the link, it is still found, and can be collected.
    born(fixture, &request).await;
    let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].interfaces.len(), found[0].incarnation), (2, None));
    fixture.backend.remove(&found[0], &fixture.nodes.namespaces()).await.unwrap();
    assert!(fixture.link(&request.a).is_none() && fixture.link(&request.b).is_none());
    Ok(())
}

pub(crate) async fn both_ends_in_one_namespace(fixture: &Fixture) -> Verdict {
    let a = fixture.nodes.point();
    let mut b = a.clone();
    let error = fixture.backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    b.ifname = name("eth2");
    b.mac = Mac([2, 0, 0, 0, 0, 2]);
    let identity = fixture.connect(1, &a, &b).await;
    assert_eq!(identity, fixture.connect(1, &a, &b).await);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
    fixture.backend.disconnect(&identity).await.unwrap();
    assert!(fixture.link(&a).is_none() && fixture.link(&b).is_none());
    Ok(())
}

pub(crate) async fn a_dummy_leads_nowhere(fixture: &Fixture) -> Verdict {
    let can = fixture.backend.capabilities();
    if !can.can_connect(PlaceKind::Namespace, PlaceKind::Dummy) {
        return Err(Skip::new("dummy", can.missing["dummy"].clone()));
    }
    for (number, swapped) in [(1, false), (2, true)] {
        let (node, nowhere) = (fixture.nodes.point(), fixture.place("eth1", AttachKind::Dummy));
        let (a, b) = if swapped { (&nowhere, &node) } else { (&node, &nowhere) };
        let identity = fixture.connect(number, a, b).await;
        assert_eq!(identity, fixture.connect(number, a, b).await);
        assert_eq!((&identity.a.point, &identity.b), (&node, &None));
        let kind = fixture.link(&node).unwrap().kind.unwrap();
        assert!(kind == "dummy" || identity.detail["stand_in"] == kind, "{identity:?}");
        assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
        let (here, there) = if swapped { (Side::B, Side::A) } else { (Side::A, Side::B) };
        fixture.backend.set_carrier(&identity, here, false).await.unwrap();
        assert!(!fixture.backend.verify(&identity).await.unwrap().is_up());
        let error = fixture.backend.set_carrier(&identity, there, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        fixture.backend.set_params(&identity, &LinkAttrs { mtu: 1400, ..LinkAttrs::default() }).await.unwrap();
        assert_eq!(fixture.backend.verify(&identity).await.unwrap().a.mtu, 1400);
        fixture.backend.disconnect(&identity).await.unwrap();
        fixture.backend.disconnect(&identity).await.unwrap();
        assert!(fixture.link(&node).is_none());
    }
    Ok(())
}

pub(crate) async fn nothing_is_said_of_what_was_done_here(fixture: &Fixture) -> Verdict {
    let mut news = fixture.backend.watch();
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    fixture.backend.set_params(&identity, &LinkAttrs { mtu: 1400, ..LinkAttrs::default() }).await.unwrap();
    fixture.backend.set_carrier(&identity, Side::A, false).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    // The far end lost its carrier, which is news: whoever asked for it wants to know when it came true.
    while news.next().now_or_never().is_some() {}
    fixture.backend.disconnect(&identity).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(news.next().now_or_never(), None, "a link that was removed on request is no news");

    let identity = fixture.connect(2, &a, &b).await;
    fixture
        .route(&b)
        .run(change_link(Which::Name(&b.ifname), &Change { up: Some(false), ..Change::default() }))
        .unwrap();
    let heard = timeout(Duration::from_secs(5), news.next()).await.unwrap();
    assert_eq!(heard, Some(NetworkEvent::Changed(identity.link)));
    Ok(())
}

pub(crate) async fn a_forgotten_namespace_is_not_kept_alive(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let mut news = fixture.backend.watch();
    let identity = fixture.connect(1, &a, &b).await;
    fixture.nodes.take_place(&a);
    // Nothing else is asked of the backend; it must let go by itself.
    let heard = timeout(Duration::from_secs(5), news.next()).await.unwrap();
    assert_eq!(heard, Some(NetworkEvent::Changed(identity.link)));
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && !report.problems.is_empty(), "{report:?}");
    // A point in a namespace that is gone cannot be connected now; with another one it can.
    let error = fixture.backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert!(error.kind().may_pass(), "{error:?}");
    Ok(())
}

pub(crate) async fn another_boot_voids_identities(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let mut identity = fixture.connect(1, &a, &b).await;
    identity.boot = BootId(identity.boot.0 ^ 1);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact(), "{report:?}");
    fixture.backend.disconnect(&identity).await.unwrap();
    assert!(fixture.link(&a).is_some(), "an identity of another boot removed a link of this one");
    Ok(())
}
