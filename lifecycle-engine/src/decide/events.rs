//! Turns the rows that a step touched into the changes of its batch and the entries of the feed.

use std::collections::BTreeSet;

use lifecycle_core::id::LabId;
use lifecycle_core::model::{Change, Event, EventBody, JobView, LabRecord, LabView, LinkView, NodeView};
use lifecycle_core::policy::lab::{LabNode, LabSummary, summarise};
use lifecycle_core::time::Now;

use super::table::Touched;
use super::world::World;

/// What changed, for the store and for the feed.
///
/// Drops stand before puts, links before nodes before labs; puts stand the other way round, so that every reference
/// between rows holds at every point.
pub(super) fn drain(world: &mut World, now: Now) -> (Vec<Change>, Vec<Event>) {
    let mut labs: BTreeSet<LabId> = world.labs.touched().copied().collect();
    for id in world.nodes.touched() {
        labs.extend(world.nodes.get(id).map(|node| node.lab));
    }

    let mut drops = Vec::new();
    let mut bodies = Vec::new();
    let (mut put_links, mut put_nodes, mut put_labs, mut put_jobs, mut put_hosts) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());

    // A view needs the new generation and rows of other tables, so the tables are drained before any view is made.
    world.jobs.drain(|touched| match touched {
        Touched::Put(job) => put_jobs.push(job.clone()),
        Touched::Drop(id, generation) => {
            drops.push(Change::DropJob { id, generation });
            bodies.push((None, EventBody::JobGone { id }));
        }
    });
    world.links.drain(|touched| match touched {
        Touched::Put(link) => put_links.push(link.clone()),
        Touched::Drop(id, generation) => {
            drops.push(Change::DropLink { id, generation });
            bodies.push((None, EventBody::LinkGone { id }));
        }
    });
    world.nodes.drain(|touched| match touched {
        Touched::Put(node) => put_nodes.push(node.clone()),
        Touched::Drop(id, generation) => {
            drops.push(Change::DropNode { id, generation });
            bodies.push((None, EventBody::NodeGone { id }));
        }
    });
    world.labs.drain(|touched| match touched {
        Touched::Put(lab) => put_labs.push(lab.clone()),
        Touched::Drop(id, generation) => {
            drops.push(Change::DropLab { id, generation });
            bodies.push((Some(id), EventBody::LabGone { id }));
        }
    });
    world.host_rows.drain(|touched| {
        if let Touched::Put(host) = touched {
            put_hosts.push(host.clone());
        }
    });

    for id in labs {
        if let Some(lab) = world.labs.get(&id) {
            bodies.push((Some(id), EventBody::Lab(Box::new(lab_view(world, lab)))));
        }
    }
    for node in &put_nodes {
        let view = NodeView::new(node, world.spec(node.id), &world.settings.enforcement);
        bodies.push((Some(node.lab), EventBody::Node(Box::new(view))));
    }
    bodies.extend(put_links.iter().map(|link| (Some(link.lab), EventBody::Link(Box::new(LinkView::new(link))))));
    bodies.extend(put_jobs.iter().map(|job| (Some(job.lab), EventBody::Job(Box::new(JobView::new(job))))));

    let events =
        (world.head.event + 1..).zip(bodies).map(|(seq, (lab, body))| Event { seq, at: now.wall, lab, body }).collect();
    let mut changes = drops;
    changes.extend(put_hosts.into_iter().map(|row| Change::PutHost(Box::new(row))));
    changes.extend(put_labs.into_iter().map(|row| Change::PutLab(Box::new(row))));
    changes.extend(put_nodes.into_iter().map(|row| Change::PutNode(Box::new(row))));
    changes.extend(put_links.into_iter().map(|row| Change::PutLink(Box::new(row))));
    changes.extend(put_jobs.into_iter().map(|row| Change::PutJob(Box::new(row))));
    (changes, events)
}

/// A lab as people see it.
pub fn lab_view(world: &World, lab: &LabRecord) -> LabView {
    let summary = lab_summary(world, lab.id);
    LabView::new(lab, summary.shown, count(summary.stale))
}

/// The state of a lab from the states of its nodes.
fn lab_summary(world: &World, lab: LabId) -> LabSummary {
    summarise(world.nodes_of(lab).map(|node| LabNode {
        state: node.actual,
        will_retry: node.will_retry(&world.settings.enforcement),
        stale: node.stale_since.is_some(),
    }))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
