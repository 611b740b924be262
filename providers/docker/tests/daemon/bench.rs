//! What the tests share: one daemon of each kind for all of them, and providers of controllers of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::name::{IfName, LabName, NodeName};
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::{
    CreateNode, ExecRequest, InstanceRef, InstanceState, ObservedNode, PortRequest, Provider,
};
use lifecycle_core::topology::{ManagementNetwork, NodeSpec};
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind, missing};
use lifecycle_provider_docker::{DOCKER, PODMAN};
use serde_json::{Value, json};

/// The image of nodes, made of busybox.
pub(crate) const IMAGE: &str = "lifecycle-test:1";
/// Runs until it is told to end, and ends at once then.
pub(crate) const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
/// Time for anything that should take a second or two.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A daemon that many tests use at once. Its lock is for who kills or hangs it: the others stay away meanwhile.
pub(crate) struct Daemon {
    pub kind: Kind,
    daemon: Mutex<Option<ContainerDaemon>>,
    endpoint: String,
    socket: PathBuf,
}

static DAEMONS: [OnceLock<Result<Daemon, String>>; 2] = [OnceLock::new(), OnceLock::new()];

/// The daemon, started with the first test that needs it, or why there is none.
pub(crate) fn daemon(kind: Kind) -> Result<&'static Daemon, &'static String> {
    let index = usize::from(kind == Kind::Podman);
    DAEMONS[index].get_or_init(|| missing(kind).map_or_else(|| Ok(Daemon::start(kind)), Err)).as_ref()
}

/// Ends the daemons that were started.
pub(crate) fn end() {
    for daemon in DAEMONS.iter().filter_map(|daemon| daemon.get()?.as_ref().ok()) {
        drop(daemon.daemon.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Daemon {
    /// Tries something with a daemon of its own.
    pub(crate) fn of_ones_own(kind: Kind, test: fn(&Self)) {
        test(&Self::start(kind));
    }

    fn start(kind: Kind) -> Self {
        let daemon = ContainerDaemon::start(kind);
        daemon.import_busybox(IMAGE);
        let (endpoint, socket) = (daemon.endpoint(), daemon.socket());
        Self { kind, daemon: Mutex::new(Some(daemon)), endpoint, socket }
    }

    pub(crate) fn socket(&self) -> &PathBuf {
        &self.socket
    }

    fn lock(&self) -> MutexGuard<'_, Option<ContainerDaemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the daemon itself.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut ContainerDaemon) -> T) -> T {
        work(self.lock().as_mut().expect("the daemon was ended"))
    }

    /// Runs the daemon's command.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        self.with(|daemon| daemon.run(words))
    }

    pub(crate) fn try_run(&self, words: &[&str]) -> Result<String, String> {
        self.with(|daemon| daemon.try_run(words))
    }

    /// A corner for one test.
    pub(crate) fn corner(&self) -> Corner {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        self.corner_of(u64::from(std::process::id()) << 16 | COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// A corner of a given number.
    pub(crate) fn corner_of(&self, number: u64) -> Corner {
        Corner { number, kind: self.kind, endpoint: self.endpoint.clone(), settings: json!({}) }
    }
}

/// A controller of a test's own on a daemon that others use as well.
pub(crate) struct Corner {
    pub number: u64,
    pub kind: Kind,
    pub endpoint: String,
    pub settings: Value,
}

impl Corner {
    fn context(&self) -> HostContext {
        let mut settings = self.settings.clone();
        settings["endpoint"] = json!(self.endpoint);
        HostContext::without_directories(ControllerId::from_u64(self.number), settings)
    }

    /// A provider as a controller makes it when it begins.
    pub(crate) fn provider(&self) -> Arc<dyn Provider> {
        let plugin = if self.kind == Kind::Docker { DOCKER } else { PODMAN };
        (plugin.make)(&self.context()).unwrap()
    }

    pub(crate) fn lab(&self) -> LabId {
        LabId::from_u64(self.number << 8)
    }

    /// A node that runs until it is stopped.
    pub(crate) fn request(&self, number: u64) -> CreateNode {
        self.script(number, SLEEP)
    }

    /// A node whose process is a script.
    pub(crate) fn script(&self, number: u64, script: &str) -> CreateNode {
        let name = format!("n{number}");
        let (node, lab) = (NodeId::from_u64(self.number << 8 | number), format!("lab{}", self.number));
        let long_name = format!("clab-{lab}-{name}");
        let lab = (self.lab(), LabName::new(lab).unwrap());
        let request = CreateNode::new(node, lab, long_name, spec(&name, script));
        CreateNode { directory: "/tmp".into(), interfaces: 1, ..request }
    }

    /// A management network of this corner's own.
    pub(crate) fn management(&self) -> ManagementNetwork {
        let [.., high, low] = self.number.to_be_bytes();
        ManagementNetwork {
            name: format!("mgmt{}", self.number),
            bridge: None,
            ipv4: Some(format!("10.{high}.{low}.0/24").parse().unwrap()),
            ipv6: Some(format!("fd00:{high:x}:{low:x}::/64").parse().unwrap()),
            ipv4_range: None,
            ipv6_range: None,
            ipv4_gateway: None,
            ipv6_gateway: None,
            mtu: None,
            extra: BTreeMap::new(),
        }
    }
}

pub(crate) fn spec(name: &str, script: &str) -> NodeSpec {
    let mut spec = NodeSpec::new(NodeName::new(name).unwrap(), "linux");
    spec.image = Some(IMAGE.to_owned());
    spec.cmd = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    spec
}

pub(crate) fn port() -> PortRequest {
    PortRequest { ifname: IfName::new("eth1").unwrap(), mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }
}

/// Runs a test on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LONG, "in vain it was waited until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn create(provider: &Arc<dyn Provider>, request: &CreateNode) -> InstanceRef {
    provider.create_node(request).await.unwrap().instance
}

pub(crate) async fn started(provider: &Arc<dyn Provider>, request: &CreateNode) -> InstanceRef {
    let instance = create(provider, request).await;
    provider.start_node(&instance).await.unwrap();
    instance
}

pub(crate) async fn observed(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> ObservedNode {
    provider.observe_node(instance).await.unwrap().expect("the instance exists")
}

pub(crate) async fn state(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> InstanceState {
    observed(provider, instance).await.state
}

/// The namespace that interfaces of an instance attach in.
pub(crate) async fn place(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> NsRef {
    match provider.attach_point(instance, &port()).await.unwrap().place {
        AttachKind::Namespace(ns) => ns,
        other => panic!("{other:?}"),
    }
}

/// Runs a shell's command in a node; its code and what it printed.
pub(crate) async fn sh(provider: &Arc<dyn Provider>, instance: &InstanceRef, command: &str) -> (Option<i32>, String) {
    let output = provider.exec().unwrap().exec(instance, &ExecRequest::new(["sh", "-c", command])).await.unwrap();
    (output.exit.code, String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
