//! The command line, as data.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lifecycle_core::name::{LabName, PluginName};
use serde::Deserialize;

use super::condition::Condition;
use super::target::NodeArg;
use crate::output::Format;
use crate::span::Span;

/// Labs of nodes and links: deployed, wired, verified, kept as desired, and removed without a trace.
#[derive(Debug, Clone, Parser)]
#[command(name = "lifecycle", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 conflict, 5 not found, 6 no \
                          controller reached, 124 not in time; `exec` ends with the code of its command.\n\nGlobal \
                          options, --provider, --backend, --lab and --timeout can also be given as LIFECYCLE_<OPTION>; \
                          output, log-level, log-format, provider and backend also in the configuration file. The \
                          command line wins over the environment, and that over the file.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the controller's state, which names the controller [default: $XDG_STATE_HOME/lifecycle, or
    /// /var/lib/lifecycle for root]
    #[arg(long, global = true, env = "LIFECYCLE_STATE_DIR", hide_env = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Configuration file [default: config.yaml in the state directory]
    #[arg(long, global = true, env = "LIFECYCLE_CONFIG", hide_env = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of vendor files besides those of the configuration; may be given more than once
    #[arg(long, global = true, env = "LIFECYCLE_VENDOR_DIR", hide_env = true, value_name = "DIR")]
    pub vendor_dir: Vec<PathBuf>,
    /// How results are printed [default: table]
    #[arg(short, long, global = true, env = "LIFECYCLE_OUTPUT", hide_env = true, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// What is logged to standard error [default: info for `serve`, warn otherwise]
    #[arg(long, global = true, env = "LIFECYCLE_LOG_LEVEL", hide_env = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How it is logged [default: text]
    #[arg(long, global = true, env = "LIFECYCLE_LOG_FORMAT", hide_env = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And every change of state.
    Info,
    /// And what is asked of plugins.
    Debug,
    /// Everything.
    Trace,
}

/// How it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs, one object per line.
    Json,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Deploy a lab and keep it as desired until Ctrl-C, which removes it
    Up(Up),
    /// Run a controller that others deploy labs to
    Serve,
    /// Deploy a lab to a running controller, or bring a running lab to what its file says
    #[command(visible_alias = "apply")]
    Deploy(Deploy),
    /// Remove labs with everything in them
    Destroy(Destroy),
    /// Show labs with their nodes and links
    Inspect(Inspect),
    /// Start nodes
    Start(Operate),
    /// Stop nodes
    Stop(Stop),
    /// Stop and start nodes, with their links kept
    Restart(Operate),
    /// Run a command in a node
    Exec(Exec),
    /// Open the console of a node; Ctrl-] leaves it
    Console(Console),
    /// Show what a node prints
    Logs(Logs),
    /// Keep the configurations of running nodes beside their lab file
    Save(Save),
    /// Show what changed
    Events(Events),
    /// Wait until something is true of nodes
    Wait(Wait),
    /// Show who changed what of a node, and why
    History(History),
    /// Check a lab file without deploying it
    Validate(Validate),
    /// Draw a lab
    Graph(Graph),
    /// Tell what this machine can do and what is missing
    Doctor,
    /// Check a running controller's promises against its state
    Selfcheck,
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
    /// Print versions
    Version,
    /// Small network tools for nodes whose file system has none
    #[command(hide = true)]
    NodeTool(crate::tool::Tool),
}

/// How a lab file is read.
#[derive(Debug, Clone, Default, Args)]
pub struct Reading {
    /// File of variables for the lab file's template; may be given more than once, later ones win
    #[arg(long, value_name = "FILE")]
    pub vars: Vec<PathBuf>,
    /// Provider of nodes that name none
    #[arg(long, env = "LIFECYCLE_PROVIDER", hide_env = true, value_name = "NAME")]
    pub provider: Option<PluginName>,
    /// Network backend of links that name none
    #[arg(long, env = "LIFECYCLE_BACKEND", hide_env = true, value_name = "NAME")]
    pub backend: Option<PluginName>,
    /// Take warnings about the file for errors
    #[arg(long)]
    pub strict: bool,
}

/// How long a command stays.
#[derive(Debug, Clone, Default, Args)]
pub struct Patience {
    /// Return as soon as the intent is recorded
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after this time; what was asked for goes on [default: none]
    #[arg(long, env = "LIFECYCLE_TIMEOUT", hide_env = true, value_name = "TIME", conflicts_with = "no_wait")]
    pub timeout: Option<Span>,
}

/// `up`
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Lab file
    pub file: PathBuf,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// Leave the lab running on Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Give up, and remove the lab, when it is not up after this time [default: none]
    #[arg(long, env = "LIFECYCLE_TIMEOUT", hide_env = true, value_name = "TIME")]
    pub timeout: Option<Span>,
}

