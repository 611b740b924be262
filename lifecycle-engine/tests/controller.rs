//! The controller over plugins in memory: what an embedder sees.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use lifecycle_core::error::{ErrorKind, Result};
use lifecycle_core::id::ControllerId;
use lifecycle_core::machine::{LabState, LinkState, NodeState};
use lifecycle_core::memory::{MemoryHost, MemoryStore};
use lifecycle_core::model::{AuditQuery, Trigger};
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::provider::{ExecRequest, ExitRecord};
use lifecycle_core::plugin::vendor::{DataVendor, KindData};
use lifecycle_core::policy::link::OperReason;
use lifecycle_core::topology::{Endpoint, LinkSpec, Manage, NodeSpec, Topology};
use lifecycle_engine::drive::{Clock, FeedItem, LabSnapshot, SystemClock};
use lifecycle_engine::{CommandError, Controller, NodeAction, Reply, Settings};

const WAIT: Duration = Duration::from_secs(10);

fn plain() -> Arc<dyn VendorConfig> {
    Arc::new(DataVendor::new(vec![KindData::new("linux")]))
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn lab() -> LabName {
    LabName::new("ring").unwrap()
}

/// Nodes in a ring, each with a link to the next.
fn ring(size: usize) -> Topology {
    let mut topology = Topology::new(lab(), "/");
    let node = |i: usize| name(&format!("n{}", i % size));
    topology.nodes = (0..size).map(|i| NodeSpec::new(node(i), "linux")).collect();
    let end = |i: usize, ifname: &str| Endpoint::node(node(i), IfName::new(ifname).unwrap());
    topology.links = (0..size).map(|i| LinkSpec::new(end(i, "eth1"), end(i + 1, "eth2"))).collect();
    topology
}

async fn start(host: &MemoryHost, store: &MemoryStore) -> Result<Controller> {
    let memory = PluginName::new("memory").unwrap();
    let settings = Settings { provider: memory.clone(), backend: memory.clone(), ..Settings::default() };
    Controller::builder("/nonexistent")
        .store(Arc::new(store.clone()))
        .settings(settings)
        .provider(memory.clone(), Arc::new(host.provider()))
        .backend(memory, Arc::new(host.network()))
        .vendor(plain())
        .start()
        .await
}

fn machine() -> (MemoryHost, MemoryStore) {
    let boot = SystemClock::new().unwrap().now().boot.boot;
    (MemoryHost::new().with_boot(boot), MemoryStore::new(ControllerId::from_u64(7)))
}

fn is_up(snapshot: Option<&LabSnapshot>) -> bool {
    snapshot.is_some_and(|it| {
        it.nodes.iter().all(|node| node.actual_state == NodeState::Running && node.is_ready)
            && it.links.iter().all(|link| link.actual_state == LinkState::Up)
    })
}

async fn up(controller: &Controller, size: usize) -> LabSnapshot {
    controller.apply("ann", ring(size)).await.unwrap();
    controller.wait(&lab(), WAIT, is_up).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_lab_comes_up_is_used_and_leaves_nothing() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let snapshot = up(&controller, 5).await;
    assert_eq!(snapshot.lab.state, LabState::Running);
    assert_eq!(host.census(), (5, 10));

    let handle = controller.handle(&lab(), &name("n0")).await.unwrap();
    let exec = handle.provider.exec().unwrap();
    let output = exec.exec(&handle.instance, &ExecRequest::new(["echo", "hello"])).await.unwrap();
    assert_eq!(output.stdout, b"hello\n");

    controller.destroy("ann", lab()).await.unwrap();
    controller.wait(&lab(), WAIT, |lab| lab.is_none()).await.unwrap();
    assert_eq!(host.census(), (0, 0));
    let trail = controller.audit(&AuditQuery::default()).await.unwrap();
    assert!(trail.len() > 20 && trail.iter().zip(1..).all(|(row, seq)| row.seq == seq));
    controller.shutdown().await;
}

#[tokio::test]
async fn applying_again_changes_only_what_differs() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let before = up(&controller, 4).await;
    let mut changed = ring(4);
    changed.nodes.pop();
    changed.links.retain(|link| link.ends().iter().all(|end| end.as_node().unwrap().node != name("n3")));
    let Reply::Applied { plan, .. } = controller.apply("ann", changed).await.unwrap() else { panic!() };
    assert_eq!((plan.remove_nodes.len(), plan.remove_links.len(), plan.add_nodes.len()), (1, 2, 0));
    let after = controller
        .wait(&lab(), WAIT, |lab| lab.is_some_and(|it| it.nodes.len() == 3 && it.links.len() == 2))
        .await
        .unwrap()
        .unwrap();
    for node in after.nodes {
        let old = before.nodes.iter().find(|old| old.id == node.id).unwrap();
        assert_eq!(old.boot_started_at, node.boot_started_at, "{}", node.node_name);
    }
    assert_eq!(host.census(), (3, 4));
    controller.shutdown().await;
}

