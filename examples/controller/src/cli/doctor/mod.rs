//! `doctor`: what this machine can do and what is missing.

mod checks;

use serde::Serialize;

use super::Context;
use crate::failure::{Exit, Result};
use crate::output::{Cell, Color, Table};

/// How a finding bears on labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It is there.
    Ok,
    /// It is not there, and some labs need it.
    Missing,
    /// It is not there, and no lab works without it.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    name: String,
    verdict: Verdict,
    /// What was found, or what does not work without it.
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), advice: None }
    }

    fn missing(name: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (name, detail, advice) = (name.into(), detail.into(), advice.into());
        Self { name, verdict: Verdict::Missing, detail, advice: Some(advice).filter(|advice| !advice.is_empty()) }
    }

    fn broken(name: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Broken, ..Self::missing(name, detail, advice) }
    }
}

pub(super) fn run(context: &Context) -> Result {
    let findings = checks::all(context);
    context.output.list(&findings, |finding| finding.name.clone(), table)?;
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Broken);
    if broken {
        context.screen.say("this machine cannot run labs as it is");
    }
    Ok(if broken { Exit::Failure } else { Exit::Ok })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(["WHAT", "IS", "DETAIL", "ADVICE"]);
    for finding in findings {
        let is = match finding.verdict {
            Verdict::Ok => Cell::new("ok").colored(Color::Green),
            Verdict::Missing => Cell::new("missing").colored(Color::Yellow),
            Verdict::Broken => Cell::new("broken").colored(Color::Red),
        };
        table.row([Cell::new(&finding.name), is, Cell::new(&finding.detail), Cell::maybe(finding.advice.as_ref())]);
    }
    table
}
