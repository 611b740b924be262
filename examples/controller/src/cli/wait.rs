//! `wait`: until something is true of nodes.

use std::collections::BTreeMap;

use lifecycle_core::name::{LabName, NodeName};
use tokio::time::Instant;

use super::args::Wait;
use super::settle::{at, controller_ended};
use super::{Condition, Context, target};
use crate::api::wire::LabSnapshot;
use crate::client::{Client, FeedItem, Position};
use crate::failure::{Exit, Failure, Result};

pub(super) async fn run(context: &Context, args: Wait) -> Result {
    let client = context.client().await?;
    let deadline = Instant::now() + args.timeout.0;
    for (lab, nodes) in wanted(&client, &args).await? {
        let missing = wait(&client, &lab, &nodes, args.condition, deadline).await?;
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
            let message = format!("not `{}` within {}: {}", args.condition, args.timeout, names.join(", "));
            return Err(Failure::new(Exit::Timeout, message));
        }
    }
    Ok(Exit::Ok)
}

/// The nodes that are meant, by their labs.
async fn wanted(client: &Client, args: &Wait) -> Result<BTreeMap<LabName, Vec<NodeName>>> {
    let mut wanted: BTreeMap<LabName, Vec<NodeName>> = BTreeMap::new();
    if args.nodes.is_empty() {
        let lab = target::lab(client, args.lab.lab.as_ref()).await?;
        let nodes = match client.find_lab(&lab).await? {
            Some(lab) => lab.nodes,
            // A lab that is gone, as may be waited for, has no nodes.
            None if args.condition == Condition::Gone => Vec::new(),
            None => client.lab(&lab).await?.nodes,
        };
        wanted.insert(lab, nodes.into_iter().map(|node| node.node_name).collect());
        return Ok(wanted);
    }
    for target in target::nodes(client, &args.nodes, args.lab.lab.as_ref()).await? {
        wanted.entry(target.lab).or_default().push(target.node);
    }
    Ok(wanted)
}

/// Looks after every event whether the condition holds; returns the nodes of which it does not when the time is over.
async fn wait(
    client: &Client,
    lab: &LabName,
    nodes: &[NodeName],
    condition: Condition,
    deadline: Instant,
) -> Result<Vec<NodeName>> {
    let mut existed = false;
    loop {
        // The feed begins before the look, so that nothing falls in between.
        let mut feed = client.feed(Position::Now).await?;
        let snapshot = client.find_lab(lab).await?;
        existed |= snapshot.is_some();
        let missing = missing(snapshot.as_ref(), nodes, condition);
        if missing.is_empty() {
            return Ok(missing);
        }
        if let Some(unknown) = unknown(snapshot.as_ref(), nodes).filter(|_| condition != Condition::Gone) {
            let gone = if existed && snapshot.is_none() { "it is gone" } else { "there is no such node" };
            return Err(Failure::new(Exit::NotFound, format!("{lab}/{unknown}: {gone}")));
        }
        tokio::select! {
            event = relevant(&mut feed, snapshot.as_ref()) => event?,
            () = at(Some(deadline)) => return Ok(missing),
        }
    }
}

fn missing(lab: Option<&LabSnapshot>, nodes: &[NodeName], condition: Condition) -> Vec<NodeName> {
    nodes.iter().filter(|node| !condition.holds(lab, node)).cloned().collect()
}

fn unknown<'a>(lab: Option<&LabSnapshot>, nodes: &'a [NodeName]) -> Option<&'a NodeName> {
    nodes.iter().find(|name| !lab.is_some_and(|lab| lab.nodes.iter().any(|node| node.node_name == **name)))
}

/// Waits for an event that is about a lab, or about none that can be told.
async fn relevant(feed: &mut crate::client::Feed, lab: Option<&LabSnapshot>) -> Result<()> {
    loop {
        match feed.next().await?.ok_or_else(controller_ended)? {
            FeedItem::Event(event) if lab.is_some_and(|lab| event.lab_id.is_some_and(|id| id != lab.lab.id)) => {}
            _ => return Ok(()),
        }
    }
}