#[tokio::test]
async fn a_restart_touches_no_other_node_and_keeps_its_links() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let before = up(&controller, 6).await;
    let reply = controller.node("ann", lab(), name("n2"), NodeAction::Restart).await.unwrap();
    assert!(matches!(reply, Reply::Accepted { changed: true, .. }));
    let again = |lab: Option<&LabSnapshot>| {
        let restarted = lab.unwrap().nodes.iter().any(|node| {
            node.node_name == name("n2")
                && node.boot_started_at != before.nodes.iter().find(|old| old.id == node.id).unwrap().boot_started_at
        });
        restarted && is_up(lab)
    };
    let after = controller.wait(&lab(), WAIT, again).await.unwrap().unwrap();
    for (old, new) in before.nodes.iter().zip(&after.nodes) {
        assert_eq!(old.id == new.id && old.generation == new.generation, old.node_name != name("n2"));
    }
    assert_eq!(host.census(), (6, 12));
    controller.shutdown().await;
}

#[tokio::test]
async fn what_breaks_is_noticed_put_right_and_called_drift() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let snapshot = up(&controller, 3).await;

    let link = snapshot.links[0].id;
    let point = controller.read(move |world| world.links.get(&link).unwrap().identity.clone().unwrap().a.point).await;
    let point = point.unwrap();
    assert!(host.delete_interface(&point));
    let rebuilt =
        |lab: Option<&LabSnapshot>| is_up(lab) && lab.unwrap().links[0].verified_at > snapshot.links[0].verified_at;
    controller.wait(&lab(), WAIT, rebuilt).await.unwrap();
    assert!(host.has_interface(&point));

    let node = snapshot.nodes[1].id;
    assert!(host.kill(node, ExitRecord { code: Some(3), signal: None, at: None }));
    let back = |lab: Option<&LabSnapshot>| is_up(lab) && lab.unwrap().nodes[1].enforcement_attempts == 1;
    controller.wait(&lab(), WAIT, back).await.unwrap();

    let drift = controller.audit(&AuditQuery::default()).await.unwrap();
    let drift: Vec<_> = drift.iter().filter(|row| row.trigger == Trigger::Drift).collect();
    assert!(drift.iter().any(|row| row.id == link.to_string()), "{drift:#?}");
    assert!(drift.iter().any(|row| row.id == node.to_string() && row.to.as_deref() == Some("exited")), "{drift:#?}");
    controller.shutdown().await;
}

#[tokio::test]
async fn what_a_node_sets_on_its_interface_is_shown_and_left_alone() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let snapshot = up(&controller, 3).await;
    let link = snapshot.links[0].id;
    let identity =
        controller.read(move |world| world.links.get(&link).unwrap().identity.clone().unwrap()).await.unwrap();
    assert!(host.set_interface(&identity.a.point, false));
    let shown = |lab: Option<&LabSnapshot>| {
        let link = &lab.unwrap().links[0];
        link.actual_state == LinkState::Down
            && link.ends.iter().all(|end| end.oper.reason == Some(OperReason::LocalInterfaceDown))
    };
    controller.wait(&lab(), WAIT, shown).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = controller.read(move |world| world.links.get(&link).unwrap().identity.clone().unwrap()).await.unwrap();
    assert_eq!(after, identity);
    assert!(host.set_interface(&identity.a.point, true));
    controller.wait(&lab(), WAIT, is_up).await.unwrap();
    controller.shutdown().await;
}

