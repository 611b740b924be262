//! What the engine asks of the world outside, and what came of it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lifecycle_core::attach::{AttachPoint, NsRef, Tunnel};
use lifecycle_core::error::Error;
use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::{EndMark, LinkIdentity, LinkLab, LinkReport, ObservedLink};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::plugin::provider::{Capacity, CreateNode, CreatedNode, InstanceRef, ObservedNode, PortRequest};
use lifecycle_core::plugin::vendor::{Pattern, Progress};
use lifecycle_core::policy::link::Side;
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::{LinkAttrs, NodeSpec};

/// Number of an effect, unique within an epoch and growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What an effect is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node.
    Node(NodeId),
    /// A link.
    Link(LinkId),
    /// A whole host: lists and collection.
    Host,
}

/// One request to a plugin of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Its number.
    pub id: EffectId,
    /// The host.
    pub host: HostName,
    /// What it is about.
    pub subject: Subject,
    /// The plugin that is asked.
    pub plugin: PluginName,
    /// What is asked.
    pub action: Action,
    /// Time after which the answer is taken to be unknown.
    pub timeout: Duration,
}

/// What is asked of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Have an image by its policy.
    EnsureImage(Box<NodeSpec>),
    /// Make an instance.
    CreateNode(Box<CreateNode>),
    /// Start its process.
    StartNode(InstanceRef),
    /// End its process.
    StopNode {
        /// Which.
        instance: InstanceRef,
        /// How long to ask politely.
        grace: Duration,
    },
    /// Remove an instance.
    DestroyNode(InstanceRef),
    /// Look at an instance.
    ObserveNode(InstanceRef),
    /// Run commands inside a node, one after the other, up to the first that cannot be run.
    RunCommands {
        /// Where.
        instance: InstanceRef,
        /// Programs with arguments.
        commands: Vec<Vec<String>>,
    },
    /// Learn whether a node is ready.
    ProbeReady {
        /// Which.
        instance: InstanceRef,
        /// How.
        probe: Box<ReadyProbe>,
    },
    /// List all instances.
    ListNodes,
    /// Read what the host can carry.
    ReadCapacity,
    /// Build a link.
    Connect(Box<ConnectPlan>),
    /// Remove a link.
    Disconnect(Box<LinkIdentity>),
    /// Let go of a link that another backend takes over, and keep its ends.
    Release(Box<LinkIdentity>),
    /// Remove a link, and park those of its ends that other links take over.
    Park {
        /// Which.
        identity: Box<LinkIdentity>,
        /// The ends of other links that its ends become, by side.
        heirs: [Option<EndMark>; 2],
    },
    /// Read a link back.
    Verify(Box<LinkIdentity>),
    /// Change attributes of a link.
    SetParams {
        /// Which.
        identity: Box<LinkIdentity>,
        /// To what.
        attrs: LinkAttrs,
    },
    /// Give or take the carrier of an end.
    SetCarrier {
        /// Which link.
        identity: Box<LinkIdentity>,
        /// Which end.
        side: Side,
        /// Give or take.
        up: bool,
    },
    /// Find everything that bears the mark of our links.
    ObserveLinks(Vec<NsRef>),
    /// Read what the tunnels of the host go through.
    ReadUnderlay,
    /// Lead the tunnel of a link to other addresses.
    Redirect {
        /// Which link.
        identity: Box<LinkIdentity>,
        /// Where to.
        to: Tunnel,
    },
    /// Remove something that bears the mark of a link.
    RemoveLink {
        /// What.
        observed: ObservedLink,
        /// Where.
        namespaces: Vec<NsRef>,
    },
}

