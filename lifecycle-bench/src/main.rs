#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod canary;
mod fixture;
mod lab;
mod measure;
mod mininet;
mod process;
mod raw;
mod rows;
mod switch;
mod table;
mod wiring;

use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

use crate::measure::Result;
use crate::rows::{ROWS, Row};
use crate::table::Line;

/// Measures Lifecycle beside the kernel's floor and its peers, in one run.
#[derive(Debug, Parser)]
struct Options {
    /// Rows to measure; all when none is named.
    rows: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// List the rows and end.
    #[arg(long)]
    list: bool,
    /// Measure one row in this process and print it as JSON. Each row gets a process of its own, so that none finds the
    /// memory, the threads or the descriptors of another.
    #[arg(long, hide = true, value_name = "ROW")]
    alone: Option<String>,
}

fn main() -> ExitCode {
    lifecycle_kit::helper_main();
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn find(name: &str) -> Result<&'static Row> {
    let known = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    ROWS.iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("no row is called `{name}`; known: {}", known()).into())
}

/// False when a row could not be measured though nothing is missing for it.
fn run(options: &Options) -> Result<bool> {
    if options.list {
        ROWS.iter().for_each(|row| println!("{:14} {}", row.name, row.about));
        return Ok(true);
    }
    if let Some(name) = &options.alone {
        let lines = (find(name)?.measure)()?;
        println!("{}", serde_json::to_string(&lines)?);
        return Ok(true);
    }
    let named = options.rows.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    let rows = if named.is_empty() { ROWS.iter().collect() } else { named };
    let (mut lines, mut whole) = (Vec::new(), true);
    for row in rows {
        eprintln!("measuring {} ...", row.name);
        match in_child(row) {
            Ok(found) => lines.extend(found),
            Err(error) => {
                whole = false;
                lines.push(Line::skipped(row.name, format!("failed: {error}")));
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print!("{}", table::render(&lines));
    }
    Ok(whole)
}

fn in_child(row: &Row) -> Result<Vec<Line>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--alone", row.name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} (see above)", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
