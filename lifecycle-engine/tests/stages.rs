//! Nodes that wait for the stages of others, over plugins in memory.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle_core::id::ControllerId;
use lifecycle_core::machine::NodeState;
use lifecycle_core::memory::{MemoryHost, MemoryStore};
use lifecycle_core::model::{AuditQuery, NodeView};
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::provider::ExitRecord;
use lifecycle_core::plugin::vendor::{DataVendor, KindData};
use lifecycle_core::policy::bulk::BulkAction;
use lifecycle_core::topology::{
    CommandTarget, Endpoint, Healthcheck, LinkSpec, NodeSpec, Stage, StageCommand, StagePhase, Topology, WaitFor,
};
use lifecycle_engine::drive::{Clock, LabSnapshot, SystemClock};
use lifecycle_engine::{Controller, NodeAction, Settings};

const WAIT: Duration = Duration::from_secs(20);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn lab() -> LabName {
    LabName::new("stages").unwrap()
}

/// A node that waits at stages for other nodes' stages.
fn node(own: &str, waits: &[(Stage, &str, Stage)]) -> NodeSpec {
    let mut spec = NodeSpec::new(name(own), "linux");
    spec.wait_for =
        waits.iter().map(|(stage, node, until)| WaitFor { stage: *stage, node: name(node), until: *until }).collect();
    spec
}

/// A lab in which each node has a link to the next.
fn row(nodes: Vec<NodeSpec>) -> Topology {
    let mut topology = Topology::new(lab(), "/");
    let end = |spec: &NodeSpec, ifname: &str| Endpoint::node(spec.name.clone(), IfName::new(ifname).unwrap());
    topology.links = nodes.windows(2).map(|pair| LinkSpec::new(end(&pair[0], "eth1"), end(&pair[1], "eth2"))).collect();
    topology.nodes = nodes;
    topology
}

fn health(command: &str) -> Option<Healthcheck> {
    Some(Healthcheck { test: vec![command.to_owned()], interval: 1, timeout: 5, retries: 1, start_period: 0 })
}

async fn start(change: impl FnOnce(&mut Settings)) -> (Controller, MemoryHost) {
    let memory = PluginName::new("memory").unwrap();
    let mut settings = Settings { provider: memory.clone(), backend: memory.clone(), ..Settings::default() };
    change(&mut settings);
    let host = MemoryHost::new().with_boot(SystemClock::new().unwrap().now().boot.boot);
    let controller = Controller::builder("/nonexistent")
        .store(Arc::new(MemoryStore::new(ControllerId::from_u64(7))))
        .settings(settings)
        .provider(memory.clone(), Arc::new(host.provider()))
        .backend(memory, Arc::new(host.network()))
        .vendor(Arc::new(DataVendor::new(vec![KindData::new("linux")])))
        .start()
        .await
        .unwrap();
    (controller, host)
}

async fn until(controller: &Controller, holds: impl Fn(&LabSnapshot) -> bool + Send) -> LabSnapshot {
    let found = controller.wait(&lab(), WAIT, |lab| lab.is_some_and(&holds)).await.unwrap();
    found.unwrap()
}

fn of<'a>(lab: &'a LabSnapshot, own: &str) -> &'a NodeView {
    lab.nodes.iter().find(|node| node.node_name == name(own)).unwrap()
}

fn all_in(state: NodeState) -> impl Fn(&LabSnapshot) -> bool + Send {
    move |lab| lab.nodes.iter().all(|node| node.actual_state == state)
}

/// The nodes in the order in which they came to run, since a row of the audit trail; and the latest row.
async fn order(controller: &Controller, after: u64) -> (Vec<String>, u64) {
    let rows = controller.audit(&AuditQuery { after, ..AuditQuery::default() }).await.unwrap();
    let ran = rows.iter().filter(|row| row.from.as_deref() == Some("starting") && row.to.as_deref() == Some("running"));
    (ran.map(|row| row.name.clone()).collect(), rows.last().map_or(after, |row| row.seq))
}

