//! The provider itself: what the engine asks for, put into calls to the daemon.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{
    Capacity, Console, CreateNode, CreatedNode, Exec, HostResources, Images, InstanceRef, InstanceState, Logs,
    ManagementAddresses, ObservedNode, PortRequest, ProviderCapabilities, ProviderEvent,
};
use lifecycle_core::plugin::{HostContext, Provider, ProviderPlugin};
use lifecycle_core::topology::{ManagementNetwork, NetworkMode};
use lifecycle_core::{ErrorKind, Result};
use lifecycle_crash::crash_point;
use lifecycle_linux::namespace::NamespaceAccess;
use tokio::sync::watch;

use crate::client::{Client, already};
use crate::failure::Failure;
use crate::mark::{self, Mark, Owner, Part};
use crate::observe::{self, Container, LOOK, Network, Parts, Place};
use crate::settings::Settings;
use crate::{events, holder, management, spec};

/// Nodes as containers of Docker, for a registry.
pub const DOCKER: ProviderPlugin = ProviderPlugin {
    name: "docker",
    make: |context| Ok(Arc::new(ContainerProvider::new("docker", "unix:///run/docker.sock", context)?)),
};

/// Nodes as containers of Podman, which is spoken to as if it were Docker, for a registry.
pub const PODMAN: ProviderPlugin = ProviderPlugin {
    name: "podman",
    make: |context| Ok(Arc::new(ContainerProvider::new("podman", "unix:///run/podman/podman.sock", context)?)),
};

inventory::submit! { DOCKER }
inventory::submit! { PODMAN }

/// Attempts to hold a namespace on a network that others remove as they go.
const ATTEMPTS: usize = 5;
/// Instances that are looked at at once.
const AT_ONCE: usize = 8;

/// Runs nodes as containers of a daemon on this machine.
#[derive(Debug)]
pub struct ContainerProvider {
    /// By which labs ask for it, and the name of its command.
    pub(crate) name: &'static str,
    pub(crate) client: Arc<Client>,
    owner: Owner,
    access: Arc<NamespaceAccess>,
    /// Ends the news when it goes.
    alive: watch::Sender<()>,
}

impl ContainerProvider {
    /// Makes the provider called `name`, whose daemon listens at `endpoint` unless the settings have another; it touches
    /// nothing before its first call.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are not understood.
    pub fn new(name: &'static str, endpoint: &str, context: &HostContext) -> Result<Self> {
        let settings = Settings::read(&context.settings, name)?;
        let client = Client::new(settings, endpoint).map_err(|failure| failure.during("make provider", name))?;
        Ok(Self {
            name,
            client: Arc::new(client),
            owner: Owner::of(context),
            access: Arc::new(NamespaceAccess::new()),
            alive: watch::Sender::new(()),
        })
    }

    /// The containers of an instance.
    async fn parts(&self, instance: &InstanceRef) -> Result<Option<Parts>, Failure> {
        if let Some(found) = observe::whole(&self.client, &self.owner, instance).await? {
            return Ok(Some(found));
        }
        let all = observe::instances(&self.client, &self.owner, Some(instance.node)).await?;
        Ok(all.into_iter().find(|parts| parts.mark.instance.incarnation == instance.incarnation))
    }

    /// The containers of an instance that must exist.
    pub(crate) async fn existing(&self, instance: &InstanceRef) -> Result<Parts, Failure> {
        let missing = || Failure::new(ErrorKind::NotFound, "there is no such instance");
        self.parts(instance).await?.ok_or_else(missing)
    }

