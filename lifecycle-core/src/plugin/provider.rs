//! Providers make, run and remove the instances of nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::attach::{AttachKind, AttachPoint, Mac, NsRef, PlaceKind};
use crate::error::Result;
use crate::id::{LabId, NodeId};
use crate::name::{IfName, LabName, NodeName};
use crate::plugin::HostContext;
use crate::plugin::vendor::Machine;
use crate::time::Timestamp;
use crate::topology::{ImagePullPolicy, ManagementNetwork, NodeSpec};

/// A compiled-in provider: its name and how to make one.
#[derive(Debug, Clone, Copy)]
pub struct ProviderPlugin {
    /// Name by which labs and programs ask for it.
    pub name: &'static str,
    /// Makes a provider. Cheap: it connects to nothing before the first call.
    pub make: fn(&HostContext) -> Result<Arc<dyn Provider>>,
}

inventory::collect!(ProviderPlugin);

/// What a provider can do, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderCapabilities {
    /// The kind of place that interfaces of its instances attach to.
    pub place: PlaceKind,
    /// Nodes can run commands ([`Provider::exec`]).
    pub exec: bool,
    /// Output of nodes can be read ([`Provider::logs`]).
    pub logs: bool,
    /// Nodes have consoles ([`Provider::console`]).
    pub console: bool,
    /// Nodes run images that can be looked up ([`Provider::images`]).
    pub images: bool,
    /// Interfaces can lose carrier by the provider's doing ([`Provider::carrier`]).
    pub carrier: bool,
    /// The capacity of the host is known ([`Provider::resources`]).
    pub resources: bool,
    /// Instances can be given media ([`CreateNode::medium`]).
    pub media: bool,
    /// An instance that ended can be started again with its interfaces in place.
    pub restart_keeps_interfaces: bool,
    /// Operations that may run at once on one host; 0 means no limit.
    pub concurrency: usize,
    /// What the provider cannot do on this machine, by name, with the reason.
    pub missing: BTreeMap<String, String>,
}

/// One instance of a node.
///
/// The node and the incarnation are its identity, and what a provider finds it by. Its identifier is for people, and
/// empty where a controller asks for an instance of which it never learned the identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceRef {
    /// The node.
    pub node: NodeId,
    /// Which of the node's instances, counted from 1; part of the instance's mark.
    pub incarnation: u64,
    /// The provider's name for it, from [`Provider::node_identifier`]; may be empty in a request.
    pub identifier: String,
}

impl fmt::Display for InstanceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (incarnation {})", self.identifier, self.incarnation)
    }
}

/// Everything a provider needs to make an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateNode {
    /// The node.
    pub node: NodeId,
    /// Which of its instances this is.
    pub incarnation: u64,
    /// Its lab.
    pub lab: LabId,
    /// Name of its lab.
    pub lab_name: LabName,
    /// Name of the node within the lab.
    pub name: NodeName,
    /// Name of the node outside the lab.
    pub long_name: String,
    /// What the user wants.
    pub spec: NodeSpec,
    /// Directory that relative bind sources start at.
    pub directory: PathBuf,
    /// The lab's management network, if the node is on it.
    pub management: Option<ManagementNetwork>,
    /// Number of data interfaces that the lab gives the node.
    pub interfaces: u32,
    /// What a machine of the node's kind is made of, where its vendor says so. What the node says itself wins.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// A medium that the node's vendor wants it to find. Only providers with [`ProviderCapabilities::media`] are asked for one.
    #[serde(default)]
    pub medium: Option<Medium>,
}

impl CreateNode {
    /// A request for the first instance of a node, by its long name, and of its lab: relative to the root directory, without a
    /// management network, interfaces or anything from a vendor.
    pub fn new(node: NodeId, (lab, lab_name): (LabId, LabName), long_name: impl Into<String>, spec: NodeSpec) -> Self {
        Self {
            node,
            incarnation: 1,
            lab,
            lab_name,
            name: spec.name.clone(),
            long_name: long_name.into(),
            spec,
            directory: "/".into(),
            management: None,
            interfaces: 0,
            machine: None,
            medium: None,
        }
    }
}

/// A medium with one file, which a machine has plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// What it is.
    pub kind: MediumKind,
    /// The file here; starts at [`CreateNode::directory`].
    pub source: PathBuf,
    /// Where it is on the medium, or in the archive.
    pub path: PathBuf,
    /// The medium's own name.
    pub label: Option<String>,
    /// A tar archive, compressed with gzip, that is on the medium under this name and has the file in it.
    pub archive: Option<String>,
}

/// Kinds of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediumKind {
    /// A compact disc, in ISO 9660.
    Disc,
    /// A disk with a FAT file system and no partitions.
    Disk,
}

/// What a provider made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedNode {
    /// The instance.
    pub instance: InstanceRef,
    /// Its addresses on the management network.
    pub management: ManagementAddresses,
}

/// Addresses of a node on the management network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagementAddresses {
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// How a node's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code; none when nobody saw it, which is not the same as 0.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Option<Timestamp>,
}

