//! The help of every command stands in `help.txt`; this test fails when it is stale.
//!
//! `UPDATE_HELP=1 cargo test -p lifecycle-controller --test help` rewrites it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use clap::CommandFactory;
use lifecycle_controller::cli::args::Cli;

fn help() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = format!("$ lifecycle --help\n{}", command.render_help());
    let shown = command.get_subcommands_mut().filter(|it| !it.is_hide_set() && it.get_name() != "help");
    for subcommand in shown {
        let name = subcommand.get_name().to_owned();
        // What every command has is shown once.
        let globals: Vec<String> = subcommand
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().to_string())
            .collect();
        let own = globals.into_iter().fold(subcommand.clone(), |it, id| it.mut_arg(id, |argument| argument.hide(true)));
        text.push_str(&format!("\n$ lifecycle {name} --help\n{}", own.clone().render_help()));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[test]
fn the_help_is_what_was_agreed_on() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("UPDATE_HELP").is_some() {
        std::fs::write(&path, help()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == help(), "tests/help.txt is stale; run this test with UPDATE_HELP=1 to rewrite it");
}
