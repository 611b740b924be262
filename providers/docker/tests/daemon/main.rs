//! The providers against real daemons, which the tests start themselves and which nobody else uses. What cannot run here is
//! shown as ignored, with the reason.
#![allow(clippy::unwrap_used)]

mod bench;
mod laws;
mod life;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lifecycle_linux::testing::container_daemon::Kind;
use lifecycle_testkit::laws::REQUIRE;

use bench::Daemon;

/// A test: its name and what it does with a daemon that other tests use as well.
pub(crate) type Test = (&'static str, fn(&'static Daemon));

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for (word, kind) in [("docker", Kind::Docker)] {
        for &(name, test) in life::TESTS {
            trials.push(Trial::ignorable_test(format!("{word}::{name}"), move || {
                let Some(daemon) = needs(word, kind)? else { return Ok(Completion::ignored()) };
                test(daemon);
                Ok(Completion::Completed)
            }));
        }
        trials.extend(laws::suite(word, kind).into_trials());
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench::end();
    conclusion.exit_code()
}

/// The daemon, unless there can be none here.
fn needs(word: &str, kind: Kind) -> Result<Option<&'static Daemon>, Failed> {
    let Err(reason) = bench::daemon(kind) else { return Ok(bench::daemon(kind).ok()) };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    match required.split(',').any(|name| name.trim() == word) {
        true => Err(format!("{reason}, and {REQUIRE} has `{word}`").into()),
        false => Ok(None),
    }
}
