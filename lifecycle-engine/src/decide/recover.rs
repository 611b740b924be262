//! Picks up what the controller before left: its jobs are nobody's now, and waits of another boot begin again.

use lifecycle_core::id::{JobId, LinkId, NodeId};
use lifecycle_core::machine::{JobState, LinkState};

use super::{Cx, Why, jobs};

/// Picks up what the controller before left. Nothing is done to the world outside before it was read.
pub(super) fn begin(cx: &mut Cx<'_>) {
    let now = cx.now.boot;
    let lost: Vec<JobId> = cx.world.jobs.values().filter(|job| job.finished_at.is_none()).map(|job| job.id).collect();
    for job in lost {
        jobs::end(cx, job, JobState::Failed, "the controller was restarted; enforcement goes on by itself");
    }
    let nodes: Vec<NodeId> = cx.world.nodes.keys().copied().collect();
    for id in nodes {
        let Some(node) = cx.world.nodes.get(&id) else { continue };
        let other_boot = |at: lifecycle_core::time::BootInstant| at.boot != now.boot;
        let stale_waits = node.budget.next_attempt.is_some_and(|wait| other_boot(wait.from))
            || node.deadline.is_some_and(|wait| other_boot(wait.from));
        cx.change_node(id, |node| {
            if stale_waits {
                node.budget.rebase(now);
                node.deadline = node.deadline.map(|wait| wait.rebased(now));
            }
            // A transitional state without work has lasted long enough: look as soon as the provider was read.
            if node.actual.is_transitional() {
                node.deadline = node.deadline.map(|wait| lifecycle_core::time::Deadline { wait_millis: 0, ..wait });
            }
        });
    }
    let links: Vec<LinkId> = cx.world.links.keys().copied().collect();
    for id in links {
        let Some(link) = cx.world.links.get(&id) else { continue };
        let voided = link.identity.as_ref().is_some_and(|identity| identity.boot != now.boot);
        let creating = link.actual == LinkState::Creating;
        cx.change_link(id, |link| {
            link.budget.rebase(now);
            if voided {
                link.identity = None;
                link.incarnation += 1;
            }
        });
        if creating {
            cx.link_is(id, LinkState::Pending, Why::sync().because("the controller was restarted"));
        } else if voided && link_is_built(cx, id) {
            cx.link_is(id, LinkState::Pending, Why::drift().because("the machine was restarted"));
        }
        super::link::doubt(cx.world, id, now);
        cx.world.touch_link(id);
    }
}

fn link_is_built(cx: &Cx<'_>, id: LinkId) -> bool {
    cx.world.links.get(&id).is_some_and(|link| matches!(link.actual, LinkState::Up | LinkState::Down))
}
