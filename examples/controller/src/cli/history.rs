//! `history`: who changed what of a node, and why.

use super::Context;
use super::args::History;
use super::target::{self, Target};
use crate::api::wire::AuditRow;
use crate::client::Client;
use crate::failure::{Exit, Result};
use crate::output::{Cell, Color, Table};

pub(super) async fn run(context: &Context, args: History) -> Result {
    let client = context.client().await?;
    let target = target(&client, &args).await?;
    let rows = client.history(&target).await?;
    context.output.list(&rows, |row| row.seq.to_string(), table)?;
    Ok(Exit::Ok)
}

/// The node that is meant; it may be gone, and is then looked for in the lab that was named.
async fn target(client: &Client, args: &History) -> Result<Target> {
    match args.node.lab.as_ref().or(args.lab.lab.as_ref()) {
        Some(lab) => Ok(Target { lab: lab.clone(), node: args.node.node.clone() }),
        None => target::node(client, &args.node, None).await,
    }
}

fn table(rows: &[AuditRow]) -> Table {
    let mut table = Table::new(["SEQ", "TIME", "ACTION", "FROM", "TO", "TRIGGER", "RESULT", "BY", "ATTEMPT", "WHY"]);
    for row in rows {
        let result = Cell::new(row.result);
        let why = row.error.as_ref().or(row.reason.as_ref());
        table.row([
            Cell::new(row.seq),
            Cell::new(format_args!("{:.3}", row.at)),
            Cell::new(row.action),
            Cell::maybe(row.from.as_ref()),
            Cell::maybe(row.to.as_ref()),
            Cell::new(row.trigger),
            match row.result {
                lifecycle_core::model::AuditResult::Success => result,
                _ => result.colored(Color::Red),
            },
            Cell::new(&row.decided_by),
            Cell::maybe(row.attempt),
            Cell::maybe(why),
        ]);
    }
    table
}
