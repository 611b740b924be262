//! The whole controller, its tasks and time limits included, while every call that it makes goes wrong in every way.
//!
//! The simulator does this to the decisions, without a runtime. Here the driver is at stake: lost answers, effects that
//! outlive a failed commit, and a store that was written to and did not say so.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lifecycle_core::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::memory::{MemoryHost, MemoryStore};
use lifecycle_core::model::AuditQuery;
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::vendor::{DataVendor, KindData};
use lifecycle_core::plugin::{NetworkBackend, Provider, StateStore, VendorConfig};
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_core::topology::{Endpoint, LinkAttrs, LinkSpec, NodeSpec, Topology};
use lifecycle_engine::decide::Limits;
use lifecycle_engine::drive::{Clock, LabSnapshot, SystemClock};
use lifecycle_engine::{Command, CommandError, Controller, NodeAction, Settings};
use lifecycle_testkit::faulty::{Fault, Faulty, Plan};

/// Longer than anything here takes, with every wait below: only what never comes exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);

fn plain() -> Arc<dyn VendorConfig> {
    Arc::new(DataVendor::new(vec![KindData::new("linux")]))
}

fn lab() -> LabName {
    LabName::new("line").unwrap()
}

fn node(number: usize) -> NodeName {
    NodeName::new(format!("n{number}")).unwrap()
}

/// Two nodes and a link.
fn line() -> Topology {
    let mut topology = Topology::new(lab(), "/");
    topology.nodes = (0..2).map(|number| NodeSpec::new(node(number), "linux")).collect();
    let end = |number| Endpoint::node(node(number), IfName::new("eth1").unwrap());
    topology.links = vec![LinkSpec::new(end(0), end(1))];
    topology
}

/// The machine and the store of a controller, and what goes wrong between them and it.
struct Bench {
    host: MemoryHost,
    store: MemoryStore,
    plugins: Arc<Plan>,
    records: Arc<Plan>,
    limits: Limits,
}

impl Bench {
    /// Calls of plugins and of the store are numbered together.
    fn new(plan: Plan) -> Self {
        let plan = Arc::new(plan);
        Self::with(Arc::clone(&plan), plan)
    }

    fn with(plugins: Arc<Plan>, records: Arc<Plan>) -> Self {
        let boot = SystemClock::new().unwrap().now().boot.boot;
        let host = MemoryHost::new().with_boot(boot);
        let soon = Duration::from_millis(50);
        let limits = Limits {
            enforcement_pass: soon,
            sync_pass: soon,
            link_pass: soon,
            collection_grace: soon,
            reconnect: soon,
            ..Limits::default()
        };
        Self { host, store: MemoryStore::new(ControllerId::from_u64(7)), plugins, records, limits }
    }

    async fn start(&self) -> Controller {
        let memory = PluginName::new("memory").unwrap();
        let retries = EnforcementPolicy { base: Duration::from_millis(5), max_attempts: 8, ..Default::default() };
        let (enforcement, repair, limits) = (retries, retries, self.limits.clone());
        let settings = Settings { enforcement, repair, limits, provider: memory.clone(), backend: memory.clone() };
        let provider: Arc<dyn Provider> = Arc::new(self.host.provider());
        let backend: Arc<dyn NetworkBackend> = Arc::new(self.host.network());
        let store: Arc<dyn StateStore> = Arc::new(self.store.clone());
        loop {
            let started = Controller::builder("/nonexistent")
                .store(Arc::new(Faulty::new(Arc::clone(&store), Arc::clone(&self.records))))
                .settings(settings.clone())
                .provider(memory.clone(), Arc::new(Faulty::new(Arc::clone(&provider), Arc::clone(&self.plugins))))
                .backend(memory.clone(), Arc::new(Faulty::new(Arc::clone(&backend), Arc::clone(&self.plugins))))
                .vendor(plain())
                .start()
                .await;
            // What cannot read its state does not start, and says so.
            match started {
                Ok(controller) => return controller,
                Err(error) => assert!(error.chain().contains("planned fault"), "{}", error.chain()),
            }
        }
    }
}

