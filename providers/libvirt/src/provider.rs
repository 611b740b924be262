//! The provider itself: what the engine asks for, put into work for the threads that speak to libvirt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::Result;
use lifecycle_core::attach::{AttachPoint, PlaceKind};
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{
    Capacity, Carrier, Console, CreateNode, CreatedNode, Exec, HostResources, Images, InstanceRef, Logs, ObservedNode,
    PortRequest, ProviderCapabilities, ProviderEvent,
};
use lifecycle_core::plugin::{HostContext, Provider, ProviderPlugin};
use tokio::sync::{Notify, watch};

use crate::crew::Crew;
use crate::daemon::Daemon;
use crate::failure::Outcome;
use crate::files::Files;
use crate::life::Yard;
use crate::management::Management;
use crate::mark::{self, Owner};
use crate::settings::{Acceleration, Settings};

/// Nodes as virtual machines of libvirt, for a registry.
pub const PLUGIN: ProviderPlugin =
    ProviderPlugin { name: "libvirt", make: |context| Ok(Arc::new(LibvirtProvider::new(context)?)) };

inventory::submit! { PLUGIN }

/// How often a machine that was asked to end is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is asked again: one that is still booting does not hear its power button.
const AGAIN: Duration = Duration::from_secs(3);

/// Runs nodes as virtual machines of a daemon on this machine.
#[derive(Debug)]
pub struct LibvirtProvider {
    yard: Arc<Yard>,
    crew: Arc<Crew>,
    /// Has whoever watches look at once.
    done: Arc<Notify>,
    /// Ends the news when it goes.
    alive: watch::Sender<()>,
}

impl LibvirtProvider {
    /// Makes the provider; it touches nothing before its first call.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are not understood.
    pub fn new(context: &HostContext) -> Result<Self> {
        let settings = Settings::read(&context.settings)?;
        let owner = Owner::of(context);
        let crew = Arc::new(Crew::new(&settings)?);
        let files = Files::new(&settings.directory, &owner);
        let management = Management::new(&context.state_dir, &settings, &files);
        let yard = Arc::new(Yard { settings, owner, files, management });
        Ok(Self { yard, crew, done: Arc::new(Notify::new()), alive: watch::Sender::new(()) })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.yard.settings
    }

    pub(crate) const fn yard(&self) -> &Arc<Yard> {
        &self.yard
    }

    pub(crate) const fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Does something about an instance.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        instance: &InstanceRef,
        work: impl FnOnce(&Yard, &mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let (yard, done) = (Arc::clone(&self.yard), Arc::clone(&self.done));
        let work = move |daemon: &mut Daemon| {
            let outcome = work(&yard, daemon);
            done.notify_one();
            outcome
        };
        self.crew.act(instance.node, work).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Yard, &mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let yard = Arc::clone(&self.yard);
        self.crew.ask(move |daemon| work(&yard, daemon)).await
    }

    async fn stop(&self, instance: &InstanceRef, grace: Duration) -> Outcome<()> {
        let (began, mut asked) = (Instant::now(), None::<Instant>);
        let how = loop {
            let about = instance.clone();
            let is_due = asked.is_none_or(|at| at.elapsed() >= AGAIN);
            let runs = match is_due && !grace.is_zero() {
                true => self.act(instance, move |yard, daemon| yard.ask_to_end(daemon, &about)).await?,
                false => self.ask(move |yard, daemon| Ok(yard.running(daemon, &about)?.is_some())).await?,
            };
            if !runs {
                break asked.map(|_| "it was asked to end and did".to_owned());
            }
            if began.elapsed() >= grace {
                let about = instance.clone();
                self.act(instance, move |yard, daemon| yard.force_off(daemon, &about)).await?;
                break Some(format!("it did not end within {} s and was powered off", grace.as_secs()));
            }
            if is_due {
                asked = Some(Instant::now());
            }
            tokio::time::sleep(LOOK.min(grace.saturating_sub(began.elapsed()))).await;
        };
        let about = instance.clone();
        self.act(instance, move |yard, _| yard.note_stop(&about, how.as_deref())).await
    }
}

#[async_trait]
impl Provider for LibvirtProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        let mut missing = BTreeMap::new();
        if self.yard.settings.uri == Settings::default().uri && !Path::new("/run/libvirt").exists() {
            let reason = "there is no /run/libvirt; install and start libvirtd, or name its `uri` in the settings";
            missing.insert("daemon".to_owned(), reason.to_owned());
        }
        if self.yard.settings.acceleration != Acceleration::Qemu && !Path::new("/dev/kvm").exists() {
            missing.insert("kvm".to_owned(), "there is no /dev/kvm; machines are emulated, slowly".to_owned());
        }
        ProviderCapabilities {
            place: PlaceKind::Tap,
            exec: true,
            logs: true,
            console: true,
            images: true,
            carrier: true,
            resources: true,
            media: true,
            restart_keeps_interfaces: true,
            concurrency: self.yard.settings.concurrency,
            missing,
        }
    }

    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        mark::identifier(node, long_name)
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        let about = InstanceRef {
            node: request.node,
            incarnation: request.incarnation,
            identifier: self.node_identifier(request.node, &request.long_name),
        };
        let wanted = request.clone();
        let made = self.act(&about, move |yard, daemon| yard.create(daemon, &wanted)).await;
        let record = made.map_err(|failure| failure.during("create node", &about))?;
        Ok(CreatedNode { management: record.addresses(), instance: record.mark.instance })
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        let about = instance.clone();
        let started = self.act(instance, move |yard, daemon| yard.start(daemon, &about)).await;
        started.map_err(|failure| failure.during("start node", instance))
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        let exists = self.yard.existing(instance).map(drop);
        let stopped = match exists {
            Ok(()) => self.stop(instance, grace).await,
            Err(failure) => Err(failure),
        };
        stopped.map_err(|failure| failure.during("stop node", instance))
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        let about = instance.clone();
        let destroyed = self.act(instance, move |yard, daemon| yard.destroy(daemon, &about)).await;
        destroyed.map_err(|failure| failure.during("destroy node", instance))
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        let list = self.ask(Yard::list).await.map_err(|failure| failure.during("list nodes", "of libvirt"))?;
        Ok(list.into_iter().map(|(node, _)| node).collect())
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        let about = instance.clone();
        let seen = self.ask(move |yard, daemon| yard.observe(daemon, &about)).await;
        seen.map_err(|failure| failure.during("observe node", instance))
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        let (crew, yard, done) = (Arc::clone(&self.crew), Arc::clone(&self.yard), Arc::clone(&self.done));
        crate::watch::watch(crew, yard, done, self.alive.subscribe())
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let (about, wanted) = (instance.clone(), port.clone());
        let point = self.act(instance, move |yard, _| yard.attach_point(&about, &wanted)).await;
        point.map_err(|failure| failure.during("attach point", instance))
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

    fn carrier(&self) -> Option<&dyn Carrier> {
        Some(self)
    }

    fn resources(&self) -> Option<&dyn HostResources> {
        Some(self)
    }
}

#[async_trait]
impl HostResources for LibvirtProvider {
    async fn capacity(&self) -> Result<Capacity> {
        let read = self.ask(|_, daemon| daemon.ask(|connection| connection.get_node_info())).await;
        let info = read.map_err(|failure| failure.during("read capacity", "of libvirt"))?;
        Ok(Capacity { memory: info.memory << 10, cpu: f64::from(info.cpus) })
    }
}
