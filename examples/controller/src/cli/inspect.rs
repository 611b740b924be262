//! `inspect`: what there is and how it is.

use super::Context;
use super::args::Inspect;
use super::report::{self, Report};
use super::session::Session;
use crate::api::wire::{Lab, LabSnapshot};
use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Cell, Table};

pub(super) async fn run(context: &Context, args: Inspect) -> Result {
    let Some(session) = Session::attach_existing(context, "inspect").await? else {
        return match &args.lab {
            Some(lab) => Err(Failure::new(Exit::NotFound, format!("no lab is called `{lab}`; there is none"))),
            None => empty(context),
        };
    };
    let ended = inspect(context, &session.client, &args).await;
    session.end().await;
    ended
}

fn empty(context: &Context) -> Result {
    context.screen.say("there is no lab; `lifecycle up FILE` makes one");
    context.output.list(&[], |lab: &Lab| lab.name.to_string(), overview)?;
    Ok(Exit::Ok)
}

async fn inspect(context: &Context, client: &Client, args: &Inspect) -> Result {
    if let Some(lab) = &args.lab {
        report::print(context, &[report(client.lab(lab).await?)])?;
        return Ok(Exit::Ok);
    }
    let labs = client.labs().await?;
    match &labs[..] {
        [] => return empty(context),
        [_] => {}
        _ if args.all => {}
        labs => {
            context.output.list(labs, |lab| lab.name.to_string(), overview)?;
            context.screen.say("`lifecycle inspect LAB` shows one of them, `lifecycle inspect -a` all");
            return Ok(Exit::Ok);
        }
    }
    let mut reports = Vec::with_capacity(labs.len());
    for lab in &labs {
        // One that has just gone is not shown.
        reports.extend(client.find_lab(&lab.name).await?.map(report));
    }
    report::print(context, &reports)?;
    Ok(Exit::Ok)
}

fn report(snapshot: LabSnapshot) -> Report {
    Report::new(snapshot.lab, snapshot.nodes, snapshot.links)
}

fn overview(labs: &[Lab]) -> Table {
    let mut table = Table::new(["LAB", "STATE", "NODES", "LINKS", "STALE", "SINCE"]);
    for lab in labs {
        let state = if lab.deleting { "being removed".to_owned() } else { lab.state.to_string() };
        table.row([
            Cell::new(&lab.name),
            state.into(),
            Cell::new(lab.node_count),
            Cell::new(lab.link_count),
            Cell::maybe(Some(lab.stale_count).filter(|count| *count > 0)),
            Cell::new(format_args!("{:.0}", lab.created_at)),
        ]);
    }
    table
}