#[tokio::test]
async fn nodes_start_in_the_order_of_what_they_wait_for_each_time() {
    let (controller, _) = start(|_| {}).await;
    // The links among them stand from the beginning, so that nobody waits for the interfaces of those who wait.
    let mut first = node("d", &[]);
    first.healthcheck = health("true");
    let topology = row(vec![
        node("a", &[(Stage::CreateLinks, "b", Stage::Configure)]),
        node("b", &[(Stage::Create, "c", Stage::CreateLinks), (Stage::Create, "a", Stage::Create)]),
        node("c", &[(Stage::Create, "d", Stage::Healthy)]),
        first,
    ]);
    controller.apply("ann", topology).await.unwrap();
    until(&controller, all_in(NodeState::Running)).await;
    let (ran, seen) = order(&controller, 0).await;
    assert_eq!(ran, ["d", "c", "b", "a"]);

    controller.bulk("ann", lab(), BulkAction::Stop).await.unwrap();
    until(&controller, all_in(NodeState::Stopped)).await;
    controller.bulk("ann", lab(), BulkAction::Start).await.unwrap();
    until(&controller, all_in(NodeState::Running)).await;
    let (ran, seen) = order(&controller, seen).await;
    assert_eq!(ran, ["d", "c", "b", "a"], "a start keeps to it as a deployment does");

    // One of them alone finds the others where it needs them, and touches none.
    controller.node("ann", lab(), name("c"), NodeAction::Restart).await.unwrap();
    let is_again =
        |lab: &LabSnapshot| all_in(NodeState::Running)(lab) && of(lab, "c").state_since > of(lab, "a").state_since;
    until(&controller, is_again).await;
    assert_eq!(order(&controller, seen).await.0, ["c"]);
    controller.shutdown().await;
}

