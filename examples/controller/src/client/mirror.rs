//! A copy of a lab that is kept current by the feed.

use std::collections::BTreeMap;

use lifecycle_core::id::{JobId, LinkId, NodeId};
use lifecycle_core::name::LabName;

use super::{Client, Feed, FeedItem, Position};
use crate::api::wire::{Event, EventBody, Job, Lab, LabSnapshot, Link, Node};
use crate::failure::Result;

/// A copy of a lab.
#[derive(Debug, Clone, PartialEq)]
pub struct LabMirror {
    /// The lab; none once it is gone.
    pub lab: Option<Lab>,
    /// Its nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Its links.
    pub links: BTreeMap<LinkId, Link>,
    /// Its jobs.
    pub jobs: BTreeMap<JobId, Job>,
    /// Number of the last event that it contains.
    pub seq: u64,
}

/// What an event changed in a copy.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A node is new or another: how it was before, if it was there.
    Node(NodeId, Option<Box<Node>>),
    /// A link is new or another: how it was before, if it was there.
    Link(LinkId, Option<Box<Link>>),
    /// Something else, or everything.
    Other,
}

impl From<LabSnapshot> for LabMirror {
    fn from(snapshot: LabSnapshot) -> Self {
        Self {
            lab: Some(snapshot.lab),
            nodes: snapshot.nodes.into_iter().map(|node| (node.id, node)).collect(),
            links: snapshot.links.into_iter().map(|link| (link.id, link)).collect(),
            jobs: snapshot.jobs.into_iter().map(|job| (job.id, job)).collect(),
            seq: snapshot.as_of_seq,
        }
    }
}

impl LabMirror {
    fn gone(seq: u64) -> Self {
        Self { lab: None, nodes: BTreeMap::new(), links: BTreeMap::new(), jobs: BTreeMap::new(), seq }
    }

    /// Takes an event in; nothing when it is about something else.
    pub fn take(&mut self, event: Event) -> Option<Change> {
        self.seq = event.seq;
        let own = self.lab.as_ref()?.id;
        match event.body {
            EventBody::Lab { lab } if lab.id == own => self.lab = Some(*lab),
            EventBody::LabGone { id } if id == own => {
                self.lab = None;
                self.nodes.clear();
                self.links.clear();
                self.jobs.clear();
            }
            EventBody::Node { node } if node.lab_id == own => {
                let id = node.id;
                return Some(Change::Node(id, self.nodes.insert(id, *node).map(Box::new)));
            }
            EventBody::Link { link } if link.lab_id == own => {
                let id = link.id;
                return Some(Change::Link(id, self.links.insert(id, *link).map(Box::new)));
            }
            EventBody::Job { job } if job.lab_id == own => drop(self.jobs.insert(job.id, *job)),
            EventBody::JobGone { id } => drop(self.jobs.remove(&id)?),
            EventBody::NodeGone { id } => drop(self.nodes.remove(&id)?),
            EventBody::LinkGone { id } => drop(self.links.remove(&id)?),
            _ => return None,
        }
        Some(Change::Other)
    }
}

/// Follows a lab from now on: a copy of it, and the feed that keeps the copy current. Nothing when there is no such lab.
///
/// # Errors
/// As every request.
pub async fn follow(client: &Client, lab: &LabName) -> Result<Option<(LabMirror, Feed)>> {
    let Some(snapshot) = client.find_lab(lab).await? else { return Ok(None) };
    let mirror = LabMirror::from(snapshot);
    let feed = client.feed(Position::After(mirror.seq)).await?;
    Ok(Some((mirror, feed)))
}

impl LabMirror {
    /// Waits for the next change of the lab; nothing when the controller has ended.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self, client: &Client, feed: &mut Feed) -> Result<Option<Change>> {
        loop {
            match feed.next().await? {
                None => return Ok(None),
                Some(FeedItem::Event(event)) => {
                    if let Some(change) = self.take(*event) {
                        return Ok(Some(change));
                    }
                }
                Some(FeedItem::Reset(_)) => {
                    let Some(name) = self.lab.as_ref().map(|lab| lab.name.clone()) else { continue };
                    let found = client.find_lab(&name).await?;
                    match found {
                        Some(snapshot) => *self = snapshot.into(),
                        None => *self = Self::gone(self.seq),
                    }
                    return Ok(Some(Change::Other));
                }
            }
        }
    }
}
