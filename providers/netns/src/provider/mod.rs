//! The provider itself: what the engine asks for, put into calls to the keeper.

mod client;
mod console;
mod exec;
mod images;
mod logs;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::attach::{AttachKind, AttachPoint, NsAccess, NsRef, PlaceKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{
    Capacity, Console, CreateNode, CreatedNode, Exec, HostResources, Images, InstanceRef, Logs, ObservedNode,
    PortRequest, ProviderCapabilities, ProviderEvent,
};
use lifecycle_core::plugin::{HostContext, Provider, ProviderPlugin};
use lifecycle_core::{Error, ErrorKind, Result};
use lifecycle_linux::identity::boot_id;
use lifecycle_linux::management::{Entry, Lease, Locked, Register};
use lifecycle_linux::namespace::NamespaceAccess;
use tokio::sync::Mutex;

use crate::failure::{Doing, Failure};
use crate::keeper::userns;
use crate::layout::{Layout, Mark};
use crate::mgmt::{Book, Wiring};
use crate::settings::Settings;
use crate::spec::NodeFile;
use crate::wire::{Answer, Call, Key, Status};
use client::Client;

/// What the provider is called.
const NAME: &str = "netns";
/// The provider, for a registry.
pub const PLUGIN: ProviderPlugin =
    ProviderPlugin { name: NAME, make: |context| Ok(Arc::new(NetnsProvider::new(context)?)) };

inventory::submit! { PLUGIN }

/// Runs nodes in namespaces of this machine.
#[derive(Debug)]
pub struct NetnsProvider {
    context: HostContext,
    layout: Layout,
    settings: Arc<Settings>,
    client: Client,
    access: Arc<NamespaceAccess>,
    register: Register,
    /// None until it was read from the keeper.
    book: Mutex<Option<Book>>,
}

impl NetnsProvider {
    /// Makes the provider; it touches nothing before its first call.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are not understood, `Failed` inside of a helper process: then the program that
    /// embeds the provider does not call [`helper_main`](crate::helper_main) first.
    pub fn new(context: &HostContext) -> Result<Self> {
        if std::env::var_os(client::HELPER_VARIABLE).is_some() {
            let text = "this process was started to be a keeper; call `helper_main()` on the first line of `main`";
            return Err(Error::new(ErrorKind::Failed, "make provider", text));
        }
        let settings = Arc::new(Settings::read(&context.settings)?);
        let layout = Layout::new(context);
        Ok(Self {
            client: Client::new(context, layout.clone(), Arc::clone(&settings)),
            context: context.clone(),
            layout,
            settings,
            access: Arc::new(NamespaceAccess::new()),
            register: Register::new(&context.state_dir, NAME),
            book: Mutex::new(None),
        })
    }

    async fn status(&self, instance: &InstanceRef) -> Result<Option<Status>, Failure> {
        if self.client.is_idle() {
            return Ok(None);
        }
        match self.client.call(Call::Observe(key(instance)), Duration::ZERO).await? {
            Answer::Status(status) => Ok(status.map(|status| *status)),
            other => Err(unexpected(&other)),
        }
    }

    /// The status of an instance that must exist.
    async fn existing(&self, instance: &InstanceRef) -> Result<Status, Failure> {
        let missing = || Failure::new(ErrorKind::NotFound, "there is no such instance");
        self.status(instance).await?.ok_or_else(missing)
    }

