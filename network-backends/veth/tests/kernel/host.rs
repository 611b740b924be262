//! Ends on the host itself.

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::AttachKind;
use lifecycle_core::topology::{LinkAttrs, MacvlanMode};
use lifecycle_linux::netlink::{Change, NewLink, Veth, Which, change_link, create_veth};
use lifecycle_testkit::laws::Verdict;

use super::fixture::Fixture;
use super::segments::{Sweeper, Switchboard, unique};

pub(crate) async fn an_end_on_the_host(fixture: &Fixture) -> Verdict {
    let ifname = unique(fixture, "he");
    let (node, host) = (fixture.nodes.point(), fixture.place(ifname.as_str(), AttachKind::HostNet));
    if fixture.needs_host().is_err() {
        let error = fixture.backend.connect(&fixture.request(1, &node, &host)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.chain().contains("only root"), "{error:?}");
        assert!(fixture.link(&node).is_none());
        return fixture.needs_host();
    }
    if fixture.ground.is_brokered() {
        // Root who reaches nodes through a broker has the host's namespace as well, which is not the broker's.
        let identity = fixture.connect(1, &node, &host).await;
        assert!(fixture.backend.verify(&identity).await.unwrap().is_up());
        return fixture.backend.disconnect(&identity).await.map_err(|error| panic!("{error:?}"));
    }
    let mut board = Switchboard::of_host(fixture);
    let _sweeper = Sweeper(Switchboard::of_host(fixture), vec![ifname.clone()]);
    let identity = fixture.connect(1, &node, &host).await;
    assert_eq!(identity, fixture.connect(1, &node, &host).await);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
    let found = fixture.backend.observe(&[]).await.unwrap();
    assert_eq!(
        found.iter().map(|found| (found.link, found.interfaces.len())).collect::<Vec<_>>(),
        [(identity.link, 1)]
    );
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap()[0].interfaces.len(), 2);
    // When the node's namespace goes, so does the end on the host.
    fixture.nodes.take_place(&node);
    for _ in 0..500 {
        if board.link(&ifname).is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(board.link(&ifname), None);
    Ok(())
}

pub(crate) async fn a_macvlan_on_the_host(fixture: &Fixture) -> Verdict {
    let parent = unique(fixture, "mp");
    let place = AttachKind::Macvlan { parent: parent.clone(), mode: MacvlanMode::Bridge };
    let (node, outside) = (fixture.nodes.point(), fixture.place(parent.as_str(), place));
    let request = fixture.request(1, &node, &outside);
    if fixture.needs_host().is_err() {
        let error = fixture.backend.connect(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        return fixture.needs_host();
    }
    let error = fixture.backend.connect(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let mut board = Switchboard::of_host(fixture);
    let _sweeper = Sweeper(Switchboard::of_host(fixture), vec![parent.clone()]);
    let far = unique(fixture, "mq");
    let new = NewLink { mtu: Some(1400), ..NewLink::new(&parent) };
    board.0.run(create_veth(&Veth { a: new, b: NewLink::new(&far) })).unwrap();
    for name in [&parent, &far] {
        board.0.run(change_link(Which::Name(name), &Change { up: Some(true), ..Change::default() })).unwrap();
    }
    let identity = fixture.backend.connect(&request).await.unwrap();
    assert_eq!(identity, fixture.backend.connect(&request).await.unwrap());
    assert_eq!(identity.b, None);
    let report = fixture.backend.verify(&identity).await.unwrap();
    assert!(report.is_up(), "{report:?}");
    assert_eq!(report.a.mtu, 1400, "a child's frames are no larger than its parent's");
    let attrs = LinkAttrs { mtu: 9000, ..LinkAttrs::default() };
    fixture.backend.set_params(&identity, &attrs).await.unwrap();
    assert_eq!(fixture.backend.verify(&identity).await.unwrap().a.mtu, 1400);
    fixture.backend.disconnect(&identity).await.unwrap();
    assert!(fixture.link(&node).is_none());
    Ok(())
}
