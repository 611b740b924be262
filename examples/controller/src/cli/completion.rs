//! `completion`: a script that lets a shell complete commands and options.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use crate::failure::{Exit, Result};
use crate::output::{Format, Output};

pub(super) fn run(shell: Shell) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lifecycle", &mut script);
    Output::new(Format::Table).bytes(&script)?;
    Ok(Exit::Ok)
}
