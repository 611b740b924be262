//! What hands other than ours do to links.

use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::id::ControllerId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest, NetworkEvent, ProbeResult};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::{LINK_GROUP, MAC_PREFIX, OurName, text_hash};
use lifecycle_linux::ethtool::{Offloads, offloads, set_offloads};
use lifecycle_linux::netlink::{Change, NewLink, Veth, Which, change_link, create_bridge, create_veth, delete_link};
use lifecycle_linux::testing::{Nodes, name};
use lifecycle_linux::wiring::label::link_bridge_mac;
use lifecycle_testkit::laws::Verdict;
use lifecycle_testkit::laws::network::NetworkFixture;
use tokio::time::timeout;

use super::fixture::Fixture;

/// The identity names the switch's own bridge, ports and tag.
fn assert_tells_where_it_is(fixture: &Fixture, identity: &LinkIdentity) {
    for end in identity.ends() {
        let told = end.plugged.as_ref().unwrap();
        assert_eq!(fixture.daemon().vsctl(&["port-to-br", &told.port]), told.bridge);
        let tag = fixture.daemon().vsctl(&["get", "port", &told.port, "tag"]);
        assert_eq!(told.vlan, tag.parse().ok());
    }
    let ports: Vec<_> = identity.ends().filter_map(|end| Some(end.plugged.as_ref()?.port.clone())).collect();
    assert_eq!(ports, fixture.switch_side(), "in the order of the ends");
}

pub(crate) async fn a_changed_tag_is_news_and_is_put_right_in_place(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let mut news = fixture.backend.watch();
    let identity = fixture.connect(1, &a, &b).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    while let Some(event) = news.next().now_or_never().flatten() {
        assert_eq!(event, NetworkEvent::Resync, "what the backend did itself is no news");
    }
    let port = fixture.switch_side().remove(0);
    fixture.daemon().vsctl(&["set", "port", &port, "tag=4000"]);
    let heard = timeout(Duration::from_secs(5), news.next()).await.unwrap();
    assert_eq!(heard, Some(NetworkEvent::Changed(identity.link)));
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("segment")), "{report:?}");
    // Repaired with one transaction, without building anything again: only the tag is another one, and is told.
    let mended = fixture.connect(1, &a, &b).await;
    assert_eq!(mended.detail, identity.detail);
    assert_tells_where_it_is(fixture, &mended);
    assert_ne!(mended.a.plugged, identity.a.plugged, "the old tag is not used again at once");
    fixture.comes_up(&mended, Duration::from_secs(2)).await;
    // Both ports on another tag, which nobody else has: frames pass, and yet it is not what was recorded.
    for port in fixture.switch_side() {
        fixture.daemon().vsctl(&["set", "port", &port, "tag=4001"]);
    }
    let report = fixture.backend.verify(&mended).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("tag 4001 instead")), "{report:?}");
    let mended = fixture.connect(1, &a, &b).await;
    assert_tells_where_it_is(fixture, &mended);
    fixture.comes_up(&mended, Duration::from_secs(2)).await;
    // A third port on the link's segment hears what it should not.
    let tag = fixture.daemon().vsctl(&["get", "port", &port, "tag"]);
    let bridge = fixture.daemon().vsctl(&["port-to-br", &port]);
    fixture.daemon().vsctl(&[
        "add-port",
        &bridge,
        "tapper",
        &format!("tag={tag}"),
        "--",
        "set",
        "interface",
        "tapper",
        "type=internal",
    ]);
    let report = fixture.backend.verify(&mended).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("another port")), "{report:?}");
    let mended = fixture.connect(1, &a, &b).await;
    assert_eq!(mended.detail, identity.detail);
    assert_tells_where_it_is(fixture, &mended);
    assert_ne!(fixture.daemon().vsctl(&["get", "port", &port, "tag"]), tag);
    fixture.comes_up(&mended, Duration::from_secs(2)).await;
    // A bridge that is used by somebody else stays.
    fixture.backend.disconnect(&identity).await.unwrap();
    assert_eq!(fixture.daemon().vsctl(&["list-ports", &bridge]), "tapper");
    Ok(())
}

