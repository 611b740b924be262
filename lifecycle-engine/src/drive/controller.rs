//! The face of the engine for whoever embeds it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::{LabId, LinkId, NodeId};
use lifecycle_core::model::{AuditQuery, AuditRow, Head, JobView, LabView, LinkView, NodeView};
use lifecycle_core::name::{HostName, LabName, NodeName};
use lifecycle_core::plugin::StateStore;
use lifecycle_core::plugin::provider::{InstanceRef, Provider};
use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::policy::bulk::BulkAction;
use lifecycle_core::secret::Secrets;
use lifecycle_core::topology::{LinkAttrs, Topology};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::builder::Builder;
use super::feed::{Feed, Subscription};
use super::host::Host;
use super::run::{Message, Status};
use crate::decide::{Command, CommandError, NodeAction, Reply, World, lab_view};

/// A running controller. Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    messages: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
    feed: Feed,
    store: Arc<dyn StateStore>,
    hosts: BTreeMap<HostName, Arc<dyn Host>>,
    head: Head,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// A lab with all that is in it, at one moment of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabSnapshot {
    /// The lab.
    pub lab: LabView,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Its links.
    pub links: Vec<LinkView>,
    /// Its jobs that are under way, and the last finished ones.
    pub jobs: Vec<JobView>,
    /// Number of the last event that it contains.
    pub as_of_seq: u64,
}

/// A node's instance and who runs it.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    /// The node.
    pub node: NodeId,
    /// Its instance.
    pub instance: InstanceRef,
    /// Its provider.
    pub provider: Arc<dyn Provider>,
    /// What is known of its kind.
    pub kind: Option<KindData>,
    /// What it must not be heard to tell.
    pub secrets: Secrets,
}

impl Controller {
    /// Begins to put a controller together that keeps its state in a directory.
    pub fn builder(state_dir: impl AsRef<Path>) -> Builder {
        Builder::new(state_dir.as_ref())
    }

    pub(super) fn new(
        messages: mpsc::Sender<Message>,
        status: watch::Receiver<Status>,
        feed: Feed,
        store: Arc<dyn StateStore>,
        hosts: BTreeMap<HostName, Arc<dyn Host>>,
        head: Head,
        task: JoinHandle<()>,
    ) -> Self {
        let task = std::sync::Mutex::new(Some(task));
        Self { inner: Arc::new(Inner { messages, status, feed, store, hosts, head, task }) }
    }

    /// Epoch of this controller, which grows with every take-over of the state.
    pub fn epoch(&self) -> u64 {
        self.inner.head.epoch
    }