    async fn all(&self) -> Result<Vec<Status>, Failure> {
        if self.client.is_idle() {
            return Ok(Vec::new());
        }
        match self.client.call(Call::List, Duration::ZERO).await? {
            Answer::List(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    /// Carries out a call on an instance that must exist.
    async fn act(&self, call: Call, allowance: Duration) -> Result<(), Failure> {
        if self.client.is_idle() {
            return Err(Failure::new(ErrorKind::NotFound, "there is no such instance"));
        }
        match self.client.call(call, allowance).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes down who has which names and addresses, before anything of a new instance exists.
    async fn enter(&self, mark: &Mark, request: &CreateNode, names: &[String]) -> Result<Option<Lease>, Failure> {
        let mut slot = self.book.lock().await;
        let book = self.known(&mut slot).await?;
        let register = self.register().await?;
        let lease = book.lease(&register, mark, request)?;
        let entry = Entry { lab: mark.lab, names: names.to_vec(), lease: lease.clone() };
        if book.entries.insert(*mark, entry.clone()).as_ref() != Some(&entry) {
            register.write(book.entries.values(), mark.lab)?;
        }
        Ok(lease)
    }

    /// Strikes an instance out that does not exist any more. The last one of a network takes its bridge along.
    async fn strike(&self, mark: &Mark) -> Result<(), Failure> {
        let mut slot = self.book.lock().await;
        let book = self.known(&mut slot).await?;
        let Some(entry) = book.entries.remove(mark) else { return Ok(()) };
        self.register().await?.write(book.entries.values(), mark.lab)?;
        let Some(lease) = entry.lease else { return Ok(()) };
        book.gone.insert(mark.node);
        if book.uses(&lease.bridge) {
            return Ok(());
        }
        let (gone, register) = (book.gone.clone(), self.register.clone());
        self.blocking(move |wiring| {
            // Nobody comes to be on it meanwhile.
            let register = register.lock()?;
            match register.is_used_by_others(&lease.bridge) {
                true => Ok(()),
                false => wiring.remove_bridge(&lease.bridge, &gone),
            }
        })
        .await
    }

    /// The book, read from the keeper if this is the first look at it.
    async fn known<'a>(&self, slot: &'a mut Option<Book>) -> Result<&'a mut Book, Failure> {
        if slot.is_none() {
            let entries = self.all().await?.into_iter().map(|status| (status.mark, entry_of(status))).collect();
            *slot = Some(Book { entries, ..Book::default() });
        }
        slot.as_mut().ok_or_else(|| Failure::new(ErrorKind::Failed, "nobody knows which addresses are in use"))
    }

    /// The host's register, as soon as no other provider works on it.
    async fn register(&self) -> Result<Locked, Failure> {
        let register = self.register.clone();
        let locked = tokio::task::spawn_blocking(move || register.lock()).await;
        Ok(locked.map_err(std::io::Error::other).doing("look who has which address")??)
    }

    /// Works on the management network, on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wiring<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let direct = self.client.is_direct().await?;
        let (access, layout) = (Arc::clone(&self.access), self.layout.clone());
        let task = move || work(&Wiring { access: &access, layout: &layout, direct });
        tokio::task::spawn_blocking(task)
            .await
            .map_err(std::io::Error::other)
            .doing("work on the management network")?
    }

    fn namespace(&self, status: &Status, direct: bool) -> Result<NsRef, Failure> {
        let gone = || Failure::new(ErrorKind::Conflict, "its namespaces are gone; create it again, or destroy it");
        let name = status.mark.to_string();
        let access = if direct {
            NsAccess::Path { path: self.layout.pins().join(format!("{name}.net")) }
        } else {
            NsAccess::Broker { socket: self.layout.broker_socket(), name }
        };
        let boot = boot_id().doing("read the boot id")?;
        Ok(NsRef { access, cookie: status.cookie.ok_or_else(gone)?, boot })
    }

    /// What the keeper says of instances, in the words of the engine.
    async fn observed(&self, all: impl IntoIterator<Item = Status>) -> Result<Vec<ObservedNode>, Failure> {
        let mut found = Vec::new();
        for status in all {
            let namespace = match status.cookie {
                Some(_) if !status.host_network => Some(self.namespace(&status, self.client.is_direct().await?)?),
                _ => None,
            };
            found.push(ObservedNode {
                instance: reference(&status),
                lab: status.mark.lab,
                state: status.state,
                started_at: status.started_at,
                management: status.lease.map(|lease| lease.addresses).unwrap_or_default(),
                namespace,
            });
        }
        Ok(found)
    }

    async fn create(&self, request: &CreateNode) -> Result<CreatedNode, Failure> {
        let mark = Mark { node: request.node, incarnation: request.incarnation, lab: request.lab };
        let mut file = self.node_file(mark, request).await?;
        file.management = self.enter(&mark, request, &file.names).await?;
        let created = self.client.call(Call::Create(Box::new(file)), Duration::ZERO).await;
        let status = match created {
            Ok(Answer::Status(Some(status))) => *status,
            Ok(other) => return Err(unexpected(&other)),
            Err(failure) => {
                // Nothing of it exists, unless that is not known or it existed before.
                if !failure.kind.is_unknown() && !matches!(failure.kind, ErrorKind::Conflict) {
                    self.strike(&mark).await?;
                }
                return Err(failure);
            }
        };
        if let (Some(lease), Some(network)) = (status.lease.clone(), request.management.clone()) {
            let ns = self.namespace(&status, self.client.is_direct().await?)?;
            self.blocking(move |wiring| wiring.connect(&network, &mark, &lease, &ns)).await?;
        }
        let management = status.lease.as_ref().map(|lease| lease.addresses).unwrap_or_default();
        Ok(CreatedNode { instance: reference(&status), management })
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<(), Failure> {
        let Some(status) = self.status(instance).await? else {
            // Of another controller's instance nothing is said, and nothing may be done to it.
            return if self.client.is_idle() { Ok(()) } else { self.act(Call::Destroy(key(instance)), PATIENCE).await };
        };
        // Read before the instance goes, while the keeper can still tell who was on which network.
        self.known(&mut *self.book.lock().await).await?;
        self.act(Call::Destroy(key(instance)), PATIENCE).await?;
        self.strike(&status.mark).await
    }

    /// What the keeper is told of a new instance.
    async fn node_file(&self, mark: Mark, request: &CreateNode) -> Result<NodeFile, Failure> {
        let network = self.network(request).await?;
        let (settings, layout, context) = (Arc::clone(&self.settings), self.layout.clone(), self.context.clone());
        let request = request.clone();
        let identifier = self.node_identifier(request.node, &request.long_name);
        let make = move || request::node_file(&settings, &layout, &context, &request, mark, network, identifier);
        tokio::task::spawn_blocking(make).await.map_err(std::io::Error::other).doing("prepare the node")?
    }
}

/// How long a destruction may take: a node may have written very much.
const PATIENCE: Duration = Duration::from_secs(300);

const fn key(instance: &InstanceRef) -> Key {
    Key { node: instance.node, incarnation: instance.incarnation }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new(ErrorKind::Failed, format!("the keeper gave an answer that does not fit: {answer:?}"))
}

fn entry_of(status: Status) -> Entry {
    Entry { lab: status.mark.lab, names: status.names, lease: status.lease }
}

fn reference(status: &Status) -> InstanceRef {
    let Mark { node, incarnation, .. } = status.mark;
    InstanceRef { node, incarnation, identifier: status.identifier.clone() }
}

#[async_trait]
impl Provider for NetnsProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        let mut missing = BTreeMap::new();
        if !userns::is_direct() {
            for (name, reason) in [
                ("host-network", "an ordinary user's nodes cannot use the host's network; run as root"),
                ("management-from-host", "the management network of an ordinary user is not reachable from the host"),
            ] {
                missing.insert(name.to_owned(), reason.to_owned());
            }
            if !userns::has_range() {
                let reason = "nodes know root only: newuidmap or a range in /etc/subuid and /etc/subgid is missing";
                missing.insert("users".to_owned(), reason.to_owned());
            }
        }
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
            concurrency: available_parallelism().map_or(2, |count| count.get() * 2),
            missing,
        }
    }

    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        format!("{long_name}.{node}")
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        self.create(request).await.map_err(|failure| failure.during("create node", &request.long_name))
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        let started = self.act(Call::Start(key(instance)), Duration::ZERO).await;
        started.map_err(|failure| failure.during("start node", instance))
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stopped = self.act(Call::Stop { key: key(instance), grace_millis }, grace).await;
        stopped.map_err(|failure| failure.during("stop node", instance))
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        self.destroy(instance).await.map_err(|failure| failure.during("destroy node", instance))
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        let all = self.all().await.map_err(|failure| failure.during("list nodes", ""))?;
        self.observed(all).await.map_err(|failure| failure.during("list nodes", ""))
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        let observe = async { self.observed(self.status(instance).await?).await };
        let mut found = observe.await.map_err(|failure: Failure| failure.during("observe node", instance))?;
        Ok(found.pop())
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        Box::pin(self.client.watch())
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let place = async {
            let status = self.existing(instance).await?;
            if status.host_network {
                return Ok(AttachKind::HostNet);
            }
            Ok(AttachKind::Namespace(self.namespace(&status, self.client.is_direct().await?)?))
        };
        let place = place.await.map_err(|failure: Failure| failure.during("attach point", instance))?;
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
impl HostResources for NetnsProvider {
    async fn capacity(&self) -> Result<Capacity> {
        let text = std::fs::read_to_string("/proc/meminfo");
        let kib = text.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim();
            line.strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        let cpus = available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Capacity { memory: kib.unwrap_or(0) * 1024, cpu: cpus as f64 })
    }
}