pub(crate) async fn a_veth_made_again_under_its_old_name_is_not_the_link(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let mut identity = fixture.connect(1, &a, &b).await;
    let port = name(&fixture.switch_side().remove(0));
    let before = fixture.daemon().vsctl(&["get", "port", port.as_str(), "tag"]);
    let mut switch = fixture.daemon().route();
    let old = switch.link(Which::Name(&port)).unwrap().unwrap();
    let alias = fixture.link(&a).unwrap().alias.unwrap();
    switch.run(delete_link(Which::Name(&port))).unwrap();
    // The same names, addresses, group and labels: the best of forgeries.
    let ns = fixture.access.open_ns(Nodes::ns(&a)).unwrap();
    let new = |name, mac| NewLink { mac: Some(mac), mtu: Some(1500), group: LINK_GROUP, ..NewLink::new(name) };
    let pair = Veth { a: new(&port, old.mac.unwrap()), b: NewLink { ns: Some(ns.as_fd()), ..new(&a.ifname, a.mac) } };
    switch.run(create_veth(&pair)).unwrap();
    let host = Change { up: Some(true), alias: old.alias.as_deref(), ..Change::default() };
    switch.run(change_link(Which::Name(&port), &host)).unwrap();
    let node = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
    fixture.route(&a).run(change_link(Which::Name(&a.ifname), &node)).unwrap();
    set_offloads(fixture.route(&a), &a.ifname, Offloads::NONE).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The switch says that all is well, by tag, number and link state.
    assert_eq!(fixture.daemon().vsctl(&["get", "port", port.as_str(), "tag"]), before);
    let state = fixture.daemon().vsctl(&["--bare", "--columns=link_state,error", "list", "interface", port.as_str()]);
    assert_eq!(state, "up");
    let passes = fixture.frame_passes((&a, &a.ifname), (&b, &b.ifname), None, Duration::from_millis(300));
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!passes, "the switch has learned to heal this; then it need not be told apart");
    assert!(!report.is_intact(), "{report:?}");
    let request = LinkRequest { incarnation: 2, ..fixture.request(1, &a, &b) };
    identity = fixture.backend.connect(&request).await.unwrap();
    fixture.comes_up(&identity, Duration::from_secs(5)).await;
    assert_eq!(fixture.backend.verify(&identity).await.unwrap().probe, ProbeResult::Passed);
    Ok(())
}

pub(crate) async fn a_port_of_another_bridge_is_not_the_link(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let port = fixture.switch_side().remove(0);
    let bridge = fixture.daemon().vsctl(&["port-to-br", &port]);
    let tag = fixture.daemon().vsctl(&["get", "port", &port, "tag"]);
    fixture.daemon().vsctl(&["add-br", "other", "--", "set", "bridge", "other", "datapath_type=netdev"]);
    fixture.daemon().vsctl(&["del-port", &bridge, &port]);
    fixture.daemon().vsctl(&["add-port", "other", &port, &format!("tag={tag}")]);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("not on the bridge")), "{report:?}");
    // Such a port bears no mark, so it is not ours to remove.
    let request = LinkRequest { incarnation: 2, ..fixture.request(1, &a, &b) };
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    fixture.daemon().vsctl(&["del-port", "other", &port]);
    let identity = fixture.backend.connect(&request).await.unwrap();
    fixture.comes_up(&identity, Duration::from_secs(5)).await;
    assert_eq!(fixture.daemon().vsctl(&["br-exists", "other"]), "");
    Ok(())
}

pub(crate) async fn an_offload_turned_on_is_noticed_and_put_right(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    assert_eq!(offloads(fixture.route(&b), &b.ifname).unwrap(), Offloads::NONE);
    let some = Offloads { tx_checksum: true, ..Offloads::NONE };
    set_offloads(fixture.route(&b), &b.ifname, some).unwrap();
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(!report.is_intact() && report.problems.iter().any(|text| text.contains("checksums")), "{report:?}");
    assert_eq!(fixture.connect(1, &a, &b).await, identity);
    fixture.comes_up(&identity, Duration::from_secs(2)).await;
    Ok(())
}

pub(crate) async fn what_is_released_is_taken_back_once_no_bridge_has_it(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    fixture.backend.release(&identity).await.unwrap();
    // The kernel does for the ends what it does for those of every other link.
    assert_eq!(offloads(fixture.route(&a), &a.ifname).unwrap(), Offloads::ALL);
    let name = OurName::LinkBridge { link: identity.link }.ifname();
    let mac = Some(link_bridge_mac(fixture.controller, identity.link));
    let port = fixture.switch_side().remove(0);
    let mut switch = fixture.daemon().route();
    switch.run(create_bridge(&NewLink { mac, group: LINK_GROUP, ..NewLink::new(&name) })).unwrap();
    let bridge = switch.link(Which::Name(&name)).unwrap().unwrap();
    let plug = Change { master: Some(bridge.index), ..Change::default() };
    switch.run(change_link(Which::Name(&IfName::new(&port).unwrap()), &plug)).unwrap();
    let refused = fixture.backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
    switch.run(delete_link(Which::Name(&name))).unwrap();
    let again = fixture.connect(1, &a, &b).await;
    assert_eq!(
        (again.a.ifindex, &again.b.as_ref().unwrap().ifindex),
        (identity.a.ifindex, &identity.b.unwrap().ifindex)
    );
    assert_eq!(offloads(fixture.route(&a), &a.ifname).unwrap(), Offloads::NONE);
    fixture.comes_up(&again, Duration::from_secs(5)).await;
    Ok(())
}

