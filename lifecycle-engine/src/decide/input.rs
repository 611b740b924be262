//! What a step of decisions takes in: commands of users, outcomes of effects, news from plugins, and time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use lifecycle_core::id::{JobId, LabId, LinkId};
use lifecycle_core::machine::TransitionError;
use lifecycle_core::name::{HostName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::provider::InstanceRef;
use lifecycle_core::policy::bulk::BulkAction;
use lifecycle_core::policy::guard::Refusal;
use lifecycle_core::topology::{LinkAttrs, Topology};

use super::effect::{EffectId, Outcome};

/// Number of a command, by which its answer finds its asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One thing that a step takes in. Time is taken in with every step.
#[derive(Debug, Clone)]
pub enum Input {
    /// Somebody wants something.
    Command {
        /// Number for the answer.
        id: CommandId,
        /// Who.
        user: String,
        /// What.
        command: Command,
    },
    /// An effect ended.
    Outcome {
        /// Which.
        effect: EffectId,
        /// How.
        outcome: Box<Outcome>,
    },
    /// A plugin has news.
    News {
        /// On which host.
        host: HostName,
        /// Which plugin.
        plugin: PluginName,
        /// What.
        news: News,
    },
}

/// News from a plugin. They say where to look, never what is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An instance changed.
    Node(InstanceRef),
    /// A link changed.
    Link(LinkId),
    /// Instances or links may have changed unheard.
    Resync,
}

/// What a user wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Make a lab as a topology says: new, or converging the running one.
    Apply {
        /// What is wanted.
        topology: Box<Topology>,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Remove a lab with everything in it.
    Destroy {
        /// Which.
        lab: LabName,
    },
    /// Change what is wanted of a node.
    Node {
        /// Its lab.
        lab: LabName,
        /// Which.
        node: NodeName,
        /// To what.
        action: NodeAction,
    },
    /// Change what is wanted of every node of a lab.
    Bulk {
        /// Which lab.
        lab: LabName,
        /// To what.
        action: BulkAction,
    },
    /// Change attributes of a link in place.
    SetLink {
        /// Its lab.
        lab: LabName,
        /// Which.
        link: LinkId,
        /// To what.
        attrs: LinkAttrs,
    },
    /// Check every link of a lab now.
    Reconcile {
        /// Which lab.
        lab: LabName,
    },
    /// Call a job off.
    CancelJob {
        /// Which.
        job: JobId,
    },
}

/// What a user wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum NodeAction {
    /// It runs.
    Start,
    /// It does not run.
    Stop {
        /// Even if it is just starting.
        abort: bool,
    },
    /// It is stopped and started again, with its links kept.
    Restart,
}

/// The answer to a command that was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// A topology was applied, or would be.
    Applied {
        /// The lab; none when nothing was done because of a dry run on a new lab.
        lab: Option<LabId>,
        /// The job that does it; none when there is nothing to do.
        job: Option<JobId>,
        /// What changes.
        plan: Plan,
    },
    /// The intent was recorded.
    Accepted {
        /// The job that works on it; none when there is nothing to do.
        job: Option<JobId>,
        /// Whether anything changed.
        changed: bool,
    },
    /// A bulk command was taken apart.
    Bulk {
        /// The job that works on the affected nodes.
        job: Option<JobId>,
        /// Nodes whose intent changed or that are to be brought there again.
        affected: Vec<NodeName>,
        /// Nodes in a transition, which are left alone.
        skipped_transitional: Vec<NodeName>,
        /// Nodes that are there already.
        already_in_state: Vec<NodeName>,
    },
    /// Links are being checked.
    Reconciling {
        /// How many.
        links: u32,
    },
}

/// What applying a topology changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Nodes that are made.
    pub add_nodes: Vec<NodeName>,
    /// Nodes that are removed.
    pub remove_nodes: Vec<NodeName>,
    /// Nodes that are removed and made again, because what is wanted of them changed.
    pub recreate_nodes: Vec<NodeName>,
    /// Links that are made, as text.
    pub add_links: Vec<String>,
    /// Links that are removed, as text.
    pub remove_links: Vec<String>,
    /// Interfaces of nodes that go from a link that is removed to one that is made, as text that tells both, and whether they
    /// stay.
    #[serde(default)]
    pub plug_elsewhere: Vec<String>,
    /// Links whose attributes change, as text.
    pub change_links: Vec<String>,
    /// Links that are handed over to another backend while their interfaces stay, as text that tells both.
    pub move_links: Vec<String>,
    /// Links that are removed and made again, as text that tells why and what their nodes lose.
    pub rebuild_links: Vec<String>,
}

impl Plan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a command was not accepted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum CommandError {
    /// The subject does not exist.
    #[error("no {what} is called `{name}`{}", if .known.is_empty() { String::new() } else { format!("; there is {}", .known.join(", ")) })]
    NotFound {
        /// Kind of subject.
        what: String,
        /// The name.
        name: String,
        /// Some names that exist.
        known: Vec<String>,
    },
    /// The state does not allow it.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The table of states does not have the step.
    #[error("{0}")]
    InvalidTransition(TransitionError),
    /// Something else is going on.
    #[error("{message}")]
    Conflict {
        /// What, and what to do.
        message: String,
    },
    /// The request is wrong.
    #[error("{}", .problems.join("\n"))]
    Invalid {
        /// Everything that is wrong with it.
        problems: Vec<String>,
    },
    /// The store did not take it.
    #[error(
        "it is not known whether this was recorded, since the state could not be saved; look, and ask again: {message}"
    )]
    Store {
        /// Why.
        message: String,
    },
    /// The controller is shutting down.
    #[error("the controller is shutting down")]
    Closing,
}

/// Times and limits of the engine, all settable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Time between two full passes of enforcement.
    pub enforcement_pass: Duration,
    /// Time between two full reads of every provider.
    pub sync_pass: Duration,
    /// Time between two checks of every link.
    pub link_pass: Duration,
    /// Longest time that a node may be pending.
    pub pending: Duration,
    /// Longest time that a node may be starting, unless its kind says otherwise.
    pub starting: Duration,
    /// Longest time that a node may be stopping before force is used.
    pub stopping: Duration,
    /// Time that a node's process is asked politely to end.
    pub stop_grace: Duration,
    /// Longest time that a link may be creating.
    pub connecting: Duration,
    /// Time that something of ours without a row is left alone before it is removed.
    pub collection_grace: Duration,
    /// Time after which an effect that only reads is taken to be lost.
    pub reading: Duration,
    /// Time for the commands that a node runs after its start.
    pub commands: Duration,
    /// Time between two tries to reach a provider that could not be reached.
    pub reconnect: Duration,
    /// Operations on nodes per second over all hosts that enforcement may begin by itself; 0 means no limit.
    pub enforcement_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enforcement_pass: Duration::from_secs(10),
            sync_pass: Duration::from_secs(60),
            link_pass: Duration::from_secs(60),
            pending: Duration::from_secs(600),
            starting: Duration::from_secs(120),
            stopping: Duration::from_secs(60),
            stop_grace: Duration::from_secs(10),
            connecting: Duration::from_secs(60),
            collection_grace: Duration::from_secs(30),
            reading: Duration::from_secs(30),
            commands: Duration::from_secs(120),
            reconnect: Duration::from_secs(2),
            enforcement_rate: 200,
        }
    }
}
