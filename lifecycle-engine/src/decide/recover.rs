//! Picks up what the controller before left: its jobs are nobody's now, and waits of another boot begin again.

use lifecycle_core::id::{JobId, LinkId, NodeId};
use lifecycle_core::machine::{JobState, LinkState};
use lifecycle_core::time::Deadline;

use super::planted::Bug;
use super::{Cx, Why, jobs, link};

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
        let stale_wait = node.budget.next_attempt.is_some_and(|wait| other_boot(wait.from));
        cx.world.touch_node(id);
        let Some(node) = cx.world.nodes.get(&id) else { continue };
        let transitional = node.actual.is_transitional();
        let keeps = cx.world.has_bug(Bug::KeepsWaitsOfAnotherBoot);
        if stale_wait || transitional {
            cx.change_node(id, |node| {
                if !keeps {
                    node.budget.rebase(now);
                }
                // A transitional state without work has lasted long enough: look as soon as the provider was read.
                if transitional {
                    node.deadline = Some(Deadline { from: now, wait_millis: 0 });
                }
            });
        }
    }
    let links: Vec<LinkId> = cx.world.links.keys().copied().collect();
    for id in links {
        let Some(link) = cx.world.links.get(&id) else { continue };
        let voided = link.identity.as_ref().is_some_and(|identity| identity.boot != now.boot);
        let stale_wait = link.budget.next_attempt.is_some_and(|wait| wait.from.boot != now.boot);
        if stale_wait {
            cx.change_link(id, |link| link.budget.rebase(now));
        }
        if voided {
            link::void(cx, id, "the machine was restarted");
        }
        if cx.world.links.get(&id).is_some_and(|link| link.actual == LinkState::Creating) {
            // Whether anything came of it is found out by building it again.
            cx.link_is(id, LinkState::Pending, Why::sync().because("the controller was restarted"));
        }
        link::doubt(cx.world, id, now);
        cx.world.touch_link(id);
    }
}
