//! What a user wants: a lab with its nodes and links, fully resolved.
//!
//! A topology holds intent only. A reader of some file format (the `lifecycle-topology` crate reads containerlab's)
//! has already applied defaults, groups and variables; what stands here is what the engine acts upon.

mod link;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::machine::NodeIntent;
use crate::name::{HostName, IfName, LabName, NodeName, PluginName};

pub use link::{Admin, DEFAULT_MTU, Endpoint, LinkAttrs, LinkSpec, MacvlanMode, Manage, NodeEnd};

/// A whole lab as its user wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The lab's name, unique within a controller.
    pub name: LabName,
    /// Rule by which long node names are made; see [`Topology::long_name`].
    pub prefix: Option<String>,
    /// Directory that relative paths are resolved against and that bind mounts may not leave.
    pub directory: PathBuf,
    /// The management network; none when the lab has none.
    pub management: Option<ManagementNetwork>,
    /// Choices for the lab as a whole.
    pub settings: LabSettings,
    /// The nodes, in the order of the file.
    pub nodes: Vec<NodeSpec>,
    /// The links, in the order of the file.
    pub links: Vec<LinkSpec>,
}

impl Topology {
    /// An empty lab called `name` whose relative paths start at `directory`.
    pub fn new(name: LabName, directory: impl Into<PathBuf>) -> Self {
        Self {
            name,
            prefix: None,
            directory: directory.into(),
            management: None,
            settings: LabSettings::default(),
            nodes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// The name under which a node is known outside its lab: `clab-<lab>-<node>` without a prefix, `<node>` with an
    /// empty one, `<lab>-<node>` with `__lab-name`, and `<prefix>-<lab>-<node>` with any other.
    pub fn long_name(&self, node: &NodeName) -> String {
        match self.prefix.as_deref() {
            None => format!("clab-{}-{node}", self.name),
            Some("") => node.to_string(),
            Some("__lab-name") => format!("{}-{node}", self.name),
            Some(prefix) => format!("{prefix}-{}-{node}", self.name),
        }
    }

    /// The node called `name`.
    pub fn node(&self, name: &NodeName) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}

/// Choices for a lab as a whole; a node's or link's own choice wins over them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabSettings {
    /// Provider of nodes that name none.
    pub provider: Option<PluginName>,
    /// Network backend of links that name none.
    pub backend: Option<PluginName>,
    /// How Open vSwitch bridges are shared out among labs.
    pub ovs_mode: Option<OvsMode>,
    /// Host of nodes that name none and ran nowhere before.
    pub host: Option<HostName>,
    /// Settings of the file that are kept for those who know them, by their name in the file.
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// How Open vSwitch bridges are shared out among labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OvsMode {
    /// One bridge, with a tag per link.
    Shared,
    /// A bridge per lab.
    Dedicated,
}

/// The network through which people reach the nodes of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagementNetwork {
    /// Name of the network; labs with one name on one host share it.
    pub name: String,
    /// Name of its bridge, when the user gave one.
    pub bridge: Option<IfName>,
    /// IPv4 subnet.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 subnet.
    pub ipv6: Option<Ipv6Net>,
    /// Part of the IPv4 subnet that addresses are handed out from; all of it when absent.
    #[serde(default)]
    pub ipv4_range: Option<Ipv4Net>,
    /// Part of the IPv6 subnet that addresses are handed out from; all of it when absent.
    #[serde(default)]
    pub ipv6_range: Option<Ipv6Net>,
    /// IPv4 gateway, when it is not the first address of the subnet.
    pub ipv4_gateway: Option<IpAddr>,
    /// IPv6 gateway, when it is not the first address of the subnet.
    pub ipv6_gateway: Option<IpAddr>,
    /// Maximum transmission unit in bytes.
    pub mtu: Option<u32>,
    /// Fields of the file that are kept for providers that know them, by their name in the file. `ipv4-subnet` and
    /// `ipv6-subnet` stand here with the value `auto` when the provider is to choose a free subnet.
    #[serde(default)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// One node as its user wants it. Its debug output has none of its [secrets](crate::secret).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name, unique within the lab.
    pub name: NodeName,
    /// Kind in lower case, `linux` for example; a vendor or the engine gives it its meaning.
    pub kind: String,
    /// Name of the bridge in its network namespace, for a node that is one (kinds `bridge` and `ovs-bridge`).
    #[serde(default)]
    pub bridge: Option<IfName>,
    /// Variant of the kind.
    pub r#type: Option<String>,
    /// Group it belongs to.
    pub group: Option<String>,
    /// Image to run.
    pub image: Option<String>,
    /// When the image is fetched.
    pub image_pull_policy: ImagePullPolicy,
    /// Provider that runs it, when the user chose one.
    pub provider: Option<PluginName>,
    /// Host it must run on, when the user chose one: then it runs there or not at all.
    pub host: Option<HostName>,
    /// What the user wants of it at first.
    pub desired: NodeIntent,
    /// Program that runs before the command and is given it, split into words.
    pub entrypoint: Option<Vec<String>>,
    /// Command, split into words.
    pub cmd: Option<Vec<String>>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Files and directories of the host that appear in the node.
    pub binds: Vec<Bind>,
    /// Directories of the node that are kept in memory, with their mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// Host name inside the node; its own name when absent.
    pub hostname: Option<String>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Resolver configuration.
    pub dns: Dns,
    /// User (and group) that the command runs as: `name`, `uid` or either with `:group`.
    pub user: Option<String>,
    /// Limits and reservations.
    pub resources: Resources,
    /// Commands run inside the node, one after the other, once it is running and wired.
    pub exec: Vec<String>,
    /// How to tell that it is healthy.
    pub healthcheck: Option<Healthcheck>,
    /// Whose network namespace it uses.
    pub network_mode: NetworkMode,
    /// Fixed IPv4 address on the management network.
    pub mgmt_ipv4: Option<std::net::Ipv4Addr>,
    /// Fixed IPv6 address on the management network.
    pub mgmt_ipv6: Option<std::net::Ipv6Addr>,
    /// Further names under which other nodes find it.
    pub aliases: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Initial configuration, a path or the text itself.
    pub startup_config: Option<String>,
    /// Seconds to wait before it is started, once all that it waits for has come about.
    pub startup_delay: u32,
    /// What it waits for on its way up, each time that it starts.
    #[serde(default)]
    pub wait_for: Vec<WaitFor>,
    /// Commands of its stages, in the order in which those of one stage and phase are run.
    #[serde(default)]
    pub stage_commands: Vec<StageCommand>,
    /// Fields of the file that are kept for providers and vendors that know them, by their name in the file.
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl NodeSpec {
    /// A node of `kind` called `name` with nothing else said.
    pub fn new(name: NodeName, kind: impl Into<String>) -> Self {
        Self {
            name,
            kind: kind.into(),
            bridge: None,
            r#type: None,
            group: None,
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            provider: None,
            host: None,
            desired: NodeIntent::Running,
            entrypoint: None,
            cmd: None,
            env: BTreeMap::new(),
            binds: Vec::new(),
            tmpfs: BTreeMap::new(),
            hostname: None,
            sysctls: BTreeMap::new(),
            dns: Dns::default(),
            user: None,
            resources: Resources::default(),
            exec: Vec::new(),
            healthcheck: None,
            network_mode: NetworkMode::Own,
            mgmt_ipv4: None,
            mgmt_ipv6: None,
            aliases: Vec::new(),
            labels: BTreeMap::new(),
            startup_config: None,
            startup_delay: 0,
            wait_for: Vec::new(),
            stage_commands: Vec::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// What a node waits for before it enters one of its stages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitFor {
    /// The stage that it does not enter before.
    pub stage: Stage,
    /// The node that it waits for, of the same lab.
    pub node: NodeName,
    /// The stage that this node has to have reached.
    pub until: Stage,
}

/// A command of one of a node's stages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StageCommand {
    /// The stage.
    pub stage: Stage,
    /// When in the stage.
    pub phase: StagePhase,
    /// Where it is run.
    pub target: CommandTarget,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// When in a stage a command is run.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StagePhase {
    /// When the node enters the stage.
    OnEnter,
    /// When it has reached it.
    OnExit,
}

/// Where a command of a stage is run.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum CommandTarget {
    /// In the node.
    Container,
    /// On the host, which no lab file runs anything on.
    Host,
}

/// A node's way up in stages, in their order. [`policy::stage`](crate::policy::stage) says when each of them is reached.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Stage {
    /// Coming to be.
    Create,
    /// Getting its links, with which it starts.
    CreateLinks,
    /// Running the commands that follow its start.
    Configure,
    /// Becoming ready.
    Healthy,
    /// Having ended by itself.
    Exit,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePullPolicy {
    /// Only what is there already.
    Never,
    /// When it is not there.
    #[default]
    IfNotPresent,
    /// Before every start.
    Always,
}

/// A file or directory of the host that appears in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Path on the host; a relative one starts at the lab's directory.
    pub source: PathBuf,
    /// Absolute path in the node.
    pub target: PathBuf,
    /// Whether the node may not write to it.
    pub read_only: bool,
    /// Further mount options as the user wrote them, `z` or `rshared` for example.
    #[serde(default)]
    pub options: Vec<String>,
}

/// Resolver configuration of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options of `resolv.conf`.
    pub options: Vec<String>,
}

/// What a node may use and what is reserved for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors, fractions allowed.
    pub cpu: Option<f64>,
    /// Processors it may run on, as a list such as `0-1,3`.
    pub cpu_set: Option<String>,
}

/// How to tell that a node is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// Command, split into words, run inside the node; success means healthy.
    pub test: Vec<String>,
    /// Seconds between two checks.
    pub interval: u32,
    /// Seconds after which one check counts as failed.
    pub timeout: u32,
    /// Consecutive failures after which the node counts as unhealthy.
    pub retries: u32,
    /// Seconds after the start in which failures do not count.
    pub start_period: u32,
}

/// Whose network namespace a node uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Its own, with a management interface.
    #[default]
    Own,
    /// Its own, without a management interface.
    None,
    /// The host's.
    Host,
    /// That of another node of the lab.
    Node(NodeName),
    /// That of a container that is not part of the lab.
    External(String),
}
