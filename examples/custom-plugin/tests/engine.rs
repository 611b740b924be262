//! The plugins inside of an engine: two nodes talk, one is killed and comes back, and in the end nothing is left.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_core::Registry;
use lifecycle_core::id::ControllerId;
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_core::topology::{Endpoint, LinkSpec, NodeSpec, Topology};
use lifecycle_engine::drive::LabSnapshot;
use lifecycle_engine::{Controller, Settings};
use lifecycle_example_custom_plugin::helper_main;
use lifecycle_testkit::laws::{Suite, Verdict};

const WAIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    helper_main();
    Suite::new().law("nodes_talk_are_kept_running_and_leave_nothing", nodes_talk).run()
}

fn lab() -> LabName {
    LabName::new("talk").unwrap()
}

fn node(name: &str, script: &str) -> NodeSpec {
    let mut spec = NodeSpec::new(NodeName::new(name).unwrap(), "script");
    spec.cmd = Some(["sh", "-c", script].map(str::to_owned).into());
    spec
}

fn topology() -> Topology {
    let mut topology = Topology::new(lab(), "/");
    topology.nodes = vec![
        node("talker", "while true; do echo $NODE of $LAB > ports/eth1/peer/rx; sleep 0.05; done"),
        node("listener", "while true; do cat ports/eth1/rx; done"),
    ];
    let end = |name: &str| Endpoint::node(NodeName::new(name).unwrap(), IfName::new("eth1").unwrap());
    topology.links = vec![LinkSpec::new(end("talker"), end("listener"))];
    topology
}

async fn controller(directory: &Path, store: &MemoryStore) -> Controller {
    let name = |text| PluginName::new(text).unwrap();
    let policy = EnforcementPolicy { base: Duration::from_millis(50), ..EnforcementPolicy::default() };
    let settings =
        Settings { provider: name("process"), backend: name("cable"), enforcement: policy, ..Settings::default() };
    Controller::builder(directory)
        .registry(Registry::discover().unwrap())
        .store(Arc::new(store.clone()))
        .settings(settings)
        .start()
        .await
        .unwrap()
}

fn is_up(lab: Option<&LabSnapshot>) -> bool {
    lab.is_some_and(|lab| {
        lab.nodes.iter().all(|node| node.actual_state == NodeState::Running)
            && lab.links.iter().all(|link| link.actual_state == LinkState::Up)
    })
}

/// The processes that run in a directory.
fn processes(directory: &Path) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let inside = all.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)));
    inside.map(|process| process.file_name().unwrap().to_string_lossy().parse().unwrap()).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

async fn nodes_talk() -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let store = MemoryStore::new(ControllerId::from_u64(7));
    let first = controller(directory.path(), &store).await;
    first.apply("ann", topology()).await.unwrap();
    let before = first.wait(&lab(), WAIT, is_up).await.unwrap().unwrap();
    let dir = |name: &str| -> PathBuf {
        let node = before.nodes.iter().find(|node| node.node_name.as_str() == name).unwrap();
        directory.path().join("run/process").join(node.id.to_string())
    };
    let heard = || fs::read_to_string(dir("listener").join("log")).unwrap().lines().count();
    until("the listener hears the talker", || heard() > 3).await;

    // Another controller takes over: the nodes never noticed.
    let pids = processes(directory.path());
    first.shutdown().await;
    let second = controller(directory.path(), &store).await;
    second.wait(&lab(), WAIT, is_up).await.unwrap();
    assert!(pids.iter().filter(|pid| processes(directory.path()).contains(pid)).count() >= 2, "a node was restarted");

    // A process is killed behind everybody's back: it is noticed, started again, and heard again.
    let talker = fs::read_to_string(dir("talker").join("process")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&talker).unwrap()["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let healed =
        |lab: Option<&LabSnapshot>| is_up(lab) && lab.unwrap().nodes.iter().any(|node| node.enforcement_attempts == 1);
    second.wait(&lab(), WAIT, healed).await.unwrap();
    let so_far = heard();
    until("the listener hears the talker again", || heard() > so_far + 3).await;

    second.destroy("ann", lab()).await.unwrap();
    second.wait(&lab(), WAIT, |lab| lab.is_none()).await.unwrap();
    second.shutdown().await;
    assert_eq!(processes(directory.path()), Vec::<i32>::new());
    let left: Vec<_> = fs::read_dir(directory.path().join("run/process")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
