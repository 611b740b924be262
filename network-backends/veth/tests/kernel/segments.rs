//! Segments with more than two nodes, by Linux bridges.

use std::time::Duration;

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::name::IfName;
use lifecycle_linux::namespace::{SocketKind, Want};
use lifecycle_linux::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, Link, NewLink, RouteSocket, Veth, Which, change_link, create_bridge, create_veth,
    delete_group, delete_link,
};
use lifecycle_linux::testing::name;
use lifecycle_testkit::laws::Verdict;

use super::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(5);

/// A name that no other test uses: all bridges are in the host's namespace when root runs the tests.
pub(crate) fn unique(fixture: &Fixture, prefix: &str) -> IfName {
    name(&format!("{prefix}{:08x}", fixture.controller.as_u64() & 0xffff_ffff))
}

/// The namespace in which bridges are made.
pub(crate) struct Switchboard(pub(crate) RouteSocket);

impl Switchboard {
    pub(crate) fn new(fixture: &Fixture) -> Self {
        if fixture.ground.is_brokered() {
            return Self(fixture.route_in(&fixture.ground.home().unwrap()));
        }
        Self::of_host(fixture)
    }

    /// The host's own.
    pub(crate) fn of_host(fixture: &Fixture) -> Self {
        let here = std::fs::File::open("/proc/self/ns/net").unwrap().into();
        let want = [Want::Socket(SocketKind::Route)];
        Self(RouteSocket::new(fixture.access.open_inside(here, None, &want).unwrap().remove(0)).unwrap())
    }

    pub(crate) fn link(&mut self, name: &IfName) -> Option<Link> {
        self.0.link(Which::Name(name)).unwrap()
    }
}

/// Takes away what a failed test leaves in the host's namespace.
pub(crate) struct Sweeper(pub(crate) Switchboard, pub(crate) Vec<IfName>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        for name in &self.1 {
            let _ = self.0.0.run(delete_link(Which::Name(name)));
        }
    }
}

fn port(fixture: &Fixture, bridge: &IfName, number: u64) -> AttachPoint {
    let ifname = unique(fixture, &format!("p{number}x"));
    fixture.place(ifname.as_str(), AttachKind::Bridge { bridge: bridge.clone() })
}

pub(crate) async fn three_nodes_share_a_bridge(fixture: &Fixture) -> Verdict {
    let bridge = unique(fixture, "br");
    let mut board = Switchboard::new(fixture);
    let _sweeper = Sweeper(Switchboard::new(fixture), vec![bridge.clone()]);
    let nodes: Vec<AttachPoint> = (0..3).map(|_| fixture.nodes.point()).collect();
    let mut identities = Vec::new();
    for (number, node) in (1..).zip(&nodes) {
        let port = port(fixture, &bridge, number);
        // In either order.
        let (a, b) = if number == 2 { (&port, node) } else { (node, &port) };
        let identity = fixture.connect(number, a, b).await;
        assert_eq!(identity, fixture.connect(number, a, b).await);
        identities.push(identity);
    }
    for identity in &identities {
        let report = fixture.backend.verify(identity).await.unwrap();
        assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.ifname != from.ifname || to.place != from.place) {
            assert!(fixture.frame_passes(from, to, PATIENCE));
        }
    }
    let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
    let links: Vec<_> = found.iter().map(|found| (found.link, found.interfaces.len())).collect();
    assert_eq!(links, identities.iter().map(|identity| (identity.link, 2)).collect::<Vec<_>>());

    // The bridge goes with its last port, and not before.
    for (index, identity) in identities.iter().enumerate() {
        assert!(board.link(&bridge).is_some(), "the bridge went before its ports");
        fixture.backend.cleanup().await.unwrap();
        fixture.backend.disconnect(identity).await.unwrap();
        fixture.backend.disconnect(identity).await.unwrap();
        assert!(fixture.link(&nodes[index]).is_none());
    }
    assert_eq!(board.link(&bridge), None, "the bridge stayed");
    Ok(())
}

