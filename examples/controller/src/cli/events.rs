//! `events`: what changed.

use std::collections::BTreeMap;

use lifecycle_core::id::LabId;
use lifecycle_core::name::LabName;

use super::Context;
use super::args::Events;
use super::progress::label;
use crate::api::wire::{Event, EventBody};
use crate::client::{Client, FeedItem, Position};
use crate::failure::{Exit, Result};
use crate::output::{Format, note};

pub(super) async fn run(context: &Context, args: Events) -> Result {
    let client = context.client().await?;
    let mut labs = Labs::read(&client).await?;
    let position = match args.since {
        Some(seq) => Position::After(seq),
        None if args.follow => Position::Now,
        None => Position::After(0),
    };
    let mut feed = client.feed(position).await?;
    let last = feed.hello.seq;
    let mut seen = match position {
        Position::After(seq) => seq,
        Position::Now => last,
    };
    while args.follow || seen < last {
        let Some(item) = feed.next().await? else { break };
        match item {
            FeedItem::Event(event) => {
                seen = event.seq;
                labs.learn(&event);
                if args.lab.lab.as_ref().is_none_or(|lab| labs.is(&event, lab)) {
                    print(context, &labs, &event)?;
                }
            }
            FeedItem::Reset(reset) => {
                seen = reset.lost_up_to;
                context.screen.say(format_args!("events up to {seen} are no longer kept"));
            }
        }
    }
    Ok(Exit::Ok)
}

/// The names of labs, as far as they are known.
struct Labs(BTreeMap<LabId, LabName>);

impl Labs {
    async fn read(client: &Client) -> Result<Self> {
        Ok(Self(client.labs().await?.into_iter().map(|lab| (lab.id, lab.name)).collect()))
    }

    fn learn(&mut self, event: &Event) {
        if let EventBody::Lab { lab } = &event.body {
            self.0.insert(lab.id, lab.name.clone());
        }
    }

    fn of(&self, event: &Event) -> Option<&LabName> {
        self.0.get(event.lab_id.as_ref()?)
    }

    fn is(&self, event: &Event, lab: &LabName) -> bool {
        self.of(event) == Some(lab)
    }
}

fn print(context: &Context, labs: &Labs, event: &Event) -> Result<()> {
    match context.output.format {
        Format::Json | Format::Jsonl | Format::Yaml => context.output.line(event),
        Format::Table | Format::Wide | Format::Name => {
            let lab = labs.of(event).map_or_else(|| "-".to_owned(), ToString::to_string);
            let text = format!("{:>6} {:.3} {lab} {}\n", event.seq, event.at, describe(&event.body));
            context.output.text(&text)
        }
    }
}

fn describe(body: &EventBody) -> String {
    match body {
        EventBody::Lab { lab } => format!("lab: {}{}", lab.state, if lab.deleting { ", being removed" } else { "" }),
        EventBody::LabGone { .. } => "lab: gone".to_owned(),
        EventBody::Node { node } => {
            let ready = if node.is_ready { ", ready" } else { "" };
            let note = Some(note(node)).filter(|note| !note.is_empty()).map(|note| format!(" ({note})"));
            format!("node {}: {}{ready}{}", node.node_name, node.actual_state, note.unwrap_or_default())
        }
        EventBody::NodeGone { id } => format!("node {id}: gone"),
        EventBody::Link { link } => {
            let reason = link.ends.iter().find_map(|end| end.reason).map(|reason| format!(" ({reason})"));
            format!("link {}: {}{}", label(link), link.actual_state, reason.unwrap_or_default())
        }
        EventBody::LinkGone { id } => format!("link {id}: gone"),
        EventBody::Job { job } => {
            format!("job {}: {} ({} of {} done, {} failed)", job.id, job.state, job.done, job.total, job.failed)
        }
        EventBody::JobGone { id } => format!("job {id}: gone"),
    }
}