    /// Makes a container, unless it is there already.
    async fn make(&self, mark: &Mark, part: Part, body: ContainerCreateBody) -> Result<Made, Failure> {
        let name = part.name(&mark.instance.identifier);
        let began = Instant::now();
        loop {
            let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
            let body = body.clone();
            let made = self
                .client
                .act(Duration::ZERO, async |docker| docker.create_container(Some(options), body).await)
                .await;
            match made {
                Ok(made) => return Ok(Made::New(made.id)),
                Err(failure) if failure.kind == ErrorKind::Conflict => {
                    match Container::find(&self.client, &name).await? {
                        Some(found) if !matches!(found.status(), Status::REMOVING | Status::DEAD) => {
                            return ours(found, mark, part).map(Made::Before);
                        }
                        // The name is taken, but it is not yet or no longer a container's.
                        _ if began.elapsed() < self.client.settings().deadline() => tokio::time::sleep(LOOK).await,
                        _ => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn start(&self, id: &str) -> Result<(), Failure> {
        let options = None::<StartContainerOptions>;
        let started = self.client.act(Duration::ZERO, async |docker| docker.start_container(id, options).await).await;
        already(started)
    }

    /// Makes the container that holds an instance's network namespace, and has it hold.
    async fn hold(&self, request: &CreateNode, mark: &Mark) -> Result<(String, ManagementAddresses), Failure> {
        let network = management_of(request);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.hold_once(request, mark, network).await {
                // The last node of a network took it along, or the image is not there yet or no longer.
                Err(failure) if failure.kind == ErrorKind::NotFound && attempt < ATTEMPTS => {
                    holder::ensure(&self.client).await?;
                }
                other => return other,
            }
        }
    }

    async fn hold_once(
        &self,
        request: &CreateNode,
        mark: &Mark,
        network: Option<&ManagementNetwork>,
    ) -> Result<(String, ManagementAddresses), Failure> {
        if let Some(network) = network {
            management::ensure(&self.client, network).await?;
        }
        let body = spec::holder(request, mark, holder::name()?, network)?;
        let made = self.make(mark, Part::Holder, body).await?;
        crash_point("container-holder-made");
        match made.status() {
            Status::RUNNING | Status::PAUSED => {}
            Status::CREATED => self.start(made.id()).await?,
            // Started once more, it would hold another namespace than the one that things were attached to.
            _ => return Err(Failure::new(ErrorKind::Conflict, "its network namespace is gone; destroy it first")),
        }
        crash_point("container-holder-started");
        // Addresses are the daemon's to tell.
        let addresses = match network {
            None => ManagementAddresses::default(),
            Some(_) => {
                let found = Container::find(&self.client, made.id()).await?;
                let conflict = |text: &str| Failure::new(ErrorKind::Conflict, text);
                let found = found.ok_or_else(|| conflict("its holder was removed as soon as it was made"))?;
                if found.network().is_none() {
                    return Err(conflict("its holder was taken off its network; destroy it first"));
                }
                found.addresses()
            }
        };
        Ok((made.id().to_owned(), addresses))
    }

    /// In the daemon's words, whose network an instance uses.
    async fn network(&self, request: &CreateNode, mark: &Mark) -> Result<(String, ManagementAddresses), Failure> {
        let joined = |id: &str| (format!("container:{id}"), ManagementAddresses::default());
        match &request.spec.network_mode {
            NetworkMode::Own | NetworkMode::None => {
                let (id, addresses) = self.hold(request, mark).await?;
                Ok((joined(&id).0, addresses))
            }
            NetworkMode::Host => Ok(("host".to_owned(), ManagementAddresses::default())),
            NetworkMode::Node(name) => {
                let all = observe::instances(&self.client, &self.owner, None).await?;
                let is_it = |mark: &Mark| mark.lab == request.lab && mark.name == name.as_str();
                let found = all.into_iter().filter(|parts| is_it(&parts.mark)).find_map(|parts| parts.holder);
                found.map(|holder| joined(holder.id())).ok_or_else(|| {
                    let text = format!("node `{name}`, whose network it shares, was not created yet");
                    Failure::new(ErrorKind::Conflict, text)
                })
            }
            NetworkMode::External(name) => {
                let found = Container::find(&self.client, name).await?;
                found.map(|container| joined(container.id())).ok_or_else(|| {
                    let text = format!("container `{name}`, whose network it shares, does not exist");
                    Failure::new(ErrorKind::Conflict, text)
                })
            }
        }
    }

    async fn create(&self, request: &CreateNode) -> Result<CreatedNode, Failure> {
        let instance = InstanceRef {
            node: request.node,
            incarnation: request.incarnation,
            identifier: self.node_identifier(request.node, &request.long_name),
        };
        let mark = Mark {
            owner: self.owner.clone(),
            lab: request.lab,
            name: request.name.to_string(),
            instance: instance.clone(),
        };
        // Refused before anything exists of it.
        let fixed = [request.spec.mgmt_ipv4.map(IpAddr::V4), request.spec.mgmt_ipv6.map(IpAddr::V6)];
        management::check_fixed(management_of(request), fixed)?;
        let mut body = spec::node(request, &mark, self.client.settings(), self.name)?;
        let made = async {
            let (network, management) = self.network(request, &mark).await?;
            if let Some(host) = &mut body.host_config {
                host.network_mode = Some(network);
            }
            self.make(&mark, Part::Node, body).await.map_err(image_missing)?;
            crash_point("container-made");
            Ok::<_, Failure>(management)
        };
        match made.await {
            Ok(management) => Ok(CreatedNode { instance, management }),
            Err(failure) => {
                // Nothing stays of what was refused, unless that is not known, or all of it was there before.
                let known = !failure.is_of_connection() && failure.kind != ErrorKind::Conflict;
                if known && self.parts(&instance).await?.is_some_and(|parts| parts.node.is_none()) {
                    self.destroy(&instance).await?;
                }
                Err(failure)
            }
        }
    }

    async fn begin(&self, instance: &InstanceRef) -> Result<(), Failure> {
        let parts = self.existing(instance).await?;
        let broken = |text: &str| Failure::new(ErrorKind::Conflict, format!("{text}; it has to be made anew"));
        if let Network::Gone(reason) = parts.network(&self.client).await? {
            return Err(broken(reason));
        }
        let node = parts.node.ok_or_else(|| broken("its container was removed"))?;
        match node.state() {
            InstanceState::Running => Ok(()),
            InstanceState::Paused => {
                self.client.act(Duration::ZERO, async |docker| docker.unpause_container(node.id()).await).await
            }
            _ => {
                let started = self.start(node.id()).await;
                crash_point("container-started");
                started.map_err(|mut failure| {
                    // A program that is not there or not to be run says so here; the request itself was understood before.
                    if failure.kind == ErrorKind::InvalidInput {
                        failure.kind = ErrorKind::Failed;
                    }
                    failure
                })
            }
        }
    }

    async fn halt(&self, instance: &InstanceRef, grace: Duration) -> Result<(), Failure> {
        // What was half removed does not run; to start it again is another matter.
        let Some(node) = self.existing(instance).await?.node else { return Ok(()) };
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptions { signal: None, t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)) };
        let limit = Duration::from_secs(seconds);
        let ended = self.client.act(limit, async |docker| docker.stop_container(node.id(), Some(options)).await).await;
        crash_point("container-stopped");
        already(ended)
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<(), Failure> {
        let parts = self.parts(instance).await?;
        let (node, holder) = parts.map_or((None, None), |parts| (parts.node, parts.holder));
        // The node first: without it nobody misses what is held.
        if let Some(node) = node {
            self.remove(node.id()).await?;
            crash_point("container-removed");
        }
        let Some(holder) = holder else {
            // Somebody else removed it, and not its network.
            return management::release(&self.client).await;
        };
        // Its network goes before it does: once nothing is left of an instance, nobody comes back for the rest.
        if holder.was_made_for_network() {
            if let Some(network) = holder.network() {
                management::leave(&self.client, network, holder.id()).await?;
            }
            management::release(&self.client).await?;
        }
        self.remove(holder.id()).await?;
        crash_point("container-holder-removed");
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed =
            self.client.act(Duration::ZERO, async |docker| docker.remove_container(id, Some(options)).await).await;
        let Err(failure) = removed else { return Ok(()) };
        match failure.kind {
            ErrorKind::NotFound => Ok(()),
            // It is being removed for somebody else; that is waited for.
            ErrorKind::Conflict => {
                let began = Instant::now();
                while Container::find(&self.client, id).await?.is_some() {
                    if began.elapsed() > self.client.settings().deadline() {
                        return Err(failure);
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Ok(())
            }
            _ => Err(failure),
        }
    }

    async fn all(&self) -> Result<Vec<ObservedNode>, Failure> {
        let all = observe::instances(&self.client, &self.owner, None).await?;
        let look = async |parts: Parts| parts.observed(&self.client, &self.access).await;
        stream::iter(all).map(look).buffered(AT_ONCE).try_collect().await
    }

    async fn one(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>, Failure> {
        match self.parts(instance).await? {
            None => Ok(None),
            Some(parts) => parts.observed(&self.client, &self.access).await.map(Some),
        }
    }

    async fn attach(&self, instance: &InstanceRef) -> Result<AttachKind, Failure> {
        match self.existing(instance).await?.place(&self.client, &self.access).await? {
            Place::Host => Ok(AttachKind::HostNet),
            Place::Namespace(ns) => Ok(AttachKind::Namespace(ns)),
            Place::Gone(reason) => Err(Failure::new(ErrorKind::Conflict, reason)),
        }
    }
}

/// A container that was asked for.
enum Made {
    /// By its identifier, not started yet.
    New(String),
    /// It was there already, and is as it is.
    Before(Container),
}

impl Made {
    fn id(&self) -> &str {
        match self {
            Self::New(id) => id,
            Self::Before(container) => container.id(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::New(_) => Status::CREATED,
            Self::Before(container) => container.status(),
        }
    }
}

/// The management network that a new instance is on.
fn management_of(request: &CreateNode) -> Option<&ManagementNetwork> {
    request.management.as_ref().filter(|_| request.spec.network_mode == NetworkMode::Own)
}

/// A container that stands under the name of an instance's, if it is that one.
fn ours(found: Container, mark: &Mark, part: Part) -> Result<Container, Failure> {
    let is_ours = |(other, its): &(Mark, Part)| {
        (other.owner.controller, other.instance.node, *its) == (mark.owner.controller, mark.instance.node, part)
    };
    match found.mark().filter(is_ours) {
        Some((other, _)) if other == *mark => Ok(found),
        Some((other, _)) => {
            let text = format!("{} is still there", other.instance);
            Err(Failure::new(ErrorKind::Conflict, text))
        }
        None => {
            let text = format!("container {} is not ours and bears the node's name; remove or rename it", found.id());
            Err(Failure::new(ErrorKind::Foreign, text))
        }
    }
}

/// What is not found when a node's container is made is its image.
fn image_missing(mut failure: Failure) -> Failure {
    if failure.kind == ErrorKind::NotFound {
        failure.kind = ErrorKind::ImageUnavailable;
    }
    failure
}

#[async_trait]
impl Provider for ContainerProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        let absent = self.client.absent().map(|reason| {
            let reason = format!("{reason}; install and start {}, or name its `endpoint` in the settings", self.name);
            ("daemon".to_owned(), reason)
        });
        ProviderCapabilities {
            place: PlaceKind::Namespace,
            exec: true,
            logs: true,
            console: true,
            images: true,
            carrier: false,
            resources: true,
            media: false,
            restart_keeps_interfaces: true,
            concurrency: self.client.settings().concurrency,
            missing: absent.into_iter().collect::<BTreeMap<_, _>>(),
        }
    }

    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        mark::identifier(node, long_name)
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        self.create(request).await.map_err(|failure| failure.during("create node", &request.long_name))
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        self.begin(instance).await.map_err(|failure| failure.during("start node", instance))
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        self.halt(instance, grace).await.map_err(|failure| failure.during("stop node", instance))
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        self.destroy(instance).await.map_err(|failure| failure.during("destroy node", instance))
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        self.all().await.map_err(|failure| failure.during("list nodes", ""))
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        self.one(instance).await.map_err(|failure| failure.during("observe node", instance))
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        events::watch(Arc::clone(&self.client), self.owner.clone(), self.alive.subscribe())
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let place = self.attach(instance).await.map_err(|failure| failure.during("attach point", instance))?;
        Ok(port.at(instance, place))
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }

    fn console(&self) -> Option<&dyn Console> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }

    fn resources(&self) -> Option<&dyn HostResources> {
        Some(self)
    }
}

#[async_trait]
impl HostResources for ContainerProvider {
    async fn capacity(&self) -> Result<Capacity> {
        let info = self.client.ask(async |docker| docker.info().await).await;
        let info = info.map_err(|failure| failure.during("read capacity", self.name))?;
        let memory = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        Ok(Capacity { memory, cpu: info.ncpu.unwrap_or(0) as f64 })
    }
}
