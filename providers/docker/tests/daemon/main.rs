//! The providers against real daemons, which the tests start themselves and which nobody else uses. What cannot run here is
//! shown as ignored, with the reason.
#![allow(clippy::unwrap_used)]

mod bench;
mod faults;
mod laws;
mod life;
mod proxy;
#[cfg(feature = "tls")]
mod tls;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lifecycle_linux::testing::container_daemon::{Kind, missing};
use lifecycle_testkit::laws::REQUIRE;

use bench::Daemon;

/// A test: its name and what it does with a daemon, which others use as well unless it is said to be its own.
pub(crate) type Test = (&'static str, fn(&Daemon));

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for (word, kind) in [("docker", Kind::Docker), ("podman", Kind::Podman)] {
        for &(name, test) in life::TESTS {
            trials.push(shared(word, kind, name, test));
        }
        trials.extend(laws::suite(word, kind).into_trials());
    }
    // What goes wrong on the way goes wrong in the same code.
    for &(name, test) in faults::TESTS {
        trials.push(shared("docker", Kind::Docker, name, test));
    }
    for &(name, test) in faults::OWN {
        trials.push(trial("docker", Kind::Docker, name, move || {
            Daemon::of_ones_own(Kind::Docker, test);
            Ok(())
        }));
    }
    #[cfg(feature = "tls")]
    trials.push(trial("docker", Kind::Docker, "daemon_and_client_prove_who_they_are", || {
        tls::daemon_and_client_prove_who_they_are();
        Ok(())
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench::end();
    conclusion.exit_code()
}

/// A test with the daemon of a kind that others use as well.
fn shared(word: &'static str, kind: Kind, name: &str, test: fn(&Daemon)) -> Trial {
    trial(word, kind, name, move || {
        test(bench::daemon(kind).as_ref().map_err(|reason| reason.as_str())?);
        Ok(())
    })
}

/// A test that needs a daemon of a kind, or is shown as ignored.
fn trial(
    word: &'static str,
    kind: Kind,
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(format!("{word}::{name}"), move || match needs(word, kind)? {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => test().map(|()| Completion::Completed),
    })
}

/// Why there can be no such daemon here; a failure when there has to be one.
fn needs(word: &str, kind: Kind) -> Result<Option<String>, Failed> {
    let Some(reason) = missing(kind) else { return Ok(None) };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    match required.split(',').any(|name| name.trim() == word) {
        true => Err(format!("{reason}, and {REQUIRE} has `{word}`").into()),
        false => Ok(Some(reason)),
    }
}
