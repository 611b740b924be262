//! A client of the feed.

use std::collections::BTreeMap;

use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::model::{EventBody, JobView, LabView, LinkView, NodeView};

use super::super::Violation;
use super::Seen;
use crate::decide::lab_view;

/// Steps between two comparisons, which look at everything.
const EVERY: u64 = 16;

/// What a client knows that followed the feed from its beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirror {
    seq: u64,
    labs: BTreeMap<LabId, LabView>,
    nodes: BTreeMap<NodeId, NodeView>,
    links: BTreeMap<LinkId, LinkView>,
    jobs: BTreeMap<JobId, JobView>,
}

impl Mirror {
    /// I29: whoever follows the feed ends with the controller's own view, and sees every gap.
    pub(super) fn i29_the_feed_ends_with_the_same_view(&mut self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        for event in &seen.step.batch.events {
            if event.seq != self.seq + 1 {
                found.push(Violation::new("I29", "feed", format!("{} follows {}", event.seq, self.seq)));
            }
            self.seq = event.seq;
            match &event.body {
                EventBody::Lab(view) => drop(self.labs.insert(view.id, (**view).clone())),
                EventBody::LabGone { id } => drop(self.labs.remove(id)),
                EventBody::Node(view) => drop(self.nodes.insert(view.id, (**view).clone())),
                EventBody::NodeGone { id } => drop(self.nodes.remove(id)),
                EventBody::Link(view) => drop(self.links.insert(view.id, (**view).clone())),
                EventBody::LinkGone { id } => drop(self.links.remove(id)),
                EventBody::Job(view) => drop(self.jobs.insert(view.id, (**view).clone())),
                EventBody::JobGone { id } => drop(self.jobs.remove(id)),
            }
        }
        if seen.world.step.is_multiple_of(EVERY) {
            self.compare(seen, found);
        }
    }

    fn compare(&self, seen: Seen<'_>, found: &mut Vec<Violation>) {
        let world = seen.world;
        let policy = &world.settings.enforcement;
        let nodes = world.nodes.values().map(|row| (row.id, NodeView::new(row, world.spec(row.id), policy))).collect();
        let links = world.links.values().map(|row| (row.id, LinkView::new(row))).collect();
        let jobs = world.jobs.values().map(|row| (row.id, JobView::new(row))).collect();
        let labs = world.labs.values().map(|row| (row.id, lab_view(world, row))).collect();
        differ("node", &self.nodes, &nodes, found);
        differ("link", &self.links, &links, found);
        differ("job", &self.jobs, &jobs, found);
        differ("lab", &self.labs, &labs, found);
    }
}

fn differ<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    told: &BTreeMap<K, V>,
    truth: &BTreeMap<K, V>,
    found: &mut Vec<Violation>,
) {
    for (key, value) in truth {
        if told.get(key) != Some(value) {
            found.push(Violation::new(
                "I29",
                format!("{what} {key:?}"),
                format!("told {:?}, is {value:?}", told.get(key)),
            ));
        }
    }
    for key in told.keys().filter(|key| !truth.contains_key(key)) {
        found.push(Violation::new("I29", format!("{what} {key:?}"), "it is gone and nobody was told"));
    }
}
