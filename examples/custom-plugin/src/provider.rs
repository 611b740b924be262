//! The provider `process`: nodes are plain processes with a directory of their own.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::id::{ControllerId, NodeId};
use lifecycle_core::plugin::provider::*;
use lifecycle_core::plugin::{HostContext, Provider, ProviderPlugin};
use lifecycle_core::topology::NodeSpec;
use lifecycle_core::{Error, ErrorKind, Result};
use rustix::process::Signal;

use crate::files::{self, failed};
use crate::instance::{Instance, Mark};
use crate::{news, place, supervisor};

/// The provider as a plugin.
pub const PLUGIN: ProviderPlugin = ProviderPlugin { name: "process", make: |context| Ok(Processes::new(context)) };

inventory::submit! { PLUGIN }

/// Time between two looks at a process that is on its way up or down.
const SOON: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct Processes {
    /// Where the instances are.
    root: PathBuf,
    controller: ControllerId,
    helper: PathBuf,
    /// For those who watch, who do not keep the provider alive.
    this: Weak<Self>,
}

impl Processes {
    fn new(context: &HostContext) -> Arc<Self> {
        let helper = context.helper.clone().unwrap_or_else(|| "/proc/self/exe".into());
        let (root, controller) = (context.runtime_dir.join("process"), context.controller);
        Arc::new_cyclic(|this| Self { root, controller, helper, this: this.clone() })
    }

    /// The directory that is, or would be, the instance of a node.
    fn dir(&self, node: NodeId) -> PathBuf {
        self.root.join(node.to_string())
    }

    /// A directory for what is half made or half removed. It bears no node's name, so that nobody lists it.
    fn aside(&self, node: NodeId) -> PathBuf {
        self.root.join(format!(".{node}"))
    }

    /// The instance in a directory; nothing when that is not one of ours.
    fn read(&self, dir: PathBuf) -> io::Result<Option<Instance>> {
        match files::read::<Mark>(&dir.join("mark")) {
            Ok(mark) => Ok(mark.filter(|mark| mark.controller == self.controller).map(|mark| Instance { dir, mark })),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Our instance of just this incarnation.
    fn find(&self, wanted: &InstanceRef, operation: &'static str) -> Result<Option<Instance>> {
        let error = |kind, message: String| Err(Error::new(kind, operation, message).about(wanted));
        let dir = self.dir(wanted.node);
        match self.read(dir.clone()).map_err(|cause| failed(operation, wanted, cause))? {
            Some(found) if found.mark.incarnation == wanted.incarnation => Ok(Some(found)),
            Some(found) => error(ErrorKind::Conflict, format!("incarnation {} is there", found.mark.incarnation)),
            None if !dir.exists() => Ok(None),
            None => error(ErrorKind::Foreign, format!("{} is not ours; move it away", dir.display())),
        }
    }

    fn existing(&self, wanted: &InstanceRef, operation: &'static str) -> Result<Instance> {
        let none = || Error::new(ErrorKind::NotFound, operation, "there is no instance").about(wanted);
        self.find(wanted, operation)?.ok_or_else(none)
    }

    fn list(&self) -> io::Result<Vec<ObservedNode>> {
        let mut found = Vec::new();
        if !self.root.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            if let Some(node) = name.to_str().and_then(|name| name.parse().ok())
                && let Some(instance) = self.read(self.dir(node))?
            {
                found.push(instance.observed()?);
            }
        }
        Ok(found)
    }

    /// Makes an instance aside and moves it to its place: it exists with its mark, or not at all.
    fn make(&self, request: &CreateNode, argv: Vec<String>) -> io::Result<()> {
        let &CreateNode { node, incarnation, lab, .. } = request;
        let aside = self.aside(node);
        files::remove(&aside)?;
        place::create(&aside.join("ports"))?;
        File::create(aside.join("lock"))?;
        let env = request.spec.env.clone();
        files::write(&aside.join("mark"), &Mark { controller: self.controller, node, incarnation, lab, argv, env })?;
        fs::rename(aside, self.dir(node))
    }

    async fn start(&self, found: &Instance) -> io::Result<()> {
        let lock = loop {
            if found.state()? == InstanceState::Running {
                return Ok(());
            }
            if let Some(lock) = found.lock()? {
                break lock;
            }
            // It is starting, or somebody has the lock for a moment to see whether anybody has it.
            tokio::time::sleep(SOON).await;
        };
        for old in ["process", "exit", "failure"] {
            files::remove(&found.dir.join(old))?;
        }
        supervisor::spawn(&self.helper, &found.dir, lock)?;
        while found.state()? == InstanceState::Starting {
            tokio::time::sleep(SOON).await;
        }
        match found.state()? {
            InstanceState::Created => Err(io::Error::other(match files::read(&found.dir.join("failure"))? {
                Some(failure) => failure,
                None => "does the program's `main` begin with `helper_main()`?".to_owned(),
            })),
            _ => Ok(()),
        }
    }

    /// Ends the processes of an instance: politely, and by force once `grace` is over.
    async fn end(&self, found: &Instance, grace: Duration) -> io::Result<()> {
        let (begun, mut sent) = (Instant::now(), None);
        while matches!(found.state()?, InstanceState::Running | InstanceState::Starting) {
            let signal = if begun.elapsed() < grace { Signal::TERM } else { Signal::KILL };
            if sent != Some(signal) && found.signal(signal)? {
                sent = Some(signal);
            }
            tokio::time::sleep(SOON).await;
        }
        Ok(())
    }
}

/// What a node runs. What a plain process cannot have is refused by name, never left out in silence.
fn command(spec: &NodeSpec) -> Result<Vec<String>> {
    let asked = [
        ("image", spec.image.is_some()),
        ("binds", !spec.binds.is_empty()),
        ("tmpfs", !spec.tmpfs.is_empty()),
        ("sysctls", !spec.sysctls.is_empty()),
        ("dns", spec.dns != Default::default()),
        ("user", spec.user.is_some()),
        ("limits", spec.resources != Default::default()),
        ("healthcheck", spec.healthcheck.is_some()),
    ];
    let refused: Vec<_> = asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect();
    let argv: Vec<_> = [&spec.entrypoint, &spec.cmd].into_iter().flatten().flatten().cloned().collect();
    let (kind, message) = match (refused.is_empty(), argv.is_empty()) {
        (true, false) => return Ok(argv),
        (true, true) => (ErrorKind::InvalidInput, "say with `cmd` what it runs".to_owned()),
        (false, _) => (ErrorKind::Unsupported, format!("a plain process has no {}", refused.join(", no "))),
    };
    Err(Error::new(kind, "create node", message).about(&spec.name))
}

#[async_trait]
impl Provider for Processes {
    fn capabilities(&self) -> ProviderCapabilities {
        let missing = [("management".to_owned(), "a process has no address of its own".to_owned())];
        ProviderCapabilities {
            place: PlaceKind::Namespace,
            restart_keeps_interfaces: true,
            missing: missing.into(),
            ..ProviderCapabilities::default()
        }
    }

