//! A controller over plugins in memory, served on a real unix socket.
#![allow(dead_code, unused_imports)]

mod provider;
mod raw;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use lifecycle_controller::api::Server;
use lifecycle_controller::client::Client;
use lifecycle_controller::embedded::registry;
use lifecycle_core::id::ControllerId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::memory::{MemoryHost, MemoryStore};
use lifecycle_core::name::{IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::vendor::DataVendor;
use lifecycle_core::topology::{Endpoint, LinkSpec, NodeSpec, Topology};
use lifecycle_engine::drive::{Clock, LabSnapshot, SystemClock};
use lifecycle_engine::{Controller, Settings};
use lifecycle_topology::Permissions;
use tempfile::TempDir;

pub(crate) use provider::TestProvider;
pub(crate) use raw::{Answer, events, send};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A served controller with everything in memory.
pub(crate) struct Served {
    pub(crate) controller: Controller,
    pub(crate) provider: TestProvider,
    pub(crate) host: MemoryHost,
    server: Option<Server>,
    directory: TempDir,
}

impl Served {
    pub(crate) async fn start() -> Self {
        let vendor = (registry().unwrap().vendor("linux").unwrap().make)();
        let boot = SystemClock::new().unwrap().now().boot.boot;
        let host = MemoryHost::new().with_boot(boot);
        let provider = TestProvider::new(host.provider());
        let memory = PluginName::new("memory").unwrap();
        let settings = Settings { provider: memory.clone(), backend: memory.clone(), ..Settings::default() };
        let controller = Controller::builder("/nonexistent")
            .store(Arc::new(MemoryStore::new(ControllerId::from_u64(7))))
            .settings(settings)
            .provider(memory.clone(), Arc::new(provider.clone()))
            .backend(memory, Arc::new(host.network()))
            .vendor(vendor)
            .vendor(Arc::new(shell()))
            .start()
            .await
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("run");
        std::fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        // A controller notes where its runtime directory is; commands find it there.
        std::fs::write(directory.path().join("runtime-dir"), format!("{}\n", runtime.display())).unwrap();
        let server = Server::start(&runtime.join("api.sock"), controller.clone(), Permissions::default()).unwrap();
        Self { controller, provider, host, server: Some(server), directory }
    }

    pub(crate) fn state(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/api.sock")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.socket(), self.state()).await.unwrap()
    }

    /// Brings a lab up.
    pub(crate) async fn up(&self, topology: Topology) {
        let name = topology.name.clone();
        self.controller.apply("ann", topology).await.unwrap();
        self.controller.wait(&name, PATIENCE, is_up).await.unwrap();
    }

    /// Sends a request as it stands.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> Answer {
        send(&self.socket(), method, path, &[], body).await
    }

    /// Runs the command of this package against this controller.
    pub(crate) async fn lifecycle(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifecycle"));
        command.args(arguments.split(' ')).env("LIFECYCLE_STATE_DIR", self.state()).env_remove("LIFECYCLE_LAB");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub(crate) async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.close().await;
        }
        self.controller.shutdown().await;
    }
}

/// A kind that tells its configuration, and has a program for those who open its console.
fn shell() -> DataVendor {
    let kind = serde_json::json!({
        "kind": "shell",
        "save": { "command": ["echo", "hostname n"], "file": "n.cfg" },
        "console": { "method": "exec", "command": ["cli", "-x"] },
    });
    DataVendor::new(vec![serde_json::from_value(kind).unwrap()])
}

pub(crate) fn is_up(lab: Option<&LabSnapshot>) -> bool {
    lab.is_some_and(|lab| {
        lab.nodes.iter().all(|node| node.is_ready) && lab.links.iter().all(|link| link.actual_state == LinkState::Up)
    })
}

pub(crate) fn lab_name(text: &str) -> LabName {
    LabName::new(text).unwrap()
}

pub(crate) fn node_name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// Nodes `n0`, `n1` and so on, each with a link to the next.
pub(crate) fn chain(lab: &str, size: usize) -> Topology {
    let mut topology = Topology::new(lab_name(lab), "/");
    let node = |i: usize| node_name(&format!("n{i}"));
    topology.nodes = (0..size).map(|i| NodeSpec::new(node(i), "linux")).collect();
    let end = |i: usize, port: &str| Endpoint::node(node(i), IfName::new(port).unwrap());
    topology.links = (1..size).map(|i| LinkSpec::new(end(i - 1, "eth1"), end(i, "eth2"))).collect();
    topology
}
