//! Taps, whose other end is a virtual machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::netlink::{Which, add_address, delete_link};
use lifecycle_linux::testing::name;
use lifecycle_linux::testing::open_tap::OpenTap;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::{Fixture, make};

const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// As providers name taps: after the machine, not after the link.
const TAP: &str = "lt0123456789ab";

/// A place for a tap.
fn tap(fixture: &Fixture) -> Result<AttachPoint, Skip> {
    let can = fixture.backend.capabilities();
    if !can.can_connect(PlaceKind::Namespace, PlaceKind::Tap) {
        return Err(Skip::new("tap", can.missing["tap"].clone()));
    }
    let place = AttachKind::Tap { name: name(TAP), owner: 0, flags: nix::libc::IFF_NO_PI as u16 };
    Ok(fixture.place("eth1", place))
}

/// Opens the tap as a virtual machine does.
fn opened(fixture: &Fixture) -> OpenTap {
    OpenTap::open(&fixture.daemon().namespace(), &name(TAP))
}

fn give_address(fixture: &Fixture, node: &AttachPoint) {
    let index = fixture.link(node).unwrap().index;
    fixture.route(node).run(add_address(index, format!("{ADDRESS}/24").parse().unwrap())).unwrap();
}

pub(crate) async fn a_machine_at_a_tap_is_joined(fixture: &Fixture) -> Verdict {
    let (tap, node) = (tap(fixture)?, fixture.point());
    let identity = fixture.connect(1, &tap, &node).await;
    assert_eq!(identity, fixture.connect(1, &tap, &node).await);
    // Nobody has opened it yet, so it is there and has no carrier.
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_intact() && !report.is_up() && report.problems.is_empty(), "{report:?}");
    assert!(report.a.admin_up && !report.a.carrier, "{report:?}");
    let found = fixture.backend.observe(&fixture.namespaces()).await.unwrap();
    assert_eq!((found.len(), found[0].link, found[0].interfaces.len()), (1, identity.link, 2), "{found:?}");

    give_address(fixture, &node);
    for _ in 0..2 {
        // It starts, and ends, and starts again.
        let machine = opened(fixture);
        fixture.comes_up(&identity, PATIENCE).await;
        assert!(machine.is_answered(ADDRESS, PATIENCE));
        drop(machine);
        assert!(!fixture.is_up(&identity).await);
    }

    let machine = opened(fixture);
    fixture.backend.set_carrier(&identity, Side::A, false).await.unwrap();
    assert!(!fixture.link(&node).unwrap().carrier);
    fixture.backend.set_carrier(&identity, Side::A, true).await.unwrap();
    let attrs = LinkAttrs { mtu: 1400, ..LinkAttrs::default() };
    fixture.backend.set_params(&identity, &attrs).await.unwrap();
    assert_eq!(fixture.daemon().route().link(Which::Name(&name(TAP))).unwrap().unwrap().mtu, 1400);
    assert!(machine.is_answered(ADDRESS, PATIENCE));
    fixture.backend.disconnect(&identity).await.unwrap();
    fixture.assert_empty_switch();
    assert!(fixture.link(&node).is_none() && fixture.daemon().route().link(Which::Name(&name(TAP))).unwrap().is_none());
    Ok(())
}

pub(crate) async fn a_tap_that_was_deleted_is_made_again(fixture: &Fixture) -> Verdict {
    let (tap, node) = (tap(fixture)?, fixture.point());
    let identity = fixture.connect(1, &tap, &node).await;
    give_address(fixture, &node);
    let index = fixture.link(&node).unwrap().index;
    fixture.daemon().route().run(delete_link(Which::Name(&name(TAP)))).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact(), "{report:?}");
    let mended = fixture.connect(1, &tap, &node).await;
    assert!(mended != identity && fixture.link(&node).unwrap().index == index, "the node's end was touched");
    let machine = opened(fixture);
    fixture.comes_up(&mended, PATIENCE).await;
    assert!(machine.is_answered(ADDRESS, PATIENCE));

    // What a dead controller left is found and removed, and its tap is not another link's.
    let error = fixture.backend.connect(&fixture.request(2, &tap, &fixture.point())).await.unwrap_err();
    assert!(error.to_string().contains(TAP), "{error}");
    let next = make(&fixture.daemon(), fixture.controller, "netdev");
    next.initialize().await.unwrap();
    for found in next.observe(&fixture.namespaces()).await.unwrap() {
        next.remove(&found, &fixture.namespaces()).await.unwrap();
    }
    fixture.assert_empty_switch();
    assert!(fixture.daemon().route().link(Which::Name(&name(TAP))).unwrap().is_none());
    Ok(())
}

pub(crate) async fn links_of_machines_are_apart(fixture: &Fixture) -> Verdict {
    let (one, node) = (tap(fixture)?, fixture.point());
    let place = AttachKind::Tap { name: name("lt0123456789ac"), owner: 0, flags: nix::libc::IFF_NO_PI as u16 };
    let other = fixture.place("eth2", place);
    // Two links that share nothing: who answers on one is not heard on the other.
    let (first, second) = (fixture.connect(1, &one, &node).await, fixture.connect(2, &other, &fixture.point()).await);
    give_address(fixture, &node);
    let [near, far] = [&one, &other].map(|point| {
        let AttachKind::Tap { name, .. } = &point.place else { unreachable!() };
        OpenTap::open(&fixture.daemon().namespace(), name)
    });
    fixture.comes_up(&first, PATIENCE).await;
    fixture.comes_up(&second, PATIENCE).await;
    assert!(near.is_answered(ADDRESS, PATIENCE) && !far.is_answered(ADDRESS, Duration::from_millis(200)));
    fixture.backend.disconnect(&first).await.unwrap();
    fixture.backend.disconnect(&second).await.unwrap();
    let joined = fixture.connect(3, &one, &other).await;
    drop((near, far));
    let report = fixture.backend.verify(&joined).await.unwrap();
    assert!(report.is_intact() && report.problems.is_empty(), "{report:?}");
    fixture.backend.disconnect(&joined).await.unwrap();
    fixture.assert_empty_switch();
    Ok(())
}

pub(crate) async fn a_parked_tap_stays_with_its_machine(fixture: &Fixture) -> Verdict {
    let (end, old, new) = (tap(fixture)?, fixture.point(), fixture.point());
    let before = fixture.connect(1, &end, &old).await;
    let machine = opened(fixture);
    fixture.comes_up(&before, PATIENCE).await;

    let heir = fixture.request(2, &new, &end).mark(Side::B);
    for _ in 0..2 {
        fixture.backend.park(&before, [Some(heir), None]).await.unwrap();
        assert!(fixture.link(&old).is_none() && !fixture.backend.verify(&before).await.unwrap().is_intact());
        let found = fixture.backend.observe(&fixture.namespaces()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.link).collect::<Vec<_>>(), [heir.link], "{found:?}");
    }
    let now = fixture.connect(2, &new, &end).await;
    assert_eq!(now.b.as_ref().unwrap().ifindex, before.a.ifindex, "the tap was made anew");
    let port = |identity: &LinkIdentity, side| identity.end(side).unwrap().plugged.as_ref().unwrap().port.clone();
    assert_eq!(port(&now, Side::B), port(&before, Side::A), "the port was made anew");
    assert_eq!(now, fixture.connect(2, &new, &end).await);
    give_address(fixture, &new);
    fixture.comes_up(&now, PATIENCE).await;
    assert!(machine.is_answered(ADDRESS, PATIENCE));
    fixture.backend.disconnect(&now).await.unwrap();
    fixture.assert_empty_switch();
    Ok(())
}
