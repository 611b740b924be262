//! `logs`: what a node prints.

use futures_util::StreamExt;

use super::args::Logs;
use super::{Context, target};
use crate::failure::{Exit, Result};
use crate::output::{Format, complain};

pub(super) async fn run(context: &Context, args: Logs) -> Result {
    let client = context.client().await?;
    let target = target::node(&client, &args.node, args.lab.lab.as_ref()).await?;
    let lines = client.logs(&target, args.tail, args.follow).await?;
    let mut lines = std::pin::pin!(lines);
    while let Some(line) = lines.next().await {
        let line = line?;
        if matches!(context.output.format, Format::Json | Format::Jsonl | Format::Yaml) {
            context.output.line(&line)?;
            continue;
        }
        let mut text = match line.at.filter(|_| args.timestamps) {
            Some(at) => format!("{at} ").into_bytes(),
            None => Vec::new(),
        };
        text.extend_from_slice(&line.line.0);
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        if line.stderr {
            complain(&text)?;
        } else {
            context.output.bytes(&text)?;
        }
    }
    Ok(Exit::Ok)
}