impl Action {
    /// The word for it in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EnsureImage(_) => "ensure_image",
            Self::CreateNode(_) => "create_node",
            Self::StartNode(_) => "start_node",
            Self::StopNode { .. } => "stop_node",
            Self::DestroyNode(_) => "destroy_node",
            Self::ObserveNode(_) => "observe_node",
            Self::RunCommands { .. } => "run_commands",
            Self::ProbeReady { .. } => "probe_ready",
            Self::ListNodes => "list_nodes",
            Self::ReadCapacity => "read_capacity",
            Self::Connect(_) => "connect",
            Self::Disconnect(_) => "disconnect",
            Self::Release(_) => "release",
            Self::Park { .. } => "park",
            Self::Verify(_) => "verify",
            Self::SetParams { .. } => "set_params",
            Self::SetCarrier { .. } => "set_carrier",
            Self::ObserveLinks(_) => "observe_links",
            Self::ReadUnderlay => "read_underlay",
            Self::Redirect { .. } => "redirect",
            Self::RemoveLink { .. } => "remove_link",
        }
    }

    /// The backend that is asked about a link: what was built is asked about of the backend that built it, since no other
    /// can tell what its identity means, and all else of the one that builds the link.
    pub fn backend<'a>(&'a self, link: &'a LinkRecord) -> &'a PluginName {
        match self {
            Self::Disconnect(identity)
            | Self::Release(identity)
            | Self::Park { identity, .. }
            | Self::Verify(identity)
            | Self::SetParams { identity, .. }
            | Self::SetCarrier { identity, .. }
            | Self::Redirect { identity, .. } => &identity.backend,
            _ => &link.backend,
        }
    }

    /// Whether it changes anything outside the controller.
    pub const fn is_mutating(&self) -> bool {
        match self {
            Self::EnsureImage(_)
            | Self::CreateNode(_)
            | Self::StartNode(_)
            | Self::StopNode { .. }
            | Self::DestroyNode(_)
            | Self::RunCommands { .. }
            | Self::Connect(_)
            | Self::Disconnect(_)
            | Self::Release(_)
            | Self::Park { .. }
            | Self::SetParams { .. }
            | Self::SetCarrier { .. }
            | Self::Redirect { .. }
            | Self::RemoveLink { .. } => true,
            Self::ObserveNode(_)
            | Self::ProbeReady { .. }
            | Self::ListNodes
            | Self::ReadCapacity
            | Self::Verify(_)
            | Self::ReadUnderlay
            | Self::ObserveLinks(_) => false,
        }
    }

    /// Whether it changes the node or the link that it is about, so that nothing else may be done to that meanwhile. An
    /// image is on the host, and commands end with the node that they run in.
    pub const fn is_at_subject(&self) -> bool {
        self.is_mutating() && !matches!(self, Self::EnsureImage(_) | Self::RunCommands { .. })
    }
}

/// How to learn whether a node is ready, and how far it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyProbe {
    /// What tells that it is ready.
    pub check: ReadyCheck,
    /// What it prints on its way.
    pub progress: Vec<Progress>,
    /// What it printed before is about an earlier run.
    pub since: Option<Timestamp>,
}

/// What tells that a node is ready.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadyCheck {
    /// A command inside it succeeds: program with arguments.
    Command(Vec<String>),
    /// It has printed this.
    Log(Pattern),
    /// It takes a connection.
    Tcp {
        /// Its address on the management network, if it has one.
        address: Option<IpAddr>,
        /// Port.
        port: u16,
    },
}

/// A link to build, with ends that may first have to be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectPlan {
    /// The lab that it belongs to.
    pub lab: LinkLab,
    /// The link.
    pub link: LinkId,
    /// Which of its incarnations.
    pub incarnation: u64,
    /// The ends.
    pub ends: [EndPlan; 2],
    /// Attributes.
    pub attrs: LinkAttrs,
}

/// One end of a link to build.
#[derive(Debug, Clone, PartialEq)]
pub enum EndPlan {
    /// A port of an instance: its provider says where it attaches.
    Port {
        /// The provider.
        provider: PluginName,
        /// The instance.
        instance: InstanceRef,
        /// The port.
        port: PortRequest,
    },
    /// A place that is known already.
    Place(AttachPoint),
}

/// What came of an effect that was done.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// It was done and there is nothing to tell.
    Nothing,
    /// The instance that was made.
    Created(CreatedNode),
    /// What was found; nothing when the instance is confirmed not to exist.
    Node(Option<ObservedNode>),
    /// All instances.
    Nodes(Vec<ObservedNode>),
    /// What each command printed and how it ended, for people, and whether all succeeded.
    Commands {
        /// Lines for people.
        log: Vec<String>,
        /// All succeeded.
        ok: bool,
    },
    /// Whether the node is ready, and how far it has come.
    Ready {
        /// It is, or why not.
        verdict: std::result::Result<(), String>,
        /// How far it has come in percent, where it tells.
        progress: Option<u8>,
    },
    /// What the host can carry.
    Capacity(Capacity),
    /// What the tunnels of the host go through.
    Underlay(Underlay),
    /// The link that was built, or led elsewhere.
    Connected(Box<LinkIdentity>),
    /// What was read of a link.
    Report(Box<LinkReport>),
    /// Everything that bears our marks.
    Links(Vec<ObservedLink>),
}

/// The end of an effect: done, or failed with an error whose kind says whether the effect may have happened.
pub type Outcome = std::result::Result<Done, Error>;