impl fmt::Display for ExitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(signal)) => write!(f, "killed by signal {signal}"),
            (Some(code), None) => write!(f, "exit code {code}"),
            (None, None) => write!(f, "exit code unknown"),
        }
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum InstanceState {
    /// Made, never started since or stopped by us: attach points exist, nothing runs.
    Created,
    /// On its way up.
    Starting,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// On its way down.
    Stopping,
    /// Its process ended.
    Exited(ExitRecord),
    /// It is there but cannot be used: something it needs was taken away.
    Broken {
        /// What is wrong.
        reason: String,
    },
}

/// One instance as its provider sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNode {
    /// The instance.
    pub instance: InstanceRef,
    /// Its lab.
    pub lab: LabId,
    /// What it is doing.
    pub state: InstanceState,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// Its addresses on the management network.
    pub management: ManagementAddresses,
    /// Where its interfaces are, if they are in a namespace: the one that [`Provider::attach_point`] tells. Links are
    /// looked for in it, also those that nobody remembers.
    pub namespace: Option<NsRef>,
}

/// News from a provider. News make things fast; [`Provider::list_nodes`] makes them right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderEvent {
    /// An instance changed, or is gone: look at it.
    Changed(InstanceRef),
    /// News may have been lost: look at everything.
    Resync,
}

/// A port to attach something to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// Name of the interface in the node.
    pub ifname: IfName,
    /// Its address.
    pub mac: Mac,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
}

impl PortRequest {
    /// Where a link at this port of an instance ends.
    pub fn at(&self, instance: &InstanceRef, place: AttachKind) -> AttachPoint {
        AttachPoint {
            node: Some(instance.node),
            incarnation: instance.incarnation,
            ifname: self.ifname.clone(),
            mac: self.mac,
            mtu: self.mtu,
            place,
        }
    }
}

/// Makes, runs and removes the instances of nodes on one host.
///
/// # Laws
///
/// - *Deterministic names*: [`node_identifier`](Self::node_identifier) depends on its arguments only.
/// - *Create is idempotent*: repeated for one (node, incarnation) it returns the same instance. It prepares everything
///   that interfaces attach to, and runs nothing of the node's own.
/// - *Marked from birth*: an instance is listed, with its node and incarnation, from the moment anything of it exists.
/// - *Foreign objects are refused*: something that is not ours under our name is [`ErrorKind::Foreign`], and is neither
///   changed nor removed. So is an instance of another incarnation: [`ErrorKind::Conflict`].
/// - *Start, stop and destroy are idempotent*: doing again what is done succeeds. Start and stop of what does not exist
///   is [`ErrorKind::NotFound`]; destroy of it succeeds.
/// - *Stop keeps the instance*: after it the instance is observed as created or exited, its attach points are as they
///   were, and it can be started again.
/// - *Destroy leaves nothing*: afterwards neither a list nor the machine shows anything of the instance.
/// - *Observation changes nothing*.
/// - *A list tells the whole truth*: it names every instance of this controller on this host, or fails.
/// - *Unknown is said*: an operation whose effect is uncertain fails with a kind that
///   [is unknown](crate::error::ErrorKind::is_unknown).
///
/// # Cancellation
///
/// A dropped future leaves an operation done, undone, or to be found by a list; never half-visible.
///
/// [`ErrorKind::Foreign`]: crate::error::ErrorKind::Foreign
/// [`ErrorKind::Conflict`]: crate::error::ErrorKind::Conflict
/// [`ErrorKind::NotFound`]: crate::error::ErrorKind::NotFound
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// What it can do on this host.
    fn capabilities(&self) -> ProviderCapabilities;

    /// The name under which instances of a node are known to the provider: the same arguments give the same name, and
    /// no two nodes share one.
    fn node_identifier(&self, node: NodeId, long_name: &str) -> String;

    /// Makes an instance without running anything of the node's own.
    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode>;

    /// Starts the node's own process.
    async fn start_node(&self, instance: &InstanceRef) -> Result<()>;

    /// Ends the node's process: politely, and by force once `grace` is over. Returns when it has ended.
    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()>;

    /// Removes the instance and everything that belongs to it, ending its process by force if need be.
    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()>;

    /// All instances of this controller on this host.
    async fn list_nodes(&self) -> Result<Vec<ObservedNode>>;

    /// One instance, or nothing when it is confirmed not to exist.
    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>>;

    /// News about instances, from now on. The stream ends when the provider is dropped.
    fn watch(&self) -> BoxStream<'static, ProviderEvent>;

    /// Where the interface of a port attaches.
    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint>;

    /// Runs commands in nodes. Requires [`ProviderCapabilities::exec`].
    fn exec(&self) -> Option<&dyn Exec> {
        None
    }

    /// Reads what nodes print. Requires [`ProviderCapabilities::logs`].
    fn logs(&self) -> Option<&dyn Logs> {
        None
    }

    /// Opens consoles of nodes. Requires [`ProviderCapabilities::console`].
    fn console(&self) -> Option<&dyn Console> {
        None
    }

    /// Looks images up and fetches them. Requires [`ProviderCapabilities::images`].
    fn images(&self) -> Option<&dyn Images> {
        None
    }

    /// Tells a node that its link has carrier or not. Requires [`ProviderCapabilities::carrier`].
    fn carrier(&self) -> Option<&dyn Carrier> {
        None
    }

    /// Says how much the host can carry. Requires [`ProviderCapabilities::resources`].
    fn resources(&self) -> Option<&dyn HostResources> {
        None
    }
}

