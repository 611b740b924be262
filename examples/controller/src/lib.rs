#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod beneath;
pub mod cli;
pub mod client;
pub mod config;
pub mod embedded;
pub mod failure;
mod logging;
pub mod output;
pub mod paths;
pub mod span;
pub mod tool;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the command that this process was started as.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = tool::as_called(&arguments) {
        return code;
    }
    match cli::args::Cli::try_parse_from(arguments) {
        Ok(cli) => cli::main(cli),
        Err(error) => usage(&error),
    }
}

/// Prints a usage error, or the help or version that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    // Whoever does not read it does not want to know.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(failure::Exit::Usage.code()).into()
}
