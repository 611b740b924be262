//! `validate`: would this lab file be deployed?

use serde_json::json;

use lifecycle_engine::{CommandError, decide};
use lifecycle_topology::check_deployment;

use super::args::Validate;
use super::{Context, lab_file};
use crate::embedded::world;
use crate::failure::{Exit, Failure, Result};

pub(super) async fn run(context: &Context, args: &Validate) -> Result {
    let topology = lab_file::read(context, &args.file, &args.reading).await?;
    let refusals = check_deployment(&topology, &context.config.permissions, &|path| std::fs::canonicalize(path));
    let mut problems: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    match decide::plan(&world(&context.config)?, &topology) {
        Err(CommandError::Invalid { problems: more }) => problems.extend(more),
        Err(error) => problems.push(error.to_string()),
        Ok(_) => {}
    }
    if !problems.is_empty() {
        let file = args.file.display();
        let message = format!("{file} is well formed, but cannot be deployed here:\n{}", problems.join("\n"));
        return Err(Failure::new(Exit::Failure, message));
    }
    let summary = json!({ "name": topology.name, "nodes": topology.nodes.len(), "links": topology.links.len() });
    let text = format!(
        "lab {} is well formed: {} nodes, {} links\n",
        topology.name,
        topology.nodes.len(),
        topology.links.len()
    );
    context.output.one(&summary, || text)?;
    Ok(Exit::Ok)
}
