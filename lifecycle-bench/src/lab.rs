//! Labs under a whole controller: SQLite, namespaces, veth pairs, in directories of their own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lifecycle_core::Registry;
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::name::{IfName, LabName, NodeName};
use lifecycle_core::topology::{Endpoint, LinkSpec, NodeSpec, Topology};
use lifecycle_engine::decide::World;
use lifecycle_engine::{Builder, Controller};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::Value;
use tempfile::TempDir;

use crate::measure::{Result, millis};
use crate::process;

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A controller with directories of its own.
#[derive(Debug)]
pub(crate) struct Bench {
    _state: TempDir,
    runtime: TempDir,
    pub(crate) controller: Controller,
}

/// Runs something with a controller, and leaves nothing behind, also when it fails or is interrupted.
pub(crate) fn with<T>(work: impl AsyncFnOnce(&Bench) -> Result<T>) -> Result<T> {
    run(|builder| builder, work)
}

/// The same with settings for a plugin.
pub(crate) fn with_plugin<T>(name: &str, settings: Value, work: impl AsyncFnOnce(&Bench) -> Result<T>) -> Result<T> {
    run(|builder| builder.plugin_settings(name, settings), work)
}

fn run<T>(set: impl FnOnce(Builder) -> Builder, work: impl AsyncFnOnce(&Bench) -> Result<T>) -> Result<T> {
    lifecycle_linux::limits::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let bench = Bench::start(set).await?;
        let done = tokio::select! {
            done = work(&bench) => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        };
        bench.clear().await?;
        done
    })
}

impl Bench {
    async fn start(set: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let (state, runtime) = (tempfile::tempdir()?, in_memory()?);
        let builder = Controller::builder(state.path()).runtime_dir(runtime.path()).registry(Registry::discover()?);
        let controller = set(builder).start().await?;
        Ok(Self { _state: state, runtime, controller })
    }

    /// The process that keeps the namespaces.
    pub(crate) fn keeper(&self) -> Result<u32> {
        let all = process::of_directory(self.runtime.path())?;
        let keeper = all.into_iter().find(|(_, name)| name == "lc-keeper");
        Ok(keeper.ok_or("there is no keeper")?.0)
    }

    async fn clear(self) -> Result<()> {
        for lab in self.controller.labs().await? {
            self.down(&lab.name).await?;
        }
        let Self { _state, runtime, controller } = self;
        controller.shutdown().await;
        // The keeper ends by itself once there is nothing left to keep and nobody talks to it.
        drop(controller);
        let begin = Instant::now();
        loop {
            let left = process::of_directory(runtime.path())?;
            if left.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("left behind: {left:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Brings a lab up, every node running and every link verified; returns how long that took, in milliseconds.
    pub(crate) async fn up(&self, topology: Topology) -> Result<f64> {
        let lab = topology.name.clone();
        let begin = Instant::now();
        self.controller.apply("bench", topology).await?;
        self.until("the lab is up", move |world| is_up(world, &lab)).await?;
        Ok(millis(begin))
    }

    /// Takes a lab down; returns how long it took until nothing of it was recorded any more, in milliseconds.
    pub(crate) async fn down(&self, lab: &LabName) -> Result<f64> {
        let (begin, name) = (Instant::now(), lab.clone());
        self.controller.destroy("bench", lab.clone()).await?;
        self.until("the lab is gone", move |world| world.lab_by_name(&name).is_none()).await?;
        Ok(millis(begin))
    }

    /// Waits until something holds of the world. Looks every millisecond at first, and later so seldom that looking, which
    /// costs the engine something, adds a hundredth to what is measured.
    pub(crate) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&World) -> bool + Clone + Send + 'static,
    ) -> Result<()> {
        let begin = Instant::now();
        while !self.controller.read(holds.clone()).await? {
            if begin.elapsed() > PATIENCE {
                return Err(format!("this did not come true within {PATIENCE:?}: {what}").into());
            }
            tokio::time::sleep((begin.elapsed() / 100).clamp(Duration::from_millis(1), Duration::from_millis(20)))
                .await;
        }
        Ok(())
    }
}

/// A directory for sockets and pins: in memory, as a controller's is by default, where the machine has such a place.
fn in_memory() -> Result<TempDir> {
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places: Vec<PathBuf> = user.into_iter().chain(["/run", "/dev/shm", "/tmp"].map(PathBuf::from)).collect();
    // Some small machines have `/run` on their disk.
    let is_memory = |place: &&PathBuf| statfs(*place).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    let made = places
        .iter()
        .filter(is_memory)
        .chain(&places)
        .find_map(|place| tempfile::Builder::new().prefix("lcb").tempdir_in(place).ok());
    made.ok_or_else(|| "there is no directory for sockets".into())
}

/// Whether every node of a lab runs and every link was verified.
pub(crate) fn is_up(world: &World, lab: &LabName) -> bool {
    world.lab_by_name(lab).is_some_and(|lab| {
        world.nodes_of(lab.id).all(|node| node.actual == NodeState::Running)
            && world.links_of(lab.id).all(|link| link.actual == LinkState::Up)
    })
}

/// The name of the one lab that a row has at a time.
pub(crate) fn name() -> Result<LabName> {
    Ok(LabName::new("bench")?)
}

/// The name of a node by its number.
pub(crate) fn node_name(number: usize) -> Result<NodeName> {
    Ok(NodeName::new(format!("n{number}"))?)
}

/// Nodes that idle, and links between the given pairs of them.
fn topology(nodes: usize, links: impl IntoIterator<Item = (usize, usize)>) -> Result<Topology> {
    let mut topology = Topology::new(name()?, "/");
    topology.nodes = (0..nodes).map(|number| Ok(NodeSpec::new(node_name(number)?, "linux"))).collect::<Result<_>>()?;
    let mut used = vec![0; nodes];
    let mut end = |number: usize| -> Result<Endpoint> {
        used[number] += 1;
        Ok(Endpoint::node(node_name(number)?, IfName::new(format!("eth{}", used[number]))?))
    };
    topology.links = links.into_iter().map(|(a, b)| Ok(LinkSpec::new(end(a)?, end(b)?))).collect::<Result<_>>()?;
    Ok(topology)
}

/// Nodes in a row, each linked to the next.
pub(crate) fn chain(nodes: usize) -> Result<Topology> {
    topology(nodes, (1..nodes).map(|number| (number - 1, number)))
}

/// Nodes in a ring, each linked to the next and to the seventh after it: twice as many links as nodes.
pub(crate) fn mesh(nodes: usize) -> Result<Topology> {
    topology(nodes, (0..nodes).flat_map(|number| [(number, (number + 1) % nodes), (number, (number + 7) % nodes)]))
}
