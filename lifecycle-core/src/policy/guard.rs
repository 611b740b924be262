//! Whether a user's command on one node is taken, is a success without a change, or is refused, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use crate::machine::{NodeIntent, NodeState};
use crate::time::Timestamp;

/// A user's command on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// It should run.
    Start,
    /// It should not run.
    Stop {
        /// Whether to interrupt a deploy or start that is under way.
        abort: bool,
    },
    /// Stop, then start, with its links kept.
    Restart,
    /// Stop and remove it and everything of it.
    Destroy {
        /// Whether to interrupt a deploy or start that is under way.
        abort: bool,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop { .. } => "stop",
            Self::Restart => "restart",
            Self::Destroy { .. } => "destroy",
        })
    }
}

/// What the guard looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardFacts {
    /// The node's state.
    pub state: NodeState,
    /// Since when it is in that state.
    pub since: Option<Timestamp>,
    /// What its user wants until now.
    pub intent: NodeIntent,
    /// What the live job on the node works towards, if there is one.
    pub live_job: Option<NodeIntent>,
    /// Whether it is marked for deletion.
    pub deleting: bool,
}

/// The guard's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Record the intent and reset the budget.
    Accept,
    /// A success that changes nothing.
    AlreadyThere,
    /// A conflict.
    Refuse(Refusal),
}

/// The kinds of conflict, as programs read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RefusalCode {
    /// The node is on its way to some state.
    NodeTransitional,
    /// A job works on the node that the command would cross.
    LiveJob,
    /// The node is marked for deletion.
    BeingDeleted,
}

/// Why a command was refused and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of conflict.
    pub code: RefusalCode,
    /// The refused command.
    pub command: Command,
    /// The node's state.
    pub state: NodeState,
    /// Since when it is in that state.
    pub since: Option<Timestamp>,
    /// What would be accepted, for people.
    pub advice: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, command, state, since, advice } = self;
        write!(f, "cannot {command}: the node is `{state}`")?;
        if let Some(since) = since {
            write!(f, " since {since:.0}")?;
        }
        match code {
            RefusalCode::NodeTransitional => {}
            RefusalCode::LiveJob => f.write_str(" and a job is at work on it")?,
            RefusalCode::BeingDeleted => f.write_str(" and marked for deletion")?,
        }
        write!(f, "; {advice}")
    }
}

impl std::error::Error for Refusal {}