pub(crate) async fn a_bridge_of_somebody_else_is_used_and_left(fixture: &Fixture) -> Verdict {
    let (bridge, no_bridge) = (unique(fixture, "fb"), unique(fixture, "nb"));
    let mut board = Switchboard::new(fixture);
    let _sweeper = Sweeper(Switchboard::new(fixture), vec![bridge.clone(), no_bridge.clone()]);
    board.0.run(create_bridge(&NewLink::new(&bridge))).unwrap();
    board.0.run(change_link(Which::Name(&bridge), &Change { up: Some(true), ..Change::default() })).unwrap();
    let before = board.link(&bridge).unwrap();
    let node = fixture.nodes.point();
    let identity = fixture.connect(1, &node, &port(fixture, &bridge, 1)).await;
    assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
    fixture.backend.disconnect(&identity).await.unwrap();
    fixture.backend.cleanup().await.unwrap();
    let after = board.link(&bridge).unwrap();
    assert_eq!((after.index, after.alias, after.group), (before.index, before.alias, before.group));

    // Something that is no bridge cannot be used as one, and nothing is left of the attempt.
    let far = unique(fixture, "nc");
    board.0.run(create_veth(&Veth { a: NewLink::new(&no_bridge), b: NewLink::new(&far) })).unwrap();
    let error = fixture.backend.connect(&fixture.request(2, &node, &port(fixture, &no_bridge, 2))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert!(fixture.link(&node).is_none());
    Ok(())
}

pub(crate) async fn a_port_taken_off_its_bridge_is_noticed(fixture: &Fixture) -> Verdict {
    let bridge = unique(fixture, "br");
    let mut board = Switchboard::new(fixture);
    let _sweeper = Sweeper(Switchboard::new(fixture), vec![bridge.clone()]);
    let (node, port) = (fixture.nodes.point(), port(fixture, &bridge, 1));
    let identity = fixture.connect(1, &node, &port).await;
    board.0.run(change_link(Which::Name(&port.ifname), &Change { master: Some(0), ..Change::default() })).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("bridge")), "{report:?}");
    // Connecting again mends it in place, since the pair itself stands.
    assert_eq!(fixture.connect(1, &node, &port).await, identity);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_up() && report.problems.is_empty(), "{report:?}");

    // With the bridge gone its port is no port any more.
    board.0.run(delete_link(Which::Name(&bridge))).unwrap();
    assert!(!fixture.backend.verify(&identity).await.unwrap().is_intact());
    fixture.backend.disconnect(&identity).await.unwrap();
    assert!(fixture.link(&node).is_none());
    Ok(())
}

pub(crate) async fn link_local_frames_pass(fixture: &Fixture) -> Verdict {
    let bridge = unique(fixture, "br");
    let mut board = Switchboard::new(fixture);
    let _sweeper = Sweeper(Switchboard::new(fixture), vec![bridge.clone()]);
    let (node, port) = (fixture.nodes.point(), port(fixture, &bridge, 1));
    let identity = fixture.connect(1, &node, &port).await;
    let state = board.link(&port.ifname).unwrap().port.unwrap();
    assert_eq!(state.group_fwd_mask, BRIDGE_PORT_FORWARD_ALL);
    fixture.backend.disconnect(&identity).await.unwrap();
    Ok(())
}

pub(crate) async fn a_full_bridge_is_an_error_that_says_so(fixture: &Fixture) -> Verdict {
    /// Ports that a Linux bridge has room for.
    const ROOM: u32 = 1023;
    // What this test alone makes bears a group of its own, so that all of it goes at once.
    let group = 0x7000_0000 | (fixture.controller.as_u64() as u32 & 0xff_ffff);
    let bridge = unique(fixture, "fu");
    let mut board = Switchboard::new(fixture);
    let sweeper = Sweeper(Switchboard::new(fixture), vec![bridge.clone()]);
    board.0.run(create_bridge(&NewLink { up: true, ..NewLink::new(&bridge) })).unwrap();
    let master = board.link(&bridge).unwrap().index;
    let names: Vec<[IfName; 2]> = (0..ROOM)
        .map(|number| {
            ["u", "v"].map(|end| name(&format!("{end}{number:03x}{:08x}", fixture.controller.as_u64() as u32)))
        })
        .collect();
    let pair = |[a, b]: &[IfName; 2]| {
        let new = |name| NewLink { group, ..NewLink::new(name) };
        create_veth(&Veth { a: NewLink { master: Some(master), ..new(a) }, b: new(b) })
    };
    let requests: Vec<_> = names.iter().map(pair).collect();
    let filled = board.0.run_all(&requests).into_iter().all(|result| result.is_ok());
    let (node, port) = (fixture.nodes.point(), port(fixture, &bridge, 1));
    let result = fixture.backend.connect(&fixture.nodes.request(1, &node, &port)).await;
    let left = (fixture.link(&node), board.link(&port.ifname));
    board.0.run(delete_group(group)).unwrap();
    drop(sweeper);
    assert!(filled, "a bridge has less room than was thought");
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    assert!(error.chain().contains("1,023 ports"), "{error:?}");
    assert_eq!(left, (None, None));
    Ok(())
}
