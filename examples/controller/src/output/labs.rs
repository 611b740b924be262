//! Nodes and links as tables.

use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::policy::display::DisplayState;

use super::{Cell, Color, Table};
use crate::api::wire::{End, Link, Node};

/// How much of each thing a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Details {
    /// What matters most.
    Few,
    /// All that fits in a line.
    Many,
}

/// Nodes as a table.
pub fn nodes_table(nodes: &[Node], details: Details) -> Table {
    let many = details == Details::Many;
    let mut headings = vec!["NODE", "STATE", "READY", "IPV4", "IPV6"];
    if many {
        headings.extend(["KIND", "IMAGE", "PROVIDER", "HOST", "ACTUAL", "DESIRED", "SINCE", "ATTEMPTS"]);
    }
    headings.push("NOTE");
    let mut table = Table::new(headings);
    for node in nodes {
        let mut row = vec![
            Cell::new(&node.node_name),
            state(node),
            ready(node),
            Cell::maybe(node.management_ips.ipv4),
            Cell::maybe(node.management_ips.ipv6),
        ];
        if many {
            row.extend([
                Cell::new(&node.kind),
                Cell::maybe(node.image.as_ref()),
                Cell::new(&node.provider),
                Cell::maybe(node.host_name.as_ref()),
                Cell::new(node.actual_state),
                Cell::new(node.desired_state),
                Cell::new(format_args!("{:.0}", node.state_since)),
                Cell::maybe(Some(node.enforcement_attempts).filter(|attempts| *attempts > 0)),
            ]);
        }
        row.push(Cell::new(note(node)));
        table.row(row);
    }
    table
}

fn state(node: &Node) -> Cell {
    let text = match node.display_state {
        DisplayState::Starting if node.will_retry => {
            let next = (node.enforcement_attempts + 1).min(node.enforcement_max_attempts);
            format!("starting (attempt {next} of {})", node.enforcement_max_attempts)
        }
        state => state.to_string(),
    };
    let text = if node.stale_since.is_some() { format!("{text} (stale)") } else { text };
    Cell::new(text).colored(match node.display_state {
        DisplayState::Running => Color::Green,
        DisplayState::Starting | DisplayState::Stopping => Color::Yellow,
        DisplayState::Error => Color::Red,
        DisplayState::Stopped | DisplayState::Undeployed => Color::Dim,
    })
}

fn ready(node: &Node) -> Cell {
    match node.progress {
        _ if node.actual_state != NodeState::Running => Cell::maybe(None::<&str>),
        _ if node.is_ready => Cell::new("yes").colored(Color::Green),
        Some(progress) => Cell::new(format_args!("{progress}%")).colored(Color::Yellow),
        None => Cell::new("no").colored(Color::Yellow),
    }
}

/// What people should know about a node: the cause that says most about what to do.
pub(crate) fn note(node: &Node) -> String {
    let stale = node.stale_since.map(|since| format!("nothing heard of its host since {since:.0}"));
    let failed = node.display_state != DisplayState::Running;
    let error = node.error_message.clone().filter(|_| failed);
    let exit = node.exit.as_ref().filter(|_| node.actual_state == NodeState::Exited).map(ended);
    stale.or(error).or_else(|| node.blocked.clone()).or(exit).or_else(|| node.note.clone()).unwrap_or_default()
}

/// How a process ended, in words.
pub(crate) fn ended(exit: &crate::api::wire::Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("killed by signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "exit code unknown".to_owned(),
    }
}

/// Links as a table.
pub fn links_table(links: &[Link], details: Details) -> Table {
    let many = details == Details::Many;
    let mut headings = vec!["A", "A IS", "B", "B IS", "LINK"];
    if many {
        headings.extend(["DESIRED", "BACKEND", "MTU", "VERIFIED", "ID"]);
    }
    headings.push("NOTE");
    let mut table = Table::new(headings);
    for link in links {
        let [a, b] = &link.ends;
        let mut row = vec![Cell::new(a.label()), end(a), Cell::new(b.label()), end(b), link_state(link)];
        if many {
            row.extend([
                Cell::new(link.desired_state),
                Cell::new(&link.backend),
                Cell::new(link.attrs.mtu),
                Cell::maybe(link.verified_at.map(|at| format!("{at:.0}"))),
                Cell::new(link.id),
            ]);
        }
        row.push(Cell::maybe(link.error_message.as_ref().filter(|_| link.actual_state != LinkState::Up)));
        table.row(row);
    }
    table
}

fn end(end: &End) -> Cell {
    match end.reason {
        None if end.up => Cell::new("up").colored(Color::Green),
        None => Cell::new("down").colored(Color::Red),
        Some(reason) => Cell::new(reason).colored(if end.up { Color::Yellow } else { Color::Red }),
    }
}

fn link_state(link: &Link) -> Cell {
    Cell::new(link.actual_state).colored(match link.actual_state {
        LinkState::Up => Color::Green,
        LinkState::Unknown | LinkState::Pending | LinkState::Creating => Color::Yellow,
        LinkState::Down => Color::Dim,
        LinkState::Error => Color::Red,
    })
}