pub(crate) async fn what_is_not_ours_is_left_alone(fixture: &Fixture) -> Verdict {
    let (a, b, c) = (fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point());
    // A bridge and a port with names like ours, but no mark.
    fixture.daemon().vsctl(&[
        "add-br",
        "ls000000000000",
        "--",
        "set",
        "bridge",
        "ls000000000000",
        "datapath_type=netdev",
    ]);
    let lookalike = "lc000000000009a";
    fixture.daemon().vsctl(&[
        "add-port",
        "ls000000000000",
        lookalike,
        "tag=1",
        "--",
        "set",
        "interface",
        lookalike,
        "type=internal",
    ]);
    let identity = fixture.connect(1, &a, &b).await;
    // Another controller on the same switch sees nothing of ours and cannot touch it.
    let other = fixture.another(ControllerId::from_u64(fixture.controller.as_u64() ^ 1 << 50), "netdev").await;
    assert_eq!(other.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    other.disconnect(&identity).await.unwrap();
    other.cleanup().await.unwrap();
    let error = other.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert!(fixture.is_up(&identity).await);
    // A link whose port would have the lookalike's name is refused.
    let error = fixture.backend.connect(&fixture.request(9, &c, &fixture.nodes.point())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    assert!(fixture.link(&c).is_none(), "half a link is left");
    // Another link's end is a conflict.
    let error = fixture.backend.connect(&fixture.request(2, &c, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    fixture.backend.disconnect(&identity).await.unwrap();
    fixture.backend.cleanup().await.unwrap();
    assert_eq!(fixture.daemon().vsctl(&["list-br"]), "ls000000000000");
    assert_eq!(fixture.daemon().vsctl(&["list-ports", "ls000000000000"]), lookalike);
    Ok(())
}

pub(crate) async fn what_a_dead_controller_left_half_made_is_found(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let request = fixture.request(1, &a, &b);
    // It died right after the kernel made a pair: marked at birth, without alias, and no row in the database.
    let born = || {
        let port = OurName::LinkEnd { link: request.link, side: Side::A }.ifname();
        let [.., q, r, s, t, u] = text_hash(&format!("{} {port}", fixture.controller)).to_be_bytes();
        let ns = fixture.access.open_ns(Nodes::ns(&a)).unwrap();
        let new = |name, mac| NewLink { mac: Some(mac), group: LINK_GROUP, ..NewLink::new(name) };
        let host = new(&port, Mac([MAC_PREFIX, q, r, s, t, u]));
        let node = NewLink { ns: Some(ns.as_fd()), ..new(&a.ifname, a.mac) };
        fixture.daemon().route().run(create_veth(&Veth { a: host, b: node })).unwrap();
    };
    born();
    let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
    assert_eq!((found.len(), found[0].link, found[0].incarnation), (1, request.link, None), "{found:?}");
    fixture.backend.remove(&found[0], &fixture.nodes.namespaces()).await.unwrap();
    assert!(fixture.link(&a).is_none() && fixture.switch_side().is_empty());
    // The next controller may also just build the link.
    born();
    let identity = fixture.backend.connect(&request).await.unwrap();
    fixture.comes_up(&identity, Duration::from_secs(2)).await;
    // After a reboot the interfaces are gone and the database is not.
    for port in fixture.switch_side() {
        fixture.daemon().route().run(delete_link(Which::Name(&name(&port)))).unwrap();
    }
    let reopened = fixture.reopened();
    reopened.initialize().await.unwrap();
    let found = reopened.observe(&fixture.nodes.namespaces()).await.unwrap();
    assert_eq!((found.len(), found[0].incarnation, found[0].interfaces.len()), (1, Some(1), 0), "{found:?}");
    reopened.remove(&found[0], &fixture.nodes.namespaces()).await.unwrap();
    assert_eq!(reopened.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    fixture.assert_empty_switch();
    Ok(())
}