/// A command to run inside a node. Its debug output names variables without their values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; no shell is involved unless this names one.
    pub argv: Vec<String>,
    /// Variables added to the node's environment.
    pub env: BTreeMap<String, String>,
    /// User to run as; the node's own when absent.
    pub user: Option<String>,
    /// Time after which the command is killed.
    pub timeout: Option<Duration>,
}

impl ExecRequest {
    /// Runs `argv` as the node's user with the node's environment.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), env: BTreeMap::new(), user: None, timeout: None }
    }
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    /// How it ended.
    pub exit: ExitRecord,
    /// What it wrote to its standard output, up to [`EXEC_OUTPUT_LIMIT`].
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, up to [`EXEC_OUTPUT_LIMIT`].
    pub stderr: Vec<u8>,
    /// Whether output beyond the limit was dropped.
    pub truncated: bool,
}

/// Bytes of each output stream of a command that are kept.
pub const EXEC_OUTPUT_LIMIT: usize = 4 << 20;

/// Runs commands in nodes.
///
/// # Laws
/// - The exit code is the command's own; a command that cannot be found fails with `NotFound`.
/// - A node that does not run refuses with `Conflict`.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Waits until commands can be run in a node that was started. In most that is so at once; what has to boot first takes
    /// its time.
    ///
    /// # Errors
    /// When they cannot be run and the time that the provider has for it is over, or the node does not run.
    async fn until_able(&self, _instance: &InstanceRef) -> Result<()> {
        Ok(())
    }

    /// Runs a command to its end. Dropping the future kills the command.
    async fn exec(&self, instance: &InstanceRef, request: &ExecRequest) -> Result<ExecOutput>;
}

/// Which part of a node's output to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Go on as the node prints, until the stream is dropped.
    pub follow: bool,
}

/// A piece of a node's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// When the node wrote it, where known.
    pub at: Option<Timestamp>,
    /// Whether it came from the standard error.
    pub stderr: bool,
    /// The bytes, at most one line.
    pub line: Vec<u8>,
}

/// Reads what nodes print.
///
/// # Laws
/// - Output survives the node's end and its restart, within the provider's bound.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Lines in the order they were written.
    async fn logs(&self, instance: &InstanceRef, request: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>>;
}

/// A terminal to open in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleRequest {
    /// Program to run in a new terminal; the node's own console when absent.
    pub argv: Option<Vec<String>>,
    /// Columns of the terminal.
    pub columns: u16,
    /// Rows of the terminal.
    pub rows: u16,
}

/// An open terminal.
pub struct ConsoleSession {
    /// What the terminal shows; ends when its program does, or when somebody else takes the console over.
    pub output: BoxStream<'static, Result<Vec<u8>>>,
    /// Types into it.
    pub input: Box<dyn ConsoleInput>,
}

impl fmt::Debug for ConsoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSession").finish_non_exhaustive()
    }
}

/// The keyboard of an open terminal.
#[async_trait]
pub trait ConsoleInput: Send {
    /// Types `bytes`.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Tells the terminal its size.
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()>;
    /// How the program ended, once the output has.
    async fn exit(&mut self) -> Result<ExitRecord>;
}

/// Opens consoles of nodes.
///
/// # Laws
/// - A console survives whoever watches it: dropping the session does not end its program.
#[async_trait]
pub trait Console: Send + Sync {
    /// Opens a terminal.
    async fn open(&self, instance: &InstanceRef, request: &ConsoleRequest) -> Result<ConsoleSession>;
}

/// Looks images up and fetches them.
///
/// # Laws
/// - Looking up changes nothing.
/// - What [`ensure`](Self::ensure) returned well is found by [`is_present`](Self::is_present).
#[async_trait]
pub trait Images: Send + Sync {
    /// Whether the image a node needs is on the host.
    async fn is_present(&self, spec: &NodeSpec) -> Result<bool>;
    /// Makes it so by `policy`; an image that cannot be had is `ImageUnavailable`, with advice.
    async fn ensure(&self, spec: &NodeSpec, policy: ImagePullPolicy) -> Result<()>;
}

/// Tells a node that its link has carrier or not.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Sets the carrier of an interface.
    async fn set_carrier(&self, instance: &InstanceRef, ifname: &IfName, up: bool) -> Result<()>;
}

/// What a host can carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory in bytes.
    pub memory: u64,
    /// Processors.
    pub cpu: f64,
}

/// Says how much the host can carry.
#[async_trait]
pub trait HostResources: Send + Sync {
    /// What nodes of this controller may reserve in total.
    async fn capacity(&self) -> Result<Capacity>;
}
