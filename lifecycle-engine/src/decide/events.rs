//! Turns the rows that a step touched into the changes of its batch and the entries of the feed.

use std::collections::BTreeSet;

use lifecycle_core::id::LabId;
use lifecycle_core::model::{Change, Event, EventBody, JobView, LabRecord, LabView, LinkView, NodeView};
use lifecycle_core::time::Now;

use super::table::Touched;
use super::world::World;

/// What changed, for the store and for the feed.
///
/// Drops stand before puts, links before nodes before labs; puts stand the other way round, so that every reference
/// between rows holds at every point.
pub(super) fn drain(world: &mut World, now: Now) -> (Vec<Change>, Vec<Event>) {
    let mut labs: BTreeSet<LabId> = world.labs.touched().copied().collect();
    labs.extend(world.tally.take_stirred());

    let mut drops = Vec::new();
    let mut bodies = Vec::new();
    let mut gone = Vec::new();
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
            gone.push(id);
        }
    });
    world.host_rows.drain(|touched| {
        if let Touched::Put(host) = touched {
            put_hosts.push(host.clone());
        }
    });

    for id in labs {
        let Some(view) = world.labs.get(&id).map(|lab| lab_view(world, lab)) else { continue };
        if world.told.get(&id) != Some(&view) {
            world.told.insert(id, view.clone());
            bodies.push((Some(id), EventBody::Lab(Box::new(view))));
        }
    }
    for id in gone {
        world.told.remove(&id);
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
    let summary = world.tally.summary(lab.id);
    LabView::new(lab, summary.shown, count(summary.stale))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
