//! What becomes of links when the switch or its database fail.

use std::time::{Duration, Instant};

use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_network_ovs::ovsdb::{Client, Operation, named, set};
use lifecycle_testkit::laws::Verdict;
use serde_json::json;

use super::fixture::Fixture;

pub(crate) async fn a_switch_that_ended_is_not_up_and_comes_back(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    assert!(fixture.is_up(&identity).await);
    for _ in 0..3 {
        fixture.daemon().kill_switch();
        // The database still says that all is well.
        let error = fixture.backend.verify(&identity).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        let error = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        fixture.daemon().start_switch();
        fixture.comes_up(&identity, Duration::from_secs(5)).await;
    }
    Ok(())
}

pub(crate) async fn nothing_is_left_of_a_link_that_the_switch_did_not_take(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let other = fixture.connect(2, &fixture.nodes.point(), &fixture.nodes.point()).await;
    let ports = fixture.switch_side();
    fixture.daemon().kill_switch();
    let error = fixture.backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(fixture.link(&a).is_none() && fixture.link(&b).is_none());
    assert_eq!(fixture.switch_side(), ports);
    let plugged = other.a.plugged.unwrap();
    let listed = fixture.daemon().vsctl(&["--no-wait", "list-ports", &plugged.bridge]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ports);
    fixture.daemon().start_switch();
    let identity = fixture.connect(1, &a, &b).await;
    fixture.comes_up(&identity, Duration::from_secs(5)).await;
    Ok(())
}

pub(crate) async fn a_database_that_ended_is_followed_again(fixture: &Fixture) -> Verdict {
    let mut identities = Vec::new();
    for number in 0..3 {
        let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
        let request = fixture.request(number, &a, &b);
        let backend = std::sync::Arc::clone(&fixture.backend);
        let connecting = tokio::spawn(async move { backend.connect(&request).await });
        tokio::time::sleep(Duration::from_millis(number * 7)).await;
        fixture.daemon().kill_server();
        tokio::time::sleep(Duration::from_millis(20)).await;
        fixture.daemon().start_server();
        let identity = match connecting.await.unwrap() {
            Ok(identity) => identity,
            // Nothing may be left then, and the same request succeeds now.
            Err(error) => {
                assert!(error.kind().may_pass(), "{error:?}");
                fixture.connect(number, &a, &b).await
            }
        };
        identities.push(identity);
        // Without its database the switch forwards nothing in user space, and each time that it loses it, it waits twice as
        // long, from one second, before it looks for it again.
        for identity in &identities {
            fixture.comes_up(identity, Duration::from_secs(10)).await;
        }
    }
    for identity in &identities {
        fixture.backend.disconnect(identity).await.unwrap();
    }
    fixture.assert_empty_switch();
    Ok(())
}

pub(crate) async fn a_datapath_that_cannot_be_had_is_an_error(fixture: &Fixture) -> Verdict {
    if std::path::Path::new("/sys/module/openvswitch").exists() {
        return Err(lifecycle_testkit::laws::Skip::new("no-openvswitch", "the kernel has this datapath"));
    }
    let backend = fixture.another(fixture.controller, "system").await;
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let error = backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
    assert!(error.chain().contains("`system` datapath"), "{error:?}");
    assert!(fixture.link(&a).is_none() && fixture.link(&b).is_none());
    fixture.assert_empty_switch();
    Ok(())
}

pub(crate) async fn exhausted_tags_are_an_error_that_names_the_way_out(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let port = fixture.switch_side().remove(0);
    let bridge = fixture.daemon().vsctl(&["port-to-br", &port]);
    // The switch need not attach thousands of ports for this.
    fixture.daemon().kill_switch();
    let endpoint = fixture.daemon().database().parse().unwrap();
    let client = Client::start(endpoint, "Open_vSwitch", &[("Bridge", &["name"])], |_| {}).unwrap();
    client.ready(Duration::from_secs(5)).unwrap();
    let mut operations = Vec::new();
    for tag in 1..=4094 {
        let (port, interface) = (format!("p{tag}"), format!("i{tag}"));
        operations.push(Operation::insert("Interface", &interface, json!({ "name": port, "type": "internal" })));
        let row = json!({ "name": port, "tag": tag, "interfaces": named(&interface) });
        operations.push(Operation::insert("Port", &port, row));
    }
    let ports = set((1..=4094).map(|tag| named(&format!("p{tag}"))));
    operations.push(Operation::mutate("Bridge", &[("name", "==", json!(bridge))], &[("ports", "insert", ports)]));
    client.transact("Open_vSwitch", &operations, Duration::from_secs(30)).unwrap();
    let (c, d) = (fixture.nodes.point(), fixture.nodes.point());
    let error = fixture.backend.connect(&fixture.request(2, &c, &d)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    assert!(error.chain().contains("ovs_mode: dedicated"), "{error:?}");
    assert!(fixture.link(&c).is_none() && fixture.link(&d).is_none());
    assert!(fixture.link(&a).is_some(), "{identity:?}");
    Ok(())
}

pub(crate) async fn a_machine_without_a_switch_refuses_links_and_nothing_else(fixture: &Fixture) -> Verdict {
    fixture.daemon().kill_switch();
    fixture.daemon().kill_server();
    std::fs::remove_file(fixture.daemon().path("db")).unwrap();
    let backend = fixture.another(fixture.controller, "netdev").await;
    let reason = backend.capabilities().missing.remove("switch").unwrap();
    assert!(reason.contains("openvswitch-switch"), "{reason}");
    assert!(!fixture.backend.capabilities().pairs.is_empty(), "it may be started later");
    assert_eq!(backend.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    backend.cleanup().await.unwrap();
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let started = Instant::now();
    for _ in 0..5 {
        let error = backend.connect(&fixture.request(1, &a, &b)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.chain().contains("is it running?"), "{error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "one wait in vain is enough");
    assert!(fixture.link(&a).is_none() && fixture.link(&b).is_none());
    Ok(())
}