/// Judges `command`.
pub fn judge(command: Command, facts: &GuardFacts) -> Verdict {
    use NodeState::{Pending, Starting, Stopping};
    use RefusalCode::{BeingDeleted, LiveJob, NodeTransitional};

    let GuardFacts { state, since, intent, live_job, deleting } = *facts;
    let refuse =
        |code, advice: &str| Verdict::Refuse(Refusal { code, command, state, since, advice: advice.to_owned() });
    let there = |wanted: NodeIntent| {
        if state.matches(wanted) && intent == wanted { Verdict::AlreadyThere } else { Verdict::Accept }
    };
    match command {
        Command::Start | Command::Restart if deleting => {
            refuse(BeingDeleted, "wait until it is gone, then deploy anew")
        }
        Command::Start => match state {
            Pending | Starting => refuse(NodeTransitional, "it is already under way; wait, or stop it with abort"),
            Stopping => refuse(NodeTransitional, "wait until it has stopped, then start it"),
            _ if live_job == Some(NodeIntent::Stopped) => {
                refuse(LiveJob, "wait until the job that stops it ends, or cancel that job")
            }
            _ => there(NodeIntent::Running),
        },
        Command::Stop { abort } => match state {
            Stopping => refuse(NodeTransitional, "it is already under way; wait until it has stopped"),
            Pending | Starting if !abort => {
                refuse(NodeTransitional, "wait until it runs, or stop it with abort to interrupt it")
            }
            _ if live_job == Some(NodeIntent::Running) && !abort => {
                refuse(LiveJob, "wait until the job that starts it ends, or stop it with abort to interrupt it")
            }
            _ => there(NodeIntent::Stopped),
        },
        // A job of either intent is in the way: a restart goes both ways and would be a second job.
        Command::Restart => match state {
            Pending | Starting => refuse(NodeTransitional, "wait until it runs, or stop it with abort"),
            Stopping => refuse(NodeTransitional, "wait until it has stopped, then start it"),
            _ if live_job.is_some() => refuse(LiveJob, "wait until that job ends, or cancel it"),
            _ => Verdict::Accept,
        },
        // A stop that is under way goes the same way; the removal follows it.
        Command::Destroy { abort } => match state {
            _ if deleting => Verdict::AlreadyThere,
            Pending | Starting if !abort => {
                refuse(NodeTransitional, "wait until it runs, or destroy it with abort to interrupt it")
            }
            _ if live_job == Some(NodeIntent::Running) && !abort => {
                refuse(LiveJob, "wait until the job that starts it ends, or destroy it with abort to interrupt it")
            }
            _ => Verdict::Accept,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Command = Command::Stop { abort: false };
    const ABORT: Command = Command::Stop { abort: true };
    const DESTROY: Command = Command::Destroy { abort: false };
    const DESTROY_NOW: Command = Command::Destroy { abort: true };
    const COMMANDS: [Command; 6] = [Command::Start, STOP, ABORT, Command::Restart, DESTROY, DESTROY_NOW];

    /// One letter per state, in the order of the enum: (A)ccept, (=) already there, refused as (T)ransitional, for a
    /// live (J)ob, or as being (D)eleted. Columns: no job, a job that starts, a job that stops.
    const TABLE: [(Command, &str, [&str; 3]); 12] = [
        (Command::Start, "running", ["ATT=TAAA", "ATT=TAAA", "JTTJTJJJ"]),
        (Command::Start, "stopped", ["ATTATAAA", "ATTATAAA", "JTTJTJJJ"]),
        (STOP, "running", ["ATTATAAA", "JTTJTJJJ", "ATTATAAA"]),
        (STOP, "stopped", ["=TTAT==A", "JTTJTJJJ", "=TTAT==A"]),
        (ABORT, "running", ["AAAATAAA", "AAAATAAA", "AAAATAAA"]),
        (ABORT, "stopped", ["=AAAT==A", "=AAAT==A", "=AAAT==A"]),
        (Command::Restart, "running", ["ATTATAAA", "JTTJTJJJ", "JTTJTJJJ"]),
        (Command::Restart, "stopped", ["ATTATAAA", "JTTJTJJJ", "JTTJTJJJ"]),
        (DESTROY, "running", ["ATTAAAAA", "JTTJJJJJ", "ATTAAAAA"]),
        (DESTROY, "stopped", ["ATTAAAAA", "JTTJJJJJ", "ATTAAAAA"]),
        (DESTROY_NOW, "running", ["AAAAAAAA", "AAAAAAAA", "AAAAAAAA"]),
        (DESTROY_NOW, "stopped", ["AAAAAAAA", "AAAAAAAA", "AAAAAAAA"]),
    ];

    fn letter(verdict: &Verdict) -> char {
        match verdict {
            Verdict::Accept => 'A',
            Verdict::AlreadyThere => '=',
            Verdict::Refuse(refusal) => {
                let text = refusal.to_string();
                assert!(text.contains(&format!("`{}`", refusal.state)) && !refusal.advice.is_empty(), "{text}");
                match refusal.code {
                    RefusalCode::NodeTransitional => 'T',
                    RefusalCode::LiveJob => 'J',
                    RefusalCode::BeingDeleted => 'D',
                }
            }
        }
    }

    fn row(command: Command, intent: NodeIntent, live_job: Option<NodeIntent>, deleting: bool) -> String {
        let facts = |&state| GuardFacts { state, since: None, intent, live_job, deleting };
        NodeState::VARIANTS.iter().map(|state| letter(&judge(command, &facts(state)))).collect()
    }

    #[test]
    fn every_state_intent_job_and_command() {
        for (command, intent, rows) in TABLE {
            let jobs = [None, Some(NodeIntent::Running), Some(NodeIntent::Stopped)];
            for (live_job, expected) in jobs.into_iter().zip(rows) {
                let found = row(command, intent.parse().unwrap(), live_job, false);
                assert_eq!(found, expected, "{command:?}, desired={intent}, job={live_job:?}");
            }
        }
    }

    #[test]
    fn a_node_marked_for_deletion_only_goes_down() {
        for command in COMMANDS {
            for &intent in NodeIntent::VARIANTS {
                let found = row(command, intent, None, true);
                match command {
                    Command::Start | Command::Restart => assert_eq!(found, "DDDDDDDD"),
                    Command::Stop { .. } => assert_eq!(found, row(command, intent, None, false)),
                    Command::Destroy { .. } => assert_eq!(found, "========"),
                }
            }
        }
    }

    #[test]
    fn a_refusal_says_state_since_and_advice() {
        let since = "2026-08-01T12:00:00Z".parse().unwrap();
        let facts = GuardFacts {
            state: NodeState::Starting,
            since: Some(since),
            intent: NodeIntent::Running,
            live_job: None,
            deleting: false,
        };
        let Verdict::Refuse(refusal) = judge(STOP, &facts) else { panic!("not refused") };
        let text = "cannot stop: the node is `starting` since 2026-08-01T12:00:00Z; wait until it runs, or stop it \
                    with abort to interrupt it";
        assert_eq!(refusal.to_string(), text);
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["code"], "node_transitional");
    }
}
