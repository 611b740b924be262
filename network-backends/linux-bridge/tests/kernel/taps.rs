//! Taps, whose other end is a virtual machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::netlink::add_address;
use lifecycle_linux::testing::open_tap::OpenTap;
use lifecycle_testkit::laws::{Skip, Verdict};
use tokio::time::sleep;

use super::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A tap, with its place.
fn tap(fixture: &Fixture) -> (IfName, AttachPoint) {
    let tap = OurName::Tap { link: LinkId::from_u64(1), side: Side::A }.ifname();
    let place = AttachKind::Tap { name: tap.clone(), owner: 0, flags: nix::libc::IFF_NO_PI as u16 };
    (tap, fixture.nodes.place("eth1", place))
}

fn give_address(fixture: &Fixture, node: &AttachPoint) {
    let index = fixture.link(node).unwrap().index;
    fixture.route(node).run(add_address(index, format!("{ADDRESS}/24").parse().unwrap())).unwrap();
}

async fn comes_up(fixture: &Fixture, identity: &LinkIdentity) {
    for attempt in 0.. {
        let report = fixture.backend.verify(identity).await.unwrap();
        if report.is_up() {
            break;
        }
        assert!(attempt < 200, "{report:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn a_tap_is_the_end_of_a_link(fixture: &Fixture) -> Verdict {
    let ((tap, end), node) = (tap(fixture), fixture.nodes.point());
    let can = fixture.backend.capabilities();
    if !can.can_connect(PlaceKind::Namespace, PlaceKind::Tap) {
        let error = fixture.backend.connect(&fixture.nodes.request(1, &end, &node)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        return Err(Skip::new("tap", can.missing["tap"].clone()));
    }
    if fixture.nodes.ground.is_brokered() {
        let error = fixture.backend.connect(&fixture.nodes.request(1, &end, &node)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        return Ok(());
    }
    let identity = fixture.connect(1, &end, &node).await;
    assert_eq!(identity, fixture.connect(1, &end, &node).await);
    // Nobody has opened it yet, so it is there and has no carrier.
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_intact() && !report.is_up() && report.a.admin_up && !report.a.carrier, "{report:?}");
    let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
    assert_eq!((found.len(), found[0].link, found[0].interfaces.len()), (1, identity.link, 3), "{found:?}");
    give_address(fixture, &node);
    let machine = OpenTap::open(&fixture.host_file(), &tap);
    comes_up(fixture, &identity).await;
    assert!(machine.is_answered(ADDRESS, PATIENCE));
    drop(machine);
    fixture.backend.disconnect(&identity).await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    assert!(fixture.nodes.link(&node).is_none());
    Ok(())
}

pub(crate) async fn a_parked_tap_stays_with_its_machine(fixture: &Fixture) -> Verdict {
    let can = fixture.backend.capabilities();
    if !can.can_connect(PlaceKind::Namespace, PlaceKind::Tap) {
        return Err(Skip::new("tap", can.missing["tap"].clone()));
    }
    if fixture.nodes.ground.is_brokered() {
        return Err(Skip::new("root", "users cannot make taps in the namespace of their broker"));
    }
    let ((tap, end), old, new) = (tap(fixture), fixture.nodes.point(), fixture.nodes.point());
    let before = fixture.connect(1, &end, &old).await;
    let machine = OpenTap::open(&fixture.host_file(), &tap);
    comes_up(fixture, &before).await;

    let heir = fixture.nodes.request(2, &new, &end).mark(Side::B);
    for _ in 0..2 {
        fixture.backend.park(&before, [Some(heir), None]).await.unwrap();
        assert!(fixture.nodes.link(&old).is_none() && !fixture.backend.verify(&before).await.unwrap().is_intact());
        let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.link).collect::<Vec<_>>(), [heir.link], "{found:?}");
    }
    let now = fixture.connect(2, &new, &end).await;
    assert_eq!(now.b.as_ref().unwrap().ifindex, before.a.ifindex, "the tap was made anew");
    give_address(fixture, &new);
    comes_up(fixture, &now).await;
    assert!(machine.is_answered(ADDRESS, PATIENCE));
    fixture.backend.disconnect(&now).await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    Ok(())
}