    fn node_identifier(&self, node: NodeId, _long_name: &str) -> String {
        node.to_string()
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        let &CreateNode { node, incarnation, .. } = request;
        let instance = InstanceRef { node, incarnation, identifier: self.node_identifier(node, &request.long_name) };
        if self.find(&instance, "create node")?.is_none() {
            let argv = command(&request.spec)?;
            self.make(request, argv).map_err(|cause| failed("create node", &instance, cause))?;
        }
        Ok(CreatedNode { instance, management: ManagementAddresses::default() })
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        let found = self.existing(instance, "start node")?;
        self.start(&found).await.map_err(|cause| failed("start node", instance, cause))
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        let found = self.existing(instance, "stop node")?;
        self.end(&found, grace).await.map_err(|cause| failed("stop node", instance, cause))
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        let error = |cause| failed("destroy node", instance, cause);
        let aside = self.aside(instance.node);
        if let Some(found) = self.find(instance, "destroy node")? {
            self.end(&found, Duration::ZERO).await.map_err(error)?;
            files::remove(&aside).and_then(|()| fs::rename(&found.dir, &aside)).map_err(error)?;
        }
        files::remove(&aside).map_err(error)
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        self.list().map_err(|cause| failed("list nodes", self.root.display(), cause))
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        match self.find(instance, "observe node") {
            Ok(None) => Ok(None),
            Ok(Some(found)) => found.observed().map(Some).map_err(|cause| failed("observe node", instance, cause)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        let this = self.this.clone();
        let look = move || {
            let nodes = this.upgrade()?.list().unwrap_or_default();
            Some(nodes.into_iter().map(|node| (node.instance, (node.state, node.started_at))).collect())
        };
        news::changes(look).map(ProviderEvent::Changed).boxed()
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let found = self.existing(instance, "find attach point")?;
        let ports = place::describe(&found.dir.join("ports"));
        let place = AttachKind::Namespace(ports.map_err(|cause| failed("find attach point", instance, cause))?);
        Ok(port.at(instance, place))
    }
}
