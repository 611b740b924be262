//! `start`, `stop` and `restart`.

use std::collections::BTreeMap;

use lifecycle_core::machine::NodeIntent;
use lifecycle_core::name::LabName;

use super::Context;
use super::args::{Operate, Patience, Stop};
use super::progress::Scope;
use super::settle::settle;
use super::target::{self, Target};
use crate::api::wire::{Accepted, BulkOutcome, DesiredState, WantedState};
use crate::client::Client;
use crate::failure::{Exit, Result};

/// What is done to nodes.
#[derive(Debug, Clone, Copy)]
enum Action {
    Desire(DesiredState),
    Restart,
}

impl Action {
    async fn ask(self, client: &Client, target: &Target) -> Result<Accepted> {
        match self {
            Self::Desire(desired) => client.desire(target, desired).await,
            Self::Restart => client.restart(target).await,
        }
    }
}

pub(super) async fn start(context: &Context, args: Operate) -> Result {
    let desired = DesiredState { state: NodeIntent::Running, abort: false };
    operate(context, args, Action::Desire(desired)).await
}

pub(super) async fn stop(context: &Context, args: Stop) -> Result {
    let desired = DesiredState { state: NodeIntent::Stopped, abort: args.abort };
    operate(context, args.operate, Action::Desire(desired)).await
}

pub(super) async fn restart(context: &Context, args: Operate) -> Result {
    operate(context, args, Action::Restart).await
}

async fn operate(context: &Context, args: Operate, action: Action) -> Result {
    let client = context.client().await?;
    if args.all
        && let Action::Desire(desired) = action
    {
        return all(context, &client, &args, desired.state).await;
    }
    let targets = if args.all {
        let lab = target::lab(&client, args.lab.lab.as_ref()).await?;
        let nodes = client.lab(&lab).await?.nodes;
        nodes.into_iter().map(|node| Target { lab: lab.clone(), node: node.node_name }).collect()
    } else {
        target::nodes(&client, &args.nodes, args.lab.lab.as_ref()).await?
    };
    // Nodes are operated one by one: one that refuses does not keep the others.
    let mut exits = Vec::new();
    let mut scopes: BTreeMap<LabName, Scope> = BTreeMap::new();
    for target in targets {
        match action.ask(&client, &target).await {
            Ok(answer) => {
                if !answer.changed {
                    context.screen.say(format_args!("{target}: is so already"));
                }
                let scope = scopes.entry(target.lab).or_default();
                scope.nodes.get_or_insert_default().insert(target.node);
                scope.jobs.extend(answer.job_id);
            }
            Err(failure) => {
                context.screen.say(format_args!("{target}: {failure}"));
                exits.push(failure.exit);
            }
        }
    }
    for (lab, scope) in &scopes {
        exits.push(wait(context, &client, lab, scope, &args.patience).await?);
    }
    Ok(Exit::all(exits))
}

async fn all(context: &Context, client: &Client, args: &Operate, state: NodeIntent) -> Result {
    let lab = target::lab(client, args.lab.lab.as_ref()).await?;
    let outcome = client.desire_all(&lab, WantedState { state }).await?;
    context.output.one(&outcome, || describe(&outcome))?;
    let exit = wait(context, client, &lab, &Scope::all(outcome.job_id), &args.patience).await?;
    Ok(if outcome.skipped_transitional > 0 && exit == Exit::Ok { Exit::Partly } else { exit })
}

fn describe(outcome: &BulkOutcome) -> String {
    let line = |what: &str, count: usize, class: &str| {
        let names: Vec<&str> = outcome.nodes.get(class).into_iter().flatten().map(|name| name.as_str()).collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        format!("{count} {what}{names}\n")
    };
    line("affected", outcome.affected, "affected")
        + &line(
            "skipped, since they are on their way to some state",
            outcome.skipped_transitional,
            "skipped_transitional",
        )
        + &line("already there", outcome.already_in_state, "already_in_state")
}

/// Waits until nodes and their links are where they are wanted.
async fn wait(context: &Context, client: &Client, lab: &LabName, scope: &Scope, patience: &Patience) -> Result {
    if patience.no_wait {
        return Ok(Exit::Ok);
    }
    let settled = settle(client, lab, scope, patience.timeout, &context.screen).await?;
    settled.failed.iter().for_each(|why| context.screen.say(why));
    Ok(if settled.failed.is_empty() { Exit::Ok } else { Exit::Failure })
}
