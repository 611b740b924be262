//! The provider against real daemons, which the tests start themselves and which nobody else uses. What cannot run here is
//! shown as ignored, with the reason.
#![allow(clippy::unwrap_used)]

mod bench;
mod faults;
mod guests;
mod laws;
mod proxy;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lifecycle_linux::testing::libvirt::missing;
use lifecycle_testkit::laws::REQUIRE;

use bench::Bench;

/// The word for libvirt in the list of what must not be missing.
const WORD: &str = "libvirt";

/// A test: its name and what it does with a daemon, which it has for itself meanwhile.
pub(crate) type Test = (&'static str, fn(&mut Bench));

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(bench::DAEMONS);
    let tests = [guests::TESTS, faults::TESTS].concat();
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::ignorable_test(format!("{WORD}::{name}"), move || match needs()? {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    test(&mut Bench::take());
                    Ok(Completion::Completed)
                }
            })
        })
        .collect();
    trials.extend(laws::suite().into_trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench::end();
    conclusion.exit_code()
}

/// Why there can be no such daemon here; a failure when there has to be one.
fn needs() -> Result<Option<String>, Failed> {
    let Some(reason) = missing() else { return Ok(None) };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    match required.split(',').any(|name| name.trim() == WORD) {
        true => Err(format!("{reason}, and {REQUIRE} has `{WORD}`").into()),
        false => Ok(Some(reason)),
    }
}