#[tokio::test]
async fn whoever_waits_in_vain_says_for_whom_and_goes_on_when_that_one_comes() {
    let (controller, _) = start(|_| {}).await;
    let mut idle = node("b", &[]);
    idle.desired = lifecycle_core::machine::NodeIntent::Stopped;
    let topology = row(vec![
        node("x", &[(Stage::Create, "a", Stage::Healthy)]),
        node("a", &[(Stage::Create, "b", Stage::Healthy)]),
        idle,
    ]);
    controller.apply("ann", topology).await.unwrap();
    let blocked = |own: &'static str| move |lab: &LabSnapshot| of(lab, own).blocked.is_some();
    let seen = until(&controller, blocked("x")).await;
    let said = of(&seen, "a").blocked.clone().unwrap();
    assert_eq!(said, "It waits for b to reach `healthy`, but it is not wanted to run");
    let said = of(&seen, "x").blocked.clone().unwrap();
    assert!(said.contains("waits for a") && said.contains("waits for b in turn"), "{said}");

    controller.node("ann", lab(), name("b"), NodeAction::Start).await.unwrap();
    until(&controller, all_in(NodeState::Running)).await;
    controller.shutdown().await;
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_can_be_read_until_then() {
    let patience = Duration::from_secs(2);
    let (controller, _) = start(|settings| {
        settings.limits.pending = patience;
        settings.enforcement.max_attempts = 1;
    })
    .await;
    let mut ill = node("b", &[]);
    ill.healthcheck = health("false");
    let topology = row(vec![node("a", &[(Stage::Create, "b", Stage::Healthy)]), ill]);
    controller.apply("ann", topology).await.unwrap();
    let waits = |lab: &LabSnapshot| of(lab, "a").note.as_deref().is_some_and(|why| why.contains("waits for b"));
    until(&controller, waits).await;
    let seen = until(&controller, |lab| of(lab, "a").actual_state == NodeState::Error).await;
    let error = of(&seen, "a").error_message.clone().unwrap();
    assert!(error.contains("not within 2s: it waits for b to reach `healthy`"), "{error}");
    controller.shutdown().await;
}

#[tokio::test]
async fn commands_and_readiness_wait_in_running_nodes_and_an_end_can_be_waited_for() {
    let (controller, host) = start(|_| {}).await;
    let topology = row(vec![
        node("a", &[(Stage::Healthy, "c", Stage::Create)]),
        node("b", &[(Stage::Configure, "c", Stage::Create)]),
        node("c", &[(Stage::Create, "d", Stage::Exit)]),
        node("d", &[]),
    ]);
    controller.apply("ann", topology).await.unwrap();
    let three = |lab: &LabSnapshot| {
        let run = ["a", "b", "d"].iter().all(|own| of(lab, own).actual_state == NodeState::Running);
        let wait =
            ["a", "b"].iter().all(|own| of(lab, own).note.as_deref().is_some_and(|it| it.contains("waits for c")));
        run && wait && !of(lab, "a").is_ready && !of(lab, "b").is_ready
    };
    let seen = until(&controller, three).await;
    assert_ne!(of(&seen, "c").actual_state, NodeState::Running);
    host.kill(of(&seen, "d").id, ExitRecord { code: Some(0), signal: None, at: None });
    until(&controller, |lab| all_in(NodeState::Running)(lab) && lab.nodes.iter().all(|node| node.is_ready)).await;
    controller.shutdown().await;
}

#[tokio::test]
async fn what_stages_cannot_have_is_refused_by_name() {
    let (controller, _) = start(|_| {}).await;
    let mut spec = node("a", &[(Stage::Create, "nobody", Stage::Create)]);
    spec.stage_commands = vec![
        StageCommand { target: CommandTarget::Host, ..command(Stage::CreateLinks, StagePhase::OnEnter, "date") },
        command(Stage::Exit, StagePhase::OnExit, "true"),
    ];
    let error = controller.apply("ann", row(vec![spec])).await.unwrap_err().to_string();
    for part in ["stages.create-links.exec", "on the host", "stages.exit.exec", "has ended", "waits for nobody"] {
        assert!(error.contains(part), "{error}");
    }
    controller.shutdown().await;
}

fn command(stage: Stage, phase: StagePhase, argv: &str) -> StageCommand {
    let argv = argv.split_whitespace().map(str::to_owned).collect();
    StageCommand { stage, phase, target: CommandTarget::Container, argv }
}

/// The last words of the commands that were run in nodes, as the jobs tell them.
async fn said(controller: &Controller) -> Vec<String> {
    let read = |world: &lifecycle_engine::decide::World| {
        let mut jobs: Vec<_> = world.jobs.values().map(|job| (job.created_at, job.log.clone())).collect();
        jobs.sort_by_key(|(created_at, _)| *created_at);
        jobs.into_iter().flat_map(|(_, log)| log).collect::<Vec<String>>()
    };
    let lines = controller.read(read).await.unwrap();
    let commands = lines.iter().filter_map(|line| line.split('`').nth(1));
    commands.filter_map(|command| command.split_whitespace().last()).map(str::to_owned).collect()
}

#[tokio::test]
async fn commands_of_stages_run_once_after_each_start_and_are_waited_for() {
    let (controller, _) = start(|_| {}).await;
    let mut first = node("a", &[(Stage::Configure, "c", Stage::Create), (Stage::Healthy, "d", Stage::Healthy)]);
    first.exec = vec!["echo exec".to_owned()];
    first.stage_commands = vec![
        command(Stage::Healthy, StagePhase::OnExit, "echo ready"),
        command(Stage::Healthy, StagePhase::OnEnter, "nonsense"),
        command(Stage::Configure, StagePhase::OnExit, "echo configured"),
        command(Stage::Configure, StagePhase::OnEnter, "echo configuring"),
        command(Stage::CreateLinks, StagePhase::OnEnter, "echo links"),
        command(Stage::Create, StagePhase::OnExit, "echo created"),
    ];
    let mut ill = node("d", &[]);
    ill.healthcheck = health("false");
    let topology = row(vec![
        first,
        node("b", &[(Stage::Create, "a", Stage::Healthy)]),
        node("c", &[(Stage::Create, "a", Stage::CreateLinks)]),
        ill,
    ]);
    controller.apply("ann", topology.clone()).await.unwrap();
    // Those before the links have ended, or `c` would not run; those of `healthy` wait as the node does.
    until(&controller, |lab| of(lab, "a").note.as_deref().is_some_and(|it| it.contains("waits for d"))).await;
    let lines = said(&controller).await;
    assert_eq!(lines, ["created", "links", "configuring", "exec", "configured"]);
    assert_ne!(of(&until(&controller, |_| true).await, "b").actual_state, NodeState::Running);
    let mut well = topology;
    well.nodes[3].healthcheck = None;
    controller.apply("ann", well).await.unwrap();
    let seen = until(&controller, all_in(NodeState::Running)).await;
    let expected = ["created", "links", "configuring", "exec", "configured", "nonsense", "ready"];
    assert_eq!(said(&controller).await, expected);
    assert!(of(&seen, "a").note.as_deref().is_some_and(|it| it.contains("nonsense")), "{:?}", of(&seen, "a").note);

    controller.node("ann", lab(), name("a"), NodeAction::Restart).await.unwrap();
    until(&controller, |lab| of(lab, "a").is_ready && of(lab, "a").state_since > of(lab, "b").state_since).await;
    let twice = [expected, expected].concat();
    let deadline = Instant::now() + WAIT;
    while said(&controller).await.len() < twice.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(said(&controller).await, twice);
    controller.shutdown().await;
}
