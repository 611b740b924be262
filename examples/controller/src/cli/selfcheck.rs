//! `selfcheck`: does a running controller keep its promises?

use super::Context;
use crate::failure::{Exit, Result};

pub(super) async fn run(context: &Context) -> Result {
    let found = context.client().await?.selfcheck().await?;
    context.output.one(&found, || {
        let mut text = found.violations.iter().map(|violation| format!("{violation}\n")).collect::<String>();
        text.push_str(&format!("{} promises checked, {} broken\n", found.checked.len(), found.violations.len()));
        text
    })?;
    Ok(if found.violations.is_empty() { Exit::Ok } else { Exit::Failure })
}
