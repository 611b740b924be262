//! `save`: keeps the configurations of running nodes beside their lab file.

use std::path::{Path, PathBuf};

use lifecycle_core::name::LabName;
use serde::Serialize;

use super::args::Save;
use super::target::Target;
use super::{Context, target};
use crate::api::wire::Saved;
use crate::beneath;
use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Cell, Color, Table};

/// What became of one node.
#[derive(Debug, Serialize)]
struct Kept {
    node: String,
    /// Where its configuration is now.
    file: Option<PathBuf>,
    /// Why it is nowhere.
    reason: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

pub(super) async fn run(context: &Context, args: Save) -> Result {
    let client = context.client().await?;
    let kept = if args.nodes.is_empty() { all(&client, &args).await? } else { named(&client, &args).await? };
    context.output.list(&kept, |kept| kept.node.clone(), table)?;
    Ok(Exit::all(kept.iter().map(|kept| kept.exit)))
}

/// Every node of a lab. One that has nothing to tell by its kind is no failure.
async fn all(client: &Client, args: &Save) -> Result<Vec<Kept>> {
    let lab = target::lab(client, args.lab.lab.as_ref()).await?;
    let base = base(client, &lab, args).await?;
    let mut kept = Vec::new();
    for outcome in client.save_all(&lab).await? {
        let target = Target { lab: lab.clone(), node: outcome.node_name };
        kept.push(match (outcome.saved, outcome.problem) {
            (Some(saved), _) => keep(&target, &base, Ok(saved)),
            // There was no room for it in the answer about the lab.
            (None, Some(problem)) if problem.code == "exhausted" => keep(&target, &base, client.save(&target).await),
            (None, Some(problem)) => {
                let skipped = problem.code == "unsupported";
                let mut kept = keep(&target, &base, Err(problem.into()));
                if skipped {
                    kept.exit = Exit::Ok;
                }
                kept
            }
            (None, None) => keep(&target, &base, Err(Failure::plain("the controller says nothing about it"))),
        });
    }
    Ok(kept)
}

async fn named(client: &Client, args: &Save) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for target in target::nodes(client, &args.nodes, args.lab.lab.as_ref()).await? {
        let saved = client.save(&target).await;
        kept.push(match base(client, &target.lab, args).await {
            Ok(base) => keep(&target, &base, saved),
            Err(failure) => keep(&target, Path::new(""), Err(failure)),
        });
    }
    Ok(kept)
}

/// The directory that configurations of a lab are kept in.
async fn base(client: &Client, lab: &LabName, args: &Save) -> Result<PathBuf> {
    match &args.directory {
        Some(directory) => Ok(directory.clone()),
        None => Ok(client.topology(lab).await?.directory),
    }
}

fn keep(target: &Target, base: &Path, saved: Result<Saved>) -> Kept {
    let written = saved.and_then(|saved| write(target, base, &saved));
    let node = target.to_string();
    match written {
        Ok(file) => Kept { node, file: Some(file), reason: None, exit: Exit::Ok },
        Err(failure) => Kept { node, file: None, exit: failure.exit, reason: Some(failure.message) },
    }
}

fn write(target: &Target, base: &Path, saved: &Saved) -> Result<PathBuf> {
    // The controller names a file; it is not asked for a path.
    if saved.file.is_empty() || saved.file.starts_with('.') || saved.file.contains('/') {
        return Err(Failure::plain(format!("`{}` is not the name of a file", saved.file)));
    }
    let lab = format!("clab-{}", target.lab);
    let path = base.join(&lab).join(target.node.as_str()).join(&saved.file);
    beneath::write(base, &[&lab, target.node.as_str()], &saved.file, saved.text.as_bytes())
        .map_err(|error| Failure::io(format_args!("write {}", path.display()), &error))?;
    Ok(path)
}

fn table(kept: &[Kept]) -> Table {
    let mut table = Table::new(["NODE", "FILE", "NOTE"]);
    for kept in kept {
        table.row([
            Cell::new(&kept.node),
            Cell::maybe(kept.file.as_ref().map(|file| file.display())),
            Cell::new(kept.reason.as_deref().unwrap_or_default()).colored(Color::Red),
        ]);
    }
    table
}
