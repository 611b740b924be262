//! Whether a node has reached a stage that another one waits for.
//!
//! The stages are those of containerlab's lab files, told by what can be observed here, where interfaces exist before the
//! node's own process starts:
//!
//! | stage | is reached when |
//! |---|---|
//! | `create` | the node runs; or, while it waits for others before `create-links`, its instance is there |
//! | `create-links` | it runs, with its links |
//! | `configure` | the commands that follow its start have ended |
//! | `healthy` | it is ready |
//! | `exit` | it has ended by itself since it last ran |
//!
//! A stage that has commands is reached only when these have ended. They are run in the node, so at the earliest when its
//! process runs; [`Moment`] says when.
//!
//! A node enters its stages one after the other, and reaches each only after it entered it. So whatever waits for each
//! other without a circle in the lab file does here, too.

use crate::machine::{NodeIntent, NodeState};
use crate::topology::{Stage, StagePhase};

/// A moment on a node's way up at which commands are run in it, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Its process runs.
    Started,
    /// It need not wait for others any longer before it is configured.
    Configuring,
    /// Nor before it counts as ready.
    Probing,
    /// It has become ready.
    Ready,
}

impl Moment {
    /// When the commands of a stage are run; nothing where a node that ended would have to run them.
    pub const fn of(stage: Stage, phase: StagePhase) -> Option<Self> {
        match (stage, phase) {
            (Stage::Create | Stage::CreateLinks, _) => Some(Self::Started),
            (Stage::Configure, _) => Some(Self::Configuring),
            (Stage::Healthy, StagePhase::OnEnter) => Some(Self::Probing),
            (Stage::Healthy, StagePhase::OnExit) => Some(Self::Ready),
            (Stage::Exit, _) => None,
        }
    }
}

/// What is looked at of the node that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageFacts {
    /// Its state.
    pub state: NodeState,
    /// What its user wants; `Stopped` as well when it is to be removed.
    pub intent: NodeIntent,
    /// Whether its instance is there, has entered `create`, and waits for others before it enters `create-links`.
    pub awaits_links: bool,
    /// The moment whose commands it has not run yet since its process started; nothing when it has run all.
    pub next: Option<Moment>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether its process ended by itself, and it did not run since.
    pub ended: bool,
    /// Whether its host cannot be reached, so that nobody knows.
    pub stale: bool,
    /// Whether it cannot get any further by itself: it was given up, or no retry can help.
    pub hopeless: bool,
}

/// How far the node is that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// It has reached the stage.
    Reached,
    /// It is on its way, or nobody knows.
    Coming,
    /// It is in error, and does not get there by itself.
    Failed,
    /// It is not wanted to run.
    NotWanted,
}

/// How far a node is on its way to a stage.
pub fn judge(until: Stage, facts: &StageFacts) -> Awaited {
    let runs = facts.state == NodeState::Running;
    let past = |moment| runs && facts.next.is_none_or(|next| next > moment);
    let reached = match until {
        Stage::Create => past(Moment::Started) || facts.awaits_links,
        Stage::CreateLinks => past(Moment::Started),
        Stage::Configure => past(Moment::Configuring),
        Stage::Healthy => past(Moment::Ready) && facts.ready,
        Stage::Exit => facts.ended,
    };
    let wanted = facts.intent == NodeIntent::Running;
    match facts.state {
        _ if reached && until == Stage::Exit => Awaited::Reached,
        _ if !wanted => Awaited::NotWanted,
        _ if facts.stale => Awaited::Coming,
        _ if reached => Awaited::Reached,
        NodeState::Error if facts.hopeless => Awaited::Failed,
        _ => Awaited::Coming,
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    const RUNS: StageFacts = StageFacts {
        state: NodeState::Running,
        intent: NodeIntent::Running,
        awaits_links: false,
        next: None,
        ready: true,
        ended: false,
        stale: false,
        hopeless: false,
    };

    /// The verdict for each stage in their order.
    fn verdicts(facts: &StageFacts) -> Vec<Awaited> {
        Stage::VARIANTS.iter().map(|stage| judge(*stage, facts)).collect()
    }

    #[test]
    fn stages_are_reached_one_after_the_other() {
        use Awaited::{Coming, NotWanted, Reached};
        let table = [
            (RUNS, [Reached, Reached, Reached, Reached, Coming]),
            (StageFacts { ready: false, ..RUNS }, [Reached, Reached, Reached, Coming, Coming]),
            (StageFacts { next: Some(Moment::Ready), ..RUNS }, [Reached, Reached, Reached, Coming, Coming]),
            (
                StageFacts { ready: false, next: Some(Moment::Configuring), ..RUNS },
                [Reached, Reached, Coming, Coming, Coming],
            ),
            (StageFacts { ready: false, next: Some(Moment::Started), ..RUNS }, [Coming; 5]),
            (StageFacts { state: NodeState::Starting, ..RUNS }, [Coming; 5]),
            (
                StageFacts { state: NodeState::Pending, awaits_links: true, ..RUNS },
                [Reached, Coming, Coming, Coming, Coming],
            ),
            (StageFacts { state: NodeState::Starting, ended: true, ..RUNS }, [Coming, Coming, Coming, Coming, Reached]),
            (
                StageFacts { state: NodeState::Exited, ended: true, intent: NodeIntent::Stopped, ..RUNS },
                [NotWanted, NotWanted, NotWanted, NotWanted, Reached],
            ),
        ];
        for (facts, expected) in table {
            assert_eq!(verdicts(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_does_not_come_is_told_from_what_may() {
        for state in NodeState::VARIANTS {
            let facts = StageFacts { state: *state, hopeless: true, ..RUNS };
            let expected = match state {
                NodeState::Running => Awaited::Reached,
                NodeState::Error => Awaited::Failed,
                _ => Awaited::Coming,
            };
            assert_eq!(verdicts(&facts)[..4], [expected; 4], "{state}");
            let unwanted = StageFacts { intent: NodeIntent::Stopped, ..facts };
            assert_eq!(verdicts(&unwanted), [Awaited::NotWanted; 5], "{state}");
            let unknown = StageFacts { stale: true, ..facts };
            assert_eq!(verdicts(&unknown), [Awaited::Coming; 5], "{state}");
        }
    }
}
