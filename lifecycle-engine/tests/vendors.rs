//! What the data of a vendor do to a node: readiness, progress, turns, and the configuration that is read.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::attach::AttachPoint;
use lifecycle_core::error::{ErrorKind, Result};
use lifecycle_core::id::{ControllerId, NodeId};
use lifecycle_core::memory::{MemoryHost, MemoryProvider, MemoryStore};
use lifecycle_core::model::{EventBody, NodeView};
use lifecycle_core::name::{LabName, NodeName, PluginName};
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    CreateNode, CreatedNode, Exec, InstanceRef, LogChunk, LogRequest, Logs, ManagementAddresses, ObservedNode,
    PortRequest, ProviderCapabilities, ProviderEvent,
};
use lifecycle_core::plugin::vendor::{DataVendor, KindData, Machine, NicModel};
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::{NodeSpec, Topology};
use lifecycle_engine::drive::{Clock, FeedItem, LabSnapshot, SystemClock};
use lifecycle_engine::{Controller, NodeAction, Settings};

const WAIT: Duration = Duration::from_secs(20);

/// Where its nodes are reached.
const HERE: ManagementAddresses = ManagementAddresses { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None };

/// A provider in memory whose nodes print what a test says, and are reached at this machine.
#[derive(Debug, Clone)]
struct Talker {
    inner: MemoryProvider,
    printed: Arc<Mutex<Vec<(Timestamp, String)>>>,
    /// What it was asked to make.
    asked: Arc<Mutex<Vec<CreateNode>>>,
}

impl Talker {
    fn print(&self, line: &str) {
        let now = Timestamp::try_from(std::time::SystemTime::now()).unwrap();
        self.printed.lock().unwrap().push((now, line.to_owned()));
    }
}

#[async_trait]
impl Provider for Talker {
    fn capabilities(&self) -> ProviderCapabilities {
        ProviderCapabilities { logs: true, ..self.inner.capabilities() }
    }
    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        self.inner.node_identifier(node, long_name)
    }
    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        self.asked.lock().unwrap().push(request.clone());
        let created = self.inner.create_node(request).await?;
        Ok(CreatedNode { management: HERE, ..created })
    }
    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        self.inner.start_node(instance).await
    }
    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        self.inner.stop_node(instance, grace).await
    }
    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        self.inner.destroy_node(instance).await
    }
    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        let listed = self.inner.list_nodes().await?;
        Ok(listed.into_iter().map(|node| ObservedNode { management: HERE, ..node }).collect())
    }
    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        let found = self.inner.observe_node(instance).await?;
        Ok(found.map(|node| ObservedNode { management: HERE, ..node }))
    }
    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        self.inner.watch()
    }
    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        self.inner.attach_point(instance, port).await
    }
    fn exec(&self) -> Option<&dyn Exec> {
        Provider::exec(&self.inner)
    }
    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }
}

#[async_trait]
impl Logs for Talker {
    async fn logs(&self, _: &InstanceRef, _: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let chunk = |(at, line): (Timestamp, String)| Ok(LogChunk { at: Some(at), stderr: false, line: line.into() });
        Ok(stream::iter(self.printed.lock().unwrap().clone().into_iter().map(chunk)).boxed())
    }
}

fn kinds(value: serde_json::Value) -> Arc<DataVendor> {
    Arc::new(DataVendor::new(serde_json::from_value::<Vec<KindData>>(value).unwrap()))
}

async fn start(vendor: Arc<DataVendor>) -> (Controller, Talker) {
    let boot = SystemClock::new().unwrap().now().boot.boot;
    let host = MemoryHost::new().with_boot(boot);
    let talker = Talker { inner: host.provider(), printed: Arc::default(), asked: Arc::default() };
    let memory = PluginName::new("memory").unwrap();
    let controller = Controller::builder("/nonexistent")
        .store(Arc::new(MemoryStore::new(ControllerId::from_u64(7))))
        .settings(Settings { provider: memory.clone(), backend: memory.clone(), ..Settings::default() })
        .provider(memory.clone(), Arc::new(talker.clone()))
        .backend(memory, Arc::new(host.network()))
        .vendor(vendor)
        .start()
        .await
        .unwrap();
    (controller, talker)
}

