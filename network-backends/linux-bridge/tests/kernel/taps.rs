//! Taps, whose other end is a virtual machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, PlaceKind};
use lifecycle_core::id::LinkId;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::netlink::add_address;
use lifecycle_linux::testing::open_tap::OpenTap;
use lifecycle_testkit::laws::{Skip, Verdict};
use tokio::time::sleep;

use super::fixture::Fixture;

pub(crate) async fn a_tap_is_the_end_of_a_link(fixture: &Fixture) -> Verdict {
    let (tap, node) = (OurName::Tap { link: LinkId::from_u64(1), side: Side::A }.ifname(), fixture.nodes.point());
    let place = AttachKind::Tap { name: tap.clone(), owner: 0, flags: nix::libc::IFF_NO_PI as u16 };
    let end = fixture.nodes.place("eth1", place);
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
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let index = fixture.link(&node).unwrap().index;
    fixture.route(&node).run(add_address(index, format!("{address}/24").parse().unwrap())).unwrap();
    let machine = OpenTap::open(&fixture.host_file(), &tap);
    for attempt in 0.. {
        let report = fixture.backend.verify(&identity).await.unwrap();
        if report.is_up() {
            break;
        }
        assert!(attempt < 200, "{report:?}");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(machine.is_answered(address, Duration::from_secs(20)));
    drop(machine);
    fixture.backend.disconnect(&identity).await.unwrap();
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    assert!(fixture.nodes.link(&node).is_none());
    Ok(())
}