    /// How the controller fares.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Waits for the controller to end by itself: because it was shut down, or a newer one took over.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn ended(&self) -> Status {
        let mut status = self.inner.status.clone();
        let ended = status.wait_for(|status| matches!(status, Status::Stopped | Status::Fenced)).await;
        ended.map_or(Status::Stopped, |status| status.clone())
    }

    /// Sends a command on behalf of `user` and waits until its intent is recorded. What was asked for is done
    /// afterwards; follow the feed, or [`wait`](Self::wait).
    ///
    /// # Errors
    /// [`CommandError`]; then nothing was changed.
    ///
    /// # Cancellation
    /// A command that was sent is carried out even if its answer is not waited for.
    pub async fn command(&self, user: &str, command: Command) -> Result<Reply, CommandError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Command { user: user.to_owned(), command, reply };
        self.inner.messages.send(message).await.map_err(|_| CommandError::Closing)?;
        answer.await.map_err(|_| CommandError::Closing)?
    }

    /// Makes a lab as a topology says: new, or converging the running one.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn apply(&self, user: &str, topology: Topology) -> Result<Reply, CommandError> {
        self.command(user, Command::Apply { topology: Box::new(topology), dry_run: false }).await
    }

    /// Removes a lab with everything in it.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn destroy(&self, user: &str, lab: LabName) -> Result<Reply, CommandError> {
        self.command(user, Command::Destroy { lab }).await
    }

    /// Starts, stops or restarts a node.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn node(
        &self,
        user: &str,
        lab: LabName,
        node: NodeName,
        action: NodeAction,
    ) -> Result<Reply, CommandError> {
        self.command(user, Command::Node { lab, node, action }).await
    }

    /// Starts or stops every node of a lab.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn bulk(&self, user: &str, lab: LabName, action: BulkAction) -> Result<Reply, CommandError> {
        self.command(user, Command::Bulk { lab, action }).await
    }

    /// Changes the attributes of a link in place.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn set_link(
        &self,
        user: &str,
        lab: LabName,
        link: LinkId,
        attrs: LinkAttrs,
    ) -> Result<Reply, CommandError> {
        self.command(user, Command::SetLink { lab, link, attrs }).await
    }

    /// Reads something of the engine's world, between two of its steps.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce(&World) -> T + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let query = Box::new(move |world: &World| drop(reply.send(read(world))));
        let ended = || Error::new(ErrorKind::Unreachable, "read state", "the controller has ended");
        self.inner.messages.send(Message::Query(query)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// All labs, in the order of their names.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn labs(&self) -> Result<Vec<LabView>> {
        self.read(|world| {
            let labs = world.lab_names().filter_map(|name| world.lab_by_name(name));
            labs.map(|lab| lab_view(world, lab)).collect()
        })
        .await
    }

    /// A lab with all that is in it; nothing when there is no such lab.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn lab(&self, name: &LabName) -> Result<Option<LabSnapshot>> {
        let name = name.clone();
        self.read(move |world| {
            let lab = world.lab_by_name(&name)?;
            let view = |node| NodeView::new(node, world.spec(node.id), &world.settings.enforcement);
            Some(LabSnapshot {
                lab: lab_view(world, lab),
                nodes: world.nodes_of(lab.id).map(view).collect(),
                links: world.links_of(lab.id).map(LinkView::new).collect(),
                jobs: world.jobs.values().filter(|job| job.lab == lab.id).map(JobView::new).collect(),
                as_of_seq: world.head.event,
            })
        })
        .await
    }

    /// The topology of a lab, with its secrets; nothing when there is no such lab.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn topology(&self, name: &LabName) -> Result<Option<Arc<Topology>>> {
        let name = name.clone();
        self.read(move |world| world.lab_by_name(&name).map(|lab| Arc::clone(&lab.topology))).await
    }

    /// The identifier of a node; nothing when there is no such node.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn node_id(&self, lab: &LabName, node: &NodeName) -> Result<Option<(LabId, NodeId)>> {
        let (lab, node) = (lab.clone(), node.clone());
        self.read(move |world| {
            let lab = world.lab_by_name(&lab)?.id;
            Some((lab, world.node_by_name(lab, &node)?.id))
        })
        .await
    }

    /// A node's instance with its provider, for commands, logs and consoles.
    ///
    /// # Errors
    /// `NotFound` when there is no such node, `Conflict` when it has no instance.
    pub async fn handle(&self, lab: &LabName, node: &NodeName) -> Result<NodeHandle> {
        let (lab_name, node_name) = (lab.clone(), node.clone());
        let found = self
            .read(move |world| {
                let lab = world.lab_by_name(&lab_name)?.id;
                let node = world.node_by_name(lab, &node_name)?;
                let instance = node.instance.as_ref().map(|instance| instance.reference.clone());
                let spec = world.spec(node.id);
                let kind = spec.and_then(|spec| world.kinds.get(&spec.kind)).map(|(_, kind)| kind.clone());
                let secrets = spec.map(Secrets::of).unwrap_or_default();
                Some((node.id, node.host.clone(), node.provider.clone(), instance, kind, secrets))
            })
            .await?;
        let missing = |kind, message: &str| Error::new(kind, "find node", message).about(format!("{lab}/{node}"));
        let (id, host, provider, instance, kind, secrets) =
            found.ok_or_else(|| missing(ErrorKind::NotFound, "there is no such node"))?;
        let (Some(host), Some(instance)) = (host, instance) else {
            return Err(missing(ErrorKind::Conflict, "it is not deployed; start it first"));
        };
        let provider = self.inner.hosts.get(&host).and_then(|host| host.provider(&provider));
        let provider = provider.ok_or_else(|| missing(ErrorKind::Unreachable, "its host is not known"))?;
        Ok(NodeHandle { node: id, instance, provider, kind, secrets })
    }

    /// Follows the feed from after an event: 0 for everything that is kept, or `as_of_seq` of a snapshot.
    pub fn follow(&self, after: u64) -> Subscription {
        self.inner.feed.follow(Arc::clone(&self.inner.store), after)
    }

    /// Rows of the audit trail.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>> {
        self.inner.store.audit(query).await
    }

    /// Waits until `done` holds of a lab, looking again after every event; nothing stands for a lab that is not there.
    ///
    /// # Errors
    /// `Timeout` when it does not hold in time, or when the controller has ended.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn wait(
        &self,
        lab: &LabName,
        timeout: Duration,
        mut done: impl FnMut(Option<&LabSnapshot>) -> bool,
    ) -> Result<Option<LabSnapshot>> {
        let look = async {
            loop {
                let snapshot = self.lab(lab).await?;
                if done(snapshot.as_ref()) {
                    return Ok(snapshot);
                }
                let seq = match &snapshot {
                    Some(snapshot) => snapshot.as_of_seq,
                    None => self.read(|world| world.head.event).await?,
                };
                if self.follow(seq).next().await?.is_none() {
                    return Err(Error::new(ErrorKind::Unreachable, "wait", "the controller has ended"));
                }
                // Many events come at once; a little patience saves as many looks.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(timeout, look).await.unwrap_or_else(|_| {
            let message = format!("it did not come about within {timeout:?}");
            Err(Error::new(ErrorKind::Timeout, "wait", message).about(lab))
        })
    }

    /// Stops the controller. Nodes stay as they are, for the next controller of the same state.
    ///
    /// # Cancellation
    /// Once begun, the shutdown goes on.
    pub async fn shutdown(&self) {
        // An error means that it has ended already.
        let _ = self.inner.messages.send(Message::Stop).await;
        let task = self.inner.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}