fn lab() -> LabName {
    LabName::new("lab").unwrap()
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn topology(nodes: &[(&str, &str)]) -> Topology {
    let mut topology = Topology::new(lab(), "/");
    topology.nodes = nodes.iter().map(|(node, kind)| NodeSpec::new(name(node), *kind)).collect();
    topology
}

/// Waits until something is true of the lab's first node.
async fn until(controller: &Controller, what: impl Fn(&NodeView) -> bool + Send) -> NodeView {
    let found = controller.wait(&lab(), WAIT, |lab| lab.is_some_and(|lab| what(&lab.nodes[0]))).await;
    found.unwrap().unwrap().nodes.swap_remove(0)
}

async fn until_all_are_ready(controller: &Controller) -> Vec<NodeView> {
    let ready = |lab: Option<&LabSnapshot>| lab.is_some_and(|lab| lab.nodes.iter().all(|node| node.is_ready));
    controller.wait(&lab(), WAIT, ready).await.unwrap().unwrap().nodes
}

#[tokio::test]
async fn a_node_tells_how_far_it_has_come_and_when_it_is_ready() {
    let vendor = kinds(serde_json::json!([{
        "kind": "box",
        "readiness": {"probe": "log", "pattern": "^login: $", "interval": 1, "timeout": 60},
        "progress": [{"pattern": "kernel", "percent": 10}, {"pattern": "services", "percent": 70}],
    }]));
    let (controller, talker) = start(vendor).await;
    let mut feed = controller.follow(0);
    controller.apply("ann", topology(&[("n1", "box")])).await.unwrap();
    let node = until(&controller, |node| node.boot_started_at.is_some()).await;
    assert_eq!((node.is_ready, node.progress), (false, None));
    talker.print("\u{1b}[31mser\u{1b}[0mvices\r");
    until(&controller, |node| node.progress == Some(70)).await;
    // What comes late does not take it back.
    talker.print("kernel");
    talker.print("booting\rlogin: ");
    let node = until(&controller, |node| node.is_ready).await;
    assert_eq!(node.progress, Some(100));
    let mut told = Vec::new();
    while told.last() != Some(&Some(100)) {
        let Some(FeedItem::Event(event)) = feed.next().await.unwrap() else { panic!("the feed broke off") };
        if let EventBody::Node(node) = &event.body {
            told.push(node.progress);
        }
    }
    assert!(told.contains(&Some(70)) && !told.contains(&Some(10)), "{told:?}");

    // An earlier run's words do not make the next one ready.
    tokio::time::sleep(Duration::from_millis(20)).await;
    controller.node("ann", lab(), name("n1"), NodeAction::Restart).await.unwrap();
    until(&controller, |node| node.boot_started_at.is_some() && !node.is_ready).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let node = until(&controller, |node| node.boot_started_at.is_some()).await;
    assert_eq!((node.is_ready, node.progress), (false, None));
    talker.print("login: ");
    until(&controller, |node| node.is_ready).await;
    controller.shutdown().await;
}

#[tokio::test]
async fn a_node_is_ready_when_it_takes_a_connection() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = closed.local_addr().unwrap();
    drop(closed);
    let vendor = kinds(serde_json::json!([
        {"kind": "box", "readiness": {"probe": "tcp", "port": place.port(), "interval": 1, "timeout": 1}},
    ]));
    let (controller, _) = start(vendor).await;
    controller.apply("ann", topology(&[("n1", "box")])).await.unwrap();
    let late = until(&controller, |node| node.note.is_some()).await;
    let note = late.note.unwrap();
    assert!(note.contains("not ready in time: no connection to 127.0.0.1:") && !late.is_ready, "{note}");
    let _listener = TcpListener::bind(place).unwrap();
    until(&controller, |node| node.is_ready && node.note.is_none()).await;
    controller.shutdown().await;
}

