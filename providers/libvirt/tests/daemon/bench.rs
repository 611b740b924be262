//! What the tests share: a few daemons, each of which one test has at a time, and providers of controllers of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, Mac};
use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::name::{IfName, LabName, NodeName};
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::{CreateNode, InstanceRef, InstanceState, ObservedNode, PortRequest, Provider};
use lifecycle_core::topology::NodeSpec;
use lifecycle_linux::testing::guest;
use lifecycle_linux::testing::libvirt::LibvirtDaemon;
use lifecycle_provider_libvirt::PLUGIN;
use serde_json::{Value, json};

/// Daemons at most, and so tests at once.
pub(crate) const DAEMONS: usize = 2;
/// An image with a disk that holds nothing: a machine that only waits, and hears no power button.
pub(crate) const BLANK: &str = "blank.img";
/// An image with the kernel of the tests' own guest.
pub(crate) const GUEST: &str = "guest";
/// Time for what takes a guest a few seconds.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Daemons that nobody uses, and how many there are in all.
static FREE: (Mutex<(Vec<LibvirtDaemon>, usize)>, Condvar) = (Mutex::new((Vec::new(), 0)), Condvar::new());

/// Ends the daemons that were started.
pub(crate) fn end() {
    FREE.0.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
}

/// A daemon with a controller of one test's own.
pub(crate) struct Bench {
    daemon: Option<LibvirtDaemon>,
    number: u64,
    pub settings: Value,
}

impl Bench {
    /// Waits for a daemon that is free.
    pub(crate) fn take() -> Self {
        let mut state = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let daemon = loop {
            if let Some(daemon) = state.0.pop() {
                break daemon;
            }
            if state.1 < DAEMONS {
                state.1 += 1;
                drop(state);
                let daemon = LibvirtDaemon::start();
                let images = daemon.directory().join("images");
                guest::make(&images.join(GUEST));
                fs::File::create(images.join(BLANK)).unwrap().set_len(1 << 20).unwrap();
                break daemon;
            }
            state = FREE.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let number = u64::from(std::process::id()) << 16 | COUNT.fetch_add(1, Ordering::Relaxed);
        Self { daemon: Some(daemon), number, settings: json!({}) }
    }

    pub(crate) fn daemon(&mut self) -> &mut LibvirtDaemon {
        self.daemon.as_mut().unwrap()
    }

    pub(crate) fn virsh(&self, words: &[&str]) -> String {
        self.daemon.as_ref().unwrap().virsh(words)
    }

    pub(crate) fn try_virsh(&self, words: &[&str]) -> Result<String, String> {
        self.daemon.as_ref().unwrap().try_virsh(words)
    }

    pub(crate) fn ip(&self, words: &[&str]) -> Option<String> {
        self.daemon.as_ref().unwrap().ip(words)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.daemon.as_ref().unwrap().socket()
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.daemon.as_ref().unwrap().directory().join("vms")
    }

    /// A provider as a controller makes it when it begins.
    pub(crate) fn provider(&self) -> Arc<dyn Provider> {
        self.provider_at(&self.socket())
    }

    /// A provider that reaches the daemon through a socket of somebody's.
    pub(crate) fn provider_at(&self, socket: &Path) -> Arc<dyn Provider> {
        let daemon = self.daemon.as_ref().unwrap();
        let mut settings = self.settings.clone();
        settings["uri"] = json!(LibvirtDaemon::uri_of(socket));
        settings["directory"] = json!(self.vms());
        settings["images"] = json!([daemon.directory().join("images")]);
        settings["acceleration"] = json!("qemu");
        settings["memory_mb"] = json!(96);
        settings["namespace"] = json!(daemon.namespace());
        settings["look_ms"] = json!(200);
        let context = HostContext::without_directories(ControllerId::from_u64(self.number), settings);
        (PLUGIN.make)(&context).unwrap()
    }

    pub(crate) fn request(&self, number: u64, image: &str) -> CreateNode {
        let name = format!("n{number}");
        let lab = (LabId::from_u64(self.number << 8), LabName::new("vms").unwrap());
        let node = NodeId::from_u64(self.number << 8 | number);
        let request = CreateNode::new(node, lab, format!("clab-vms-{name}"), spec(&name, image));
        CreateNode { directory: "/tmp".into(), interfaces: 1, ..request }
    }

    /// Makes the tap of an attach point, as a network backend does.
    pub(crate) fn make_tap(&self, place: &AttachKind) -> IfName {
        let AttachKind::Tap { name, .. } = place else { panic!("{place:?}") };
        self.ip(&["tuntap", "add", name.as_str(), "mode", "tap"]).expect("a tap");
        self.ip(&["link", "set", name.as_str(), "up"]).expect("a tap that is up");
        name.clone()
    }

    /// Whether somebody answers at an address, seen from the daemon's network namespace.
    pub(crate) fn ping(&self, address: &str) -> bool {
        let net = format!("--net={}", self.daemon.as_ref().unwrap().namespace().display());
        let mut ping = std::process::Command::new("nsenter");
        ping.args([net.as_str(), "ping", "-c", "1", "-W", "1", address]);
        ping.output().unwrap().status.success()
    }

    /// Whether somebody holds the other end of a tap.
    pub(crate) fn has_carrier(&self, tap: &IfName) -> bool {
        let text = self.ip(&["link", "show", tap.as_str()]).expect("the tap is there");
        text.contains("LOWER_UP")
    }
}

impl Drop for Bench {
    #[expect(clippy::print_stderr, reason = "what a daemon said helps whose test failed")]
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let mut state = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::thread::panicking() {
            eprintln!("the daemon said last: {}", daemon.last_words());
            daemon.kill();
            state.1 -= 1;
        } else {
            state.0.push(daemon);
        }
        drop(state);
        FREE.1.notify_all();
    }
}

pub(crate) fn spec(name: &str, image: &str) -> NodeSpec {
    let mut spec = NodeSpec::new(NodeName::new(name).unwrap(), "linux");
    spec.image = Some(image.to_owned());
    spec.cmd = (image == GUEST).then(|| vec![guest::SOON.to_owned()]);
    spec
}

pub(crate) fn port() -> PortRequest {
    PortRequest { ifname: IfName::new("eth1").unwrap(), mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }
}

pub(crate) async fn create(provider: &Arc<dyn Provider>, request: &CreateNode) -> InstanceRef {
    provider.create_node(request).await.expect("create").instance
}

pub(crate) async fn started(provider: &Arc<dyn Provider>, request: &CreateNode) -> InstanceRef {
    let instance = create(provider, request).await;
    provider.start_node(&instance).await.expect("start");
    instance
}

pub(crate) async fn observed(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> ObservedNode {
    provider.observe_node(instance).await.expect("observe").expect("it exists")
}

pub(crate) async fn state(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> InstanceState {
    observed(provider, instance).await.state
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LONG, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a guest says something on its console.
pub(crate) async fn says(provider: &Arc<dyn Provider>, instance: &InstanceRef, words: &str, times: usize) {
    eventually(words, async || log(provider, instance).await.matches(words).count() >= times).await;
}

/// What a guest said on its console so far.
pub(crate) async fn log(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> String {
    use futures_util::StreamExt;
    let request = lifecycle_core::plugin::provider::LogRequest::default();
    let lines = provider.logs().unwrap().logs(instance, &request).await.expect("logs");
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line.unwrap().line).into_owned()).collect().await;
    lines.join("\n")
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}
