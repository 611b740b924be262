//! Attributes that links can have.

use std::time::Duration;

use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkRequest, Shaping};
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::netlink::{Which, unshape};
use lifecycle_linux::testing::name;
use lifecycle_testkit::laws::{Skip, Verdict};

use super::fixture::Fixture;

/// What the ports of a link are slowed down to.
fn rates(fixture: &Fixture) -> Vec<Option<u64>> {
    let mut route = fixture.daemon().route();
    let ports = fixture.switch_side();
    let index = |port: &String, route: &mut lifecycle_linux::netlink::RouteSocket| {
        route.link(Which::Name(&name(port))).unwrap().unwrap().index
    };
    let ports: Vec<u32> = ports.iter().map(|port| index(port, &mut route)).collect();
    ports.into_iter().map(|index| route.shaping(index).unwrap().unwrap().rate).collect()
}

/// The switch takes away whatever it did not put on a port itself, each time that it is configured, unless it is told not to.
pub(crate) async fn a_rate_stays_whatever_the_switch_does(fixture: &Fixture) -> Verdict {
    let can = fixture.backend.capabilities();
    if !can.rate {
        return Err(Skip::new("tbf", can.missing["rate"].clone()));
    }
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let attrs = LinkAttrs { mtu: 1500, rate: Some(20_000_000), ..LinkAttrs::default() };
    let request = LinkRequest { attrs, ..fixture.request(1, &a, &b) };
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert_eq!(rates(fixture), [attrs.rate; 2]);
    fixture.daemon().vsctl(&["add-br", "other", "--", "set", "bridge", "other", "datapath_type=netdev"]);
    fixture.daemon().kill_switch();
    fixture.daemon().start_switch();
    fixture.daemon().vsctl(&["del-br", "other"]);
    fixture.daemon().await_switch();
    assert_eq!(rates(fixture), [attrs.rate; 2], "it is still there");
    fixture.comes_up(&identity, Duration::from_secs(5)).await;
    // What a hand takes away is read back, and mended in place.
    let port = name(&fixture.switch_side()[0]);
    let index = fixture.daemon().route().link(Which::Name(&port)).unwrap().unwrap().index;
    fixture.daemon().route().run(unshape(index)).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert_eq!(report.a.shaping, Some(Shaping::default()), "{report:?}");
    assert_eq!(fixture.backend.connect(&request).await.unwrap(), identity);
    assert_eq!(rates(fixture), [attrs.rate; 2]);
    // It changes in place, and goes.
    for rate in [Some(1_000_000), None] {
        fixture.backend.set_params(&identity, &LinkAttrs { rate, ..attrs }).await.unwrap();
        assert_eq!(rates(fixture), [rate; 2]);
    }
    fixture.backend.disconnect(&identity).await.unwrap();
    fixture.assert_empty_switch();
    assert_eq!(fixture.daemon().vsctl(&["list", "qos"]), "", "rows are left");
    Ok(())
}