/// `deploy`
#[derive(Debug, Clone, Args)]
pub struct Deploy {
    /// Lab file
    #[arg(short, long = "topo", value_name = "FILE")]
    pub topo: PathBuf,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// Only print what would be done
    #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
    pub dry_run: bool,
    /// How long to stay.
    #[command(flatten)]
    pub patience: Patience,
}

/// `destroy`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["labs", "topo", "all"])))]
pub struct Destroy {
    /// Names of labs
    #[arg(value_name = "LAB")]
    pub labs: Vec<LabName>,
    /// The lab of this file
    #[arg(short, long = "topo", value_name = "FILE")]
    pub topo: Option<PathBuf>,
    /// Every lab
    #[arg(short, long)]
    pub all: bool,
    /// How long to stay.
    #[command(flatten)]
    pub patience: Patience,
}

/// `inspect`
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// Name of the lab; may be left out when there is only one
    #[arg(value_name = "LAB")]
    pub lab: Option<LabName>,
    /// Every lab
    #[arg(short, long, conflicts_with = "lab")]
    pub all: bool,
}

/// The lab of nodes that are named without one.
#[derive(Debug, Clone, Default, Args)]
pub struct InLab {
    /// Lab of the node; may be left out when only one lab has such a node
    #[arg(short, long, env = "LIFECYCLE_LAB", hide_env = true, value_name = "LAB")]
    pub lab: Option<LabName>,
}

/// `start` and `restart`
#[derive(Debug, Clone, Args)]
pub struct Operate {
    /// Nodes, as NODE or LAB/NODE
    #[arg(value_name = "NODE", required_unless_present = "all")]
    pub nodes: Vec<NodeArg>,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// Every node of the lab
    #[arg(short, long, conflicts_with = "nodes")]
    pub all: bool,
    /// How long to stay.
    #[command(flatten)]
    pub patience: Patience,
}

/// `stop`
#[derive(Debug, Clone, Args)]
pub struct Stop {
    /// Which nodes, and how long to stay.
    #[command(flatten)]
    pub operate: Operate,
    /// Interrupt nodes that are just being deployed or started
    #[arg(long, conflicts_with = "all")]
    pub abort: bool,
}

/// `exec`
#[derive(Debug, Clone, Args)]
pub struct Exec {
    /// Node, as NODE or LAB/NODE
    pub node: NodeArg,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// Run as this user
    #[arg(short, long)]
    pub user: Option<String>,
    /// Set a variable; may be given more than once
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Kill the command after this time [default: none]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Program and arguments, after `--`; no shell is involved
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// `console`
#[derive(Debug, Clone, Args)]
pub struct Console {
    /// Node, as NODE or LAB/NODE
    pub node: NodeArg,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// Program to run in a new terminal, after `--`; the node's own console without one
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `logs`
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Node, as NODE or LAB/NODE
    pub node: NodeArg,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// Go on as the node prints
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last so many lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

/// `save`
#[derive(Debug, Clone, Args)]
pub struct Save {
    /// Nodes, as NODE or LAB/NODE; every node of the lab without one
    #[arg(value_name = "NODE")]
    pub nodes: Vec<NodeArg>,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// Directory to keep them in, instead of that of the lab file
    #[arg(short, long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `events`
#[derive(Debug, Clone, Args)]
pub struct Events {
    /// Go on as things change
    #[arg(short, long)]
    pub follow: bool,
    /// Begin after this event [default: everything that is kept, or only what is new with --follow]
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
    /// Only of this lab
    #[command(flatten)]
    pub lab: InLab,
}

/// `wait`
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Nodes, as NODE or LAB/NODE; every node of the lab without one
    #[arg(value_name = "NODE")]
    pub nodes: Vec<NodeArg>,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
    /// What has to be true: `state=STATE`, `ready`, `link=up`, `link=down` or `gone`
    #[arg(long = "for", value_name = "CONDITION")]
    pub condition: Condition,
    /// Give up after this time
    #[arg(long, env = "LIFECYCLE_TIMEOUT", hide_env = true, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
}

/// `history`
#[derive(Debug, Clone, Args)]
pub struct History {
    /// Node, as NODE or LAB/NODE; also one that is gone
    pub node: NodeArg,
    /// The lab.
    #[command(flatten)]
    pub lab: InLab,
}

/// `validate`
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// Lab file
    pub file: PathBuf,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// `graph`
#[derive(Debug, Clone, Args)]
pub struct Graph {
    /// Name of a running lab; may be left out when there is only one
    #[arg(value_name = "LAB", conflicts_with = "topo")]
    pub lab: Option<LabName>,
    /// A lab file instead of a running lab
    #[arg(short, long = "topo", value_name = "FILE")]
    pub topo: Option<PathBuf>,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// In which language
    #[arg(long, default_value = "mermaid")]
    pub format: GraphFormat,
}

/// Languages for graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Mermaid.
    Mermaid,
    /// Graphviz.
    Dot,
}