#[tokio::test]
async fn nodes_that_must_not_start_all_at_once_take_turns() {
    let vendor = kinds(serde_json::json!([{"kind": "slow", "stagger": 1}, {"kind": "quick"}]));
    let (controller, _) = start(vendor).await;
    controller.apply("ann", topology(&[("a", "slow"), ("b", "slow"), ("c", "slow"), ("d", "quick")])).await.unwrap();
    let nodes = until_all_are_ready(&controller).await;
    let started = |name: &str| {
        nodes.iter().find(|node| node.node_name.as_str() == name).unwrap().boot_started_at.unwrap().as_millisecond()
    };
    let mut slow = ["a", "b", "c"].map(started);
    slow.sort_unstable();
    for pair in slow.windows(2) {
        assert!(pair[1] - pair[0] >= 900, "{slow:?}");
    }
    assert!(started("d") - slow[0] < 900, "others do not wait");
    controller.shutdown().await;
}

#[tokio::test]
async fn a_configuration_is_read_by_the_means_of_the_kind() {
    let vendor = kinds(serde_json::json!([
        {"kind": "good", "save": {"command": ["echo", "hostname r1"], "file": "r1.cfg"}},
        {"kind": "long", "save": {"command": ["echo", "hostname r1"], "limit": 5}},
        {"kind": "failing", "save": {"command": ["false"]}},
        {"kind": "serial", "save": {"method": "serial", "command": ["show running-config"]}},
        {"kind": "silent"},
    ]));
    let (controller, _) = start(vendor).await;
    let all = ["good", "long", "failing", "serial", "silent"];
    controller.apply("ann", topology(&all.map(|kind| (kind, kind)))).await.unwrap();
    until_all_are_ready(&controller).await;
    let saved = controller.save(&lab(), &name("good")).await.unwrap();
    assert_eq!((saved.file.as_str(), saved.text.as_str()), ("r1.cfg", "hostname r1\n"));
    assert!(!format!("{saved:?}").contains("hostname"), "its debug output keeps it");
    for (node, kind, why) in [
        ("long", ErrorKind::Exhausted, "longer than 5 bytes"),
        ("failing", ErrorKind::Failed, "`false`: exit code 1"),
        ("serial", ErrorKind::Unsupported, "by `serial`"),
        ("silent", ErrorKind::Unsupported, "kind `silent`"),
        ("nobody", ErrorKind::NotFound, "no such node"),
    ] {
        let error = controller.save(&lab(), &name(node)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    controller.node("ann", lab(), name("good"), NodeAction::Stop { abort: false }).await.unwrap();
    let stopped = |lab: Option<&LabSnapshot>| lab.is_some_and(|lab| lab.nodes.iter().any(|node| !node.is_ready));
    controller.wait(&lab(), WAIT, stopped).await.unwrap();
    assert_eq!(controller.save(&lab(), &name("good")).await.unwrap_err().kind(), ErrorKind::Conflict);
    controller.shutdown().await;
}

#[tokio::test]
async fn a_provider_is_asked_for_the_machine_of_a_kind_and_for_a_medium_only_if_it_can_make_one() {
    let vendor = kinds(serde_json::json!([{
        "kind": "box",
        "machine": {"nic": "e1000", "reserved-nics": 2},
        "startup-config": {"method": "iso", "path": "config.txt"},
    }]));
    let (controller, talker) = start(vendor).await;
    let mut topology = topology(&[("with", "box"), ("without", "box")]);
    topology.nodes[0].startup_config = Some("r1.cfg".to_owned());
    controller.apply("ann", topology).await.unwrap();
    let settled = |lab: Option<&LabSnapshot>| {
        lab.is_some_and(|lab| lab.nodes[0].error_message.is_some() && lab.nodes[1].is_ready)
    };
    let lab = controller.wait(&lab(), WAIT, settled).await.unwrap().unwrap();
    let why = lab.nodes[0].error_message.clone().unwrap();
    assert!(why.contains("kind `box` takes its `startup-config` from a medium") && why.contains("`memory`"), "{why}");
    let asked = talker.asked.lock().unwrap().clone();
    let machine = Machine { nic: NicModel::E1000, reserved_nics: 2, ..Machine::default() };
    let told: Vec<_> = asked.iter().map(|request| (request.name.as_str(), request.machine)).collect();
    assert_eq!(told, [("without", Some(machine))]);
    controller.shutdown().await;
}
