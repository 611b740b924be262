//! A controller's corner of the machine for one test, and the census of what is left of it.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::name::{HostName, LabName, NodeName};
use lifecycle_core::plugin::provider::{CreateNode, ExecRequest, InstanceRef, InstanceState, PortRequest};
use lifecycle_core::plugin::{HostContext, Provider};
use lifecycle_core::policy::naming::OurName;
use lifecycle_core::topology::NodeSpec;
use lifecycle_provider_netns::NetnsProvider;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Verdict;

/// Directories, and what a controller says of itself.
pub(crate) struct Corner {
    pub(crate) directory: TempDir,
    pub(crate) context: HostContext,
}

impl Corner {
    pub(crate) fn new() -> Self {
        Self::with(json!({}))
    }

    /// With settings of the provider.
    pub(crate) fn with(settings: Value) -> Self {
        let directory = tempfile::Builder::new().prefix("lc").tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let context = HostContext {
            controller: ControllerId::from_u64(0xc0),
            epoch: 1,
            host: HostName::local(),
            state_dir: directory.path().join("s"),
            runtime_dir: directory.path().join("r"),
            helper: None,
            settings,
        };
        fs::create_dir_all(directory.path().join("lab")).unwrap();
        Self { directory, context }
    }

    pub(crate) fn provider(&self) -> Arc<NetnsProvider> {
        Arc::new(NetnsProvider::new(&self.context).unwrap())
    }

    /// A provider of a later controller.
    pub(crate) fn newer(&self, epoch: u64) -> Arc<NetnsProvider> {
        Arc::new(NetnsProvider::new(&HostContext { epoch, ..self.context.clone() }).unwrap())
    }

    /// A name of a management network that nobody else uses.
    pub(crate) fn network(&self) -> String {
        format!("net-{}", self.directory.path().display())
    }

    pub(crate) fn lab(&self) -> PathBuf {
        self.directory.path().join("lab")
    }

    /// A request for incarnation 1 of a node of kind linux.
    pub(crate) fn request(&self, number: u64) -> CreateNode {
        let name = NodeName::new(format!("n{number}")).unwrap();
        let (long_name, spec) = (format!("clab-test-{name}"), NodeSpec::new(name, "linux"));
        let lab = (LabId::from_u64(0x1ab), LabName::new("test").unwrap());
        let request = CreateNode::new(NodeId::from_u64(number), lab, long_name, spec);
        CreateNode { directory: self.lab(), interfaces: 1, ..request }
    }

    /// A node whose process is `sh -c script`.
    pub(crate) fn script(&self, number: u64, script: &str) -> CreateNode {
        let mut request = self.request(number);
        request.spec.cmd = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        request
    }

    /// Processes of ours: keepers, helpers and inits all bear the command line that the keeper was started with.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let path = self.context.runtime_dir.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            if String::from_utf8_lossy(&read("cmdline")).contains(&path) {
                found.push((pid, String::from_utf8_lossy(&read("comm")).trim().to_owned()));
            }
        }
        found
    }

    pub(crate) fn keeper(&self) -> Option<i32> {
        self.processes().into_iter().find(|(_, name)| name == "lc-keeper").map(|(pid, _)| pid)
    }

    pub(crate) fn init(&self, name: &str) -> Option<i32> {
        self.processes().into_iter().find(|(_, found)| *found == format!("lc:{name}")).map(|(pid, _)| pid)
    }

    /// Everything of this corner that is left on the machine.
    pub(crate) fn census(&self) -> Vec<String> {
        let mut left: Vec<String> = self.processes().into_iter().map(|found| format!("process {found:?}")).collect();
        let path = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&path)).map(|line| format!("mount {line}")));
        let hash = fnv(self.context.state_dir.join("netns").as_os_str().as_encoded_bytes());
        for root in ["", "memory", "cpu", "unified"] {
            let group = PathBuf::from("/sys/fs/cgroup").join(root).join(format!("lifecycle-{hash:016x}"));
            left.extend(group.exists().then(|| format!("control group {}", group.display())));
        }
        for directory in ["s/netns/nodes", "s/netns/labs", "r/netns/n", "r/netns/pin"] {
            let entries = fs::read_dir(self.directory.path().join(directory)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
        }
        for file in ["r/netns/keeper.sock", "r/netns/broker.sock", "r/netns/keeper.lock", "s/netns/skeleton"] {
            left.extend(self.directory.path().join(file).exists().then(|| format!("file {file}")));
        }
        left
    }

    /// Waits for everything to be gone, the keeper included.
    pub(crate) fn assert_clean(&self) {
        let begin = Instant::now();
        loop {
            let left = self.census();
            if left.is_empty() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "left behind: {left:#?}\n{}", self.keeper_log());
            sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn keeper_log(&self) -> String {
        fs::read_to_string(self.context.state_dir.join("netns/keeper.log")).unwrap_or_default()
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the keeper's log: {}", self.keeper_log());
        }
        // What a failed test left behind; after one that did not fail there is nothing.
        for (pid, _) in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let bridge = OurName::management_bridge(&self.network()).ifname();
        if std::fs::exists(format!("/sys/class/net/{bridge}")).unwrap_or(false) {
            let _ = std::process::Command::new("ip").args(["link", "delete", bridge.as_str()]).status();
        }
        let path = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mounts.lines().rev().filter(|line| line.contains(&path)) {
            if let Some(point) = line.split(' ').nth(4) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Runs a test in a runtime, and takes the census after it.
pub(crate) fn run<F: Future<Output = Verdict>>(corner: Corner, test: impl FnOnce(Arc<Corner>) -> F) -> Verdict {
    let corner = Arc::new(corner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let verdict = runtime.block_on(test(Arc::clone(&corner)));
    drop(runtime);
    corner.assert_clean();
    verdict
}

pub(crate) async fn create(provider: &NetnsProvider, request: &CreateNode) -> InstanceRef {
    provider.create_node(request).await.unwrap().instance
}

pub(crate) async fn started(provider: &NetnsProvider, request: &CreateNode) -> InstanceRef {
    let instance = create(provider, request).await;
    provider.start_node(&instance).await.unwrap();
    instance
}

pub(crate) async fn state(provider: &NetnsProvider, instance: &InstanceRef) -> InstanceState {
    provider.observe_node(instance).await.unwrap().expect("the instance exists").state
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !check().await {
        assert!(begin.elapsed() < Duration::from_secs(15), "this did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs `sh -c script` in a node; returns its exit code and what it printed.
pub(crate) async fn sh(provider: &NetnsProvider, instance: &InstanceRef, script: &str) -> (Option<i32>, String) {
    let request = ExecRequest::new(["sh", "-c", script]);
    let output = provider.exec().unwrap().exec(instance, &request).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.exit.code, String::from_utf8_lossy(&text).trim_end().to_owned())
}

pub(crate) fn port() -> PortRequest {
    PortRequest { ifname: "eth1".parse().unwrap(), mac: "02:00:00:00:00:01".parse().unwrap(), mtu: 1500 }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