/// Asks until it was recorded: whoever asks while the store fails is told, and asks again.
async fn ask(controller: &Controller, command: Command) {
    loop {
        match controller.command("ann", command.clone()).await {
            Ok(_) => return,
            // What was asked before was recorded after all.
            Err(CommandError::Refused(_) | CommandError::NotFound { .. }) => return,
            Err(CommandError::Store { .. }) => {}
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
}

fn is_up(snapshot: Option<&LabSnapshot>) -> bool {
    snapshot.is_some_and(|it| {
        it.nodes.iter().all(|node| node.actual_state == NodeState::Running && node.is_ready)
            && it.links.iter().all(|link| link.actual_state == LinkState::Up)
    })
}

/// Waits until `done` holds. The feed is read from the store, which may fail; whoever waits is told, and waits again.
async fn until(controller: &Controller, done: impl Fn(Option<&LabSnapshot>) -> bool) -> Option<LabSnapshot> {
    loop {
        match controller.wait(&lab(), PATIENCE, &done).await {
            Ok(snapshot) => return snapshot,
            Err(error) => assert!(error.chain().contains("planned fault"), "{}", error.chain()),
        }
    }
}

/// A lab's life: up, one node restarted, gone; then nothing is left and everything is on record.
async fn live(bench: &Bench) {
    let controller = bench.start().await;
    ask(&controller, Command::Apply { topology: Box::new(line()), dry_run: false }).await;
    until(&controller, is_up).await;
    assert_eq!(bench.host.census(), (2, 2));
    ask(&controller, Command::Node { lab: lab(), node: node(0), action: NodeAction::Restart }).await;
    until(&controller, is_up).await;
    ask(&controller, Command::Destroy { lab: lab() }).await;
    until(&controller, |lab| lab.is_none()).await;
    assert_eq!(bench.host.census(), (0, 0));
    let trail = bench.store.audit(&AuditQuery::default()).await.unwrap();
    assert!(trail.len() > 10 && trail.iter().zip(1..).all(|(row, seq)| row.seq == seq), "the trail has gaps");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_may_go_wrong_in_every_way() {
    let calm = Bench::new(Plan::none());
    live(&calm).await;
    let calls = calm.plugins.calls();
    let kinds: BTreeSet<&str> = calls.iter().copied().collect();
    for expected in ["commit", "create_node", "start_node", "stop_node", "destroy_node", "connect", "verify"] {
        assert!(kinds.contains(expected), "{expected} is never called: {kinds:?}");
    }
    let faults = [
        Fault::Fail(ErrorKind::Interrupted),
        Fault::Fail(ErrorKind::Unreachable),
        Fault::LoseAnswer(ErrorKind::Timeout),
        Fault::Delay(Duration::from_millis(30)),
        Fault::Twice,
    ];
    let trials = (1..=calls.len()).flat_map(|number| faults.map(|fault| (number, fault)));
    all(trials, |number, fault| Bench::new(Plan::at([(number, fault)]))).await;
}

/// What a controller does not try again: it lets go of what it believed and reads everything anew.
#[tokio::test(flavor = "multi_thread")]
async fn every_commit_may_be_refused_or_have_happened() {
    let count = Arc::new(Plan::none().only(["commit"]));
    live(&Bench::with(Arc::new(Plan::none()), Arc::clone(&count))).await;
    let faults = [Fault::Fail(ErrorKind::Corrupt), Fault::LoseAnswer(ErrorKind::Corrupt)];
    let trials = (1..=count.calls().len()).flat_map(|number| faults.map(|fault| (number, fault)));
    all(trials, |number, fault| {
        let records = Plan::at([(number, fault)]).only(["commit"]);
        Bench::with(Arc::new(Plan::none()), Arc::new(records))
    })
    .await;
}

/// Lives once with each fault.
async fn all(trials: impl Iterator<Item = (usize, Fault)>, bench: impl Fn(usize, Fault) -> Bench) {
    let trials = trials.map(|(number, fault)| {
        let bench = bench(number, fault);
        let calls = Arc::clone(&bench.records);
        async move {
            // A task of its own, so that it can be told which fault it was.
            let lived = tokio::spawn(async move { live(&bench).await }).await;
            lived
                .err()
                .map(|error| format!("call {number} ({:?}) with {fault:?}: {error}", calls.calls().get(number - 1)))
        }
    });
    let failed: Vec<String> = stream::iter(trials).buffer_unordered(32).filter_map(std::future::ready).collect().await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn a_store_that_failed_is_read_again_while_a_reading_hangs() {
    const HOUR: Duration = Duration::from_secs(3600);
    let plugins = Plan::at([(1, Fault::Delay(HOUR))]).only(["verify"]);
    let records = Plan::at([(20, Fault::Fail(ErrorKind::Corrupt))]).only(["commit"]);
    let mut bench = Bench::with(Arc::new(plugins), Arc::new(records));
    bench.limits.reading = 2 * HOUR;
    let controller = bench.start().await;
    ask(&controller, Command::Apply { topology: Box::new(line()), dry_run: false }).await;
    let wired = |lab: Option<&LabSnapshot>| lab.is_some_and(|it| it.links[0].actual_state == LinkState::Down);
    let link = until(&controller, wired).await.unwrap().links[0].id;
    let mut failed = 0;
    for mtu in 1400..1500 {
        let attrs = LinkAttrs { mtu, ..LinkAttrs::default() };
        let asked = controller.command("ann", Command::SetLink { lab: lab(), link, attrs });
        match tokio::time::timeout(PATIENCE, asked).await.expect("an answer") {
            Ok(_) => {}
            Err(CommandError::Store { .. }) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failed > 0, "the store never failed");
    until(&controller, is_up).await;
    controller.shutdown().await;
}