#[tokio::test]
async fn what_a_node_sets_on_a_strict_link_is_put_back() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let mut topology = ring(3);
    topology.links[0].manage = Manage::Strict;
    controller.apply("ann", topology).await.unwrap();
    let snapshot = controller.wait(&lab(), WAIT, is_up).await.unwrap().unwrap();
    let link = snapshot.links.iter().find(|link| link.ends[0].node == Some(name("n0"))).unwrap().id;
    let identity =
        controller.read(move |world| world.links.get(&link).unwrap().identity.clone().unwrap()).await.unwrap();
    assert!(host.set_interface(&identity.a.point, false));
    let of_link = || AuditQuery { id: Some(link.to_string()), limit: 100, ..AuditQuery::default() };
    let controller_ref = &controller;
    let drift = async || {
        let rows = controller_ref.audit(&of_link()).await.unwrap();
        rows.into_iter().find(|row| row.trigger == Trigger::Drift)
    };
    let row = loop {
        match drift().await {
            Some(row) => break row,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(row.name, "n0:eth1/n1:eth2", "the trail names a link as its user does");
    assert_eq!(row.reason.as_deref(), Some("n0:eth1 was set down"));
    controller.wait(&lab(), WAIT, is_up).await.unwrap();
    controller.shutdown().await;
}

#[tokio::test]
async fn the_next_controller_adopts_everything() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let before = up(&controller, 3).await;
    controller.shutdown().await;
    // While nobody looked, one node ended.
    host.kill(before.nodes[0].id, ExitRecord { code: None, signal: Some(9), at: None });
    let controller = start(&host, &store).await.unwrap();
    assert_eq!(controller.epoch(), 2);
    let healed = |lab: Option<&LabSnapshot>| is_up(lab) && lab.unwrap().nodes[0].enforcement_attempts == 1;
    let after = controller.wait(&lab(), WAIT, healed).await.unwrap().unwrap();
    for (old, new) in before.nodes.iter().zip(&after.nodes).skip(1) {
        assert_eq!(old.boot_started_at, new.boot_started_at);
    }
    assert_eq!(host.census(), (3, 6));
    controller.shutdown().await;
}

#[tokio::test]
async fn two_controllers_never_both_act() {
    let (host, store) = machine();
    let first = start(&host, &store).await.unwrap();
    up(&first, 3).await;
    let second = start(&host, &store).await.unwrap();
    let error = first.node("ann", lab(), name("n0"), NodeAction::Stop { abort: false }).await.unwrap_err();
    assert!(matches!(error, CommandError::Store { .. }), "{error}");
    first.ended().await;
    second.node("bob", lab(), name("n0"), NodeAction::Stop { abort: false }).await.unwrap();
    second.wait(&lab(), WAIT, |lab| lab.unwrap().nodes[0].actual_state == NodeState::Stopped).await.unwrap();
    second.shutdown().await;
}

#[tokio::test]
async fn the_feed_ends_with_the_state_of_the_server() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let mut feed = controller.follow(0);
    let snapshot = up(&controller, 4).await;
    let mut last = 0;
    let mut states = std::collections::BTreeMap::new();
    while last < snapshot.as_of_seq {
        let Some(FeedItem::Event(event)) = feed.next().await.unwrap() else { panic!("the feed broke off") };
        assert_eq!(event.seq, last + 1);
        last = event.seq;
        if let lifecycle_core::model::EventBody::Node(node) = &event.body {
            states.insert(node.id, (**node).clone());
        }
    }
    for node in snapshot.nodes {
        assert_eq!(states.get(&node.id), Some(&node));
    }
    controller.shutdown().await;
}

#[tokio::test]
async fn bad_topologies_change_nothing_and_name_every_problem() {
    let (host, store) = machine();
    let controller = start(&host, &store).await.unwrap();
    let mut topology = ring(3);
    topology.nodes[0].kind = "toaster".to_owned();
    topology.nodes[1].provider = Some(PluginName::new("docker").unwrap());
    topology.links.push(topology.links[0].clone());
    let error = controller.apply("ann", topology).await.unwrap_err();
    let CommandError::Invalid { problems } = error else { panic!("{error}") };
    assert!(problems.iter().any(|problem| problem.contains("unknown kind `toaster`; known: linux")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("no provider is called `docker`")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("2 links end here")), "{problems:?}");
    assert!(controller.labs().await.unwrap().is_empty());
    assert!(controller.audit(&AuditQuery::default()).await.unwrap().is_empty());
    let missing = controller.handle(&lab(), &name("n0")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    controller.shutdown().await;
}
