//! Reports of a lab as a whole.

use serde::Serialize;

use super::Context;
use crate::api::wire::{Lab, Link, Node};
use crate::client::LabMirror;
use crate::failure::Result;
use crate::output::{Details, Format, links_table, nodes_table};

/// A lab with all that is in it, as it is printed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    lab: Lab,
    nodes: Vec<Node>,
    links: Vec<Link>,
}

impl Report {
    pub(super) fn new(lab: Lab, mut nodes: Vec<Node>, mut links: Vec<Link>) -> Self {
        nodes.sort_by(|a, b| a.node_name.cmp(&b.node_name));
        links.sort_by_key(|link| link.ends.clone().map(|end| end.label()));
        Self { lab, nodes, links }
    }

    /// The report of a lab that is being followed; nothing once it is gone.
    pub(super) fn of(mirror: &LabMirror) -> Option<Self> {
        let (nodes, links) = (mirror.nodes.values().cloned().collect(), mirror.links.values().cloned().collect());
        Some(Self::new(mirror.lab.clone()?, nodes, links))
    }
}

/// Prints labs with all that is in them.
pub(super) fn print(context: &Context, reports: &[Report]) -> Result<()> {
    let output = context.output;
    match output.format {
        Format::Table | Format::Wide => reports.iter().enumerate().try_for_each(|(index, report)| {
            let gap = if index > 0 { "\n" } else { "" };
            output.text(&format!("{gap}{}", text(context, report)))
        }),
        Format::Json | Format::Yaml => match reports {
            [one] => output.one(one, String::new),
            several => output.one(&several, String::new),
        },
        Format::Jsonl => reports.iter().try_for_each(|report| output.line(report)),
        Format::Name => {
            let names = reports
                .iter()
                .flat_map(|report| report.nodes.iter().map(|node| format!("{}/{}\n", report.lab.name, node.node_name)));
            output.text(&names.collect::<String>())
        }
    }
}

fn text(context: &Context, report: &Report) -> String {
    let details = if context.output.format == Format::Wide { Details::Many } else { Details::Few };
    let lab = &report.lab;
    let stale = if lab.stale_count > 0 { format!(", {} stale", lab.stale_count) } else { String::new() };
    let removing = if lab.deleting { ", being removed" } else { "" };
    let mut text = format!("lab {}: {}{stale}{removing}\n\n", lab.name, lab.state);
    text.push_str(&nodes_table(&report.nodes, details).render(context.output.color));
    if !report.links.is_empty() {
        text.push('\n');
        text.push_str(&links_table(&report.links, details).render(context.output.color));
    }
    text
}
