//! `deploy`: a lab for a running controller.

use lifecycle_core::id::JobId;
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_engine::Plan;

use super::args::{Deploy, Patience};
use super::progress::Scope;
use super::report::{self, Report};
use super::settle::settle;
use super::{Context, lab_file};
use crate::client::Client;
use crate::failure::{Exit, Result};

pub(super) async fn run(context: &Context, args: Deploy) -> Result {
    let topology = lab_file::read(context, &args.topo, &args.reading).await?;
    let client = context.client().await?;
    let applied = client.apply(&topology, args.dry_run).await?;
    if args.dry_run {
        context.output.one(&applied.plan, || describe(&topology.name, &applied.plan))?;
        return Ok(Exit::Ok);
    }
    if applied.plan.is_empty() {
        context.screen.say(format_args!("lab {} is as its file says", topology.name));
    }
    for text in &applied.plan.plug_elsewhere {
        context.screen.say(format_args!("interface {text}"));
    }
    for text in applied.plan.move_links.iter().chain(&applied.plan.rebuild_links) {
        context.screen.say(format_args!("link {text}"));
    }
    wait(context, &client, &topology.name, applied.job_id, &args.patience).await
}

/// Waits until a lab is as it is wanted, and reports it.
async fn wait(context: &Context, client: &Client, lab: &LabName, job: Option<JobId>, patience: &Patience) -> Result {
    if patience.no_wait {
        return Ok(Exit::Ok);
    }
    let settled = settle(client, lab, &Scope::all(job), patience.timeout, &context.screen).await?;
    if let Some(report) = Report::of(&settled.mirror) {
        report::print(context, &[report])?;
    }
    if settled.failed.is_empty() {
        return Ok(Exit::Ok);
    }
    context.screen.say(format_args!("lab {lab} is not as wanted:"));
    settled.failed.iter().for_each(|why| context.screen.say(format_args!("  {why}")));
    Ok(Exit::Partly)
}

/// What would be done, line by line.
fn describe(lab: &LabName, plan: &Plan) -> String {
    if plan.is_empty() {
        return format!("lab {lab} is as its file says; nothing would be done\n");
    }
    let nodes =
        |sign: &str, names: &[NodeName]| names.iter().map(|name| format!("{sign} node {name}\n")).collect::<String>();
    let lines = |sign: &str, what: &str, texts: &[String]| {
        texts.iter().map(|text| format!("{sign} {what} {text}\n")).collect::<String>()
    };
    let links = |sign: &str, texts: &[String]| lines(sign, "link", texts);
    [
        nodes("+", &plan.add_nodes),
        nodes("-", &plan.remove_nodes),
        nodes("~ remove and make again:", &plan.recreate_nodes),
        links("+", &plan.add_links),
        links("-", &plan.remove_links),
        lines("~ plug in elsewhere:", "interface", &plan.plug_elsewhere),
        links("~ change in place:", &plan.change_links),
        links("~ hand over:", &plan.move_links),
        links("~ remove and make again:", &plan.rebuild_links),
    ]
    .concat()
}
