//! Tests on the real kernel: as the user who runs them and, when that is root, once more as an ordinary user.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod links;
mod namespaces;
mod notices;
mod probes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use lifecycle_linux::testing::{Ground, as_ordinary_user, hook};

/// A test that works on any ground.
type Test = (&'static str, fn(&Ground));

fn tests() -> Vec<Test> {
    [namespaces::TESTS, links::TESTS, notices::TESTS, probes::TESTS].concat()
}

fn main() -> ExitCode {
    hook();
    let arguments = Arguments::from_args();
    let root = nix::unistd::geteuid().is_root();
    let mut trials = Vec::new();
    for (name, test) in tests() {
        let brokered = move || {
            let ground = Ground::brokered().map_err(|error| Failed::from(error.to_string()))?;
            test(&ground);
            Ok(())
        };
        trials.push(Trial::test(format!("{name}::brokered"), brokered));
        let direct = move || {
            let ground = Ground::direct().map_err(|error| Failed::from(error.to_string()))?;
            test(&ground);
            Ok(())
        };
        trials.push(Trial::test(format!("{name}::direct"), direct).with_ignored_flag(!root));
    }
    trials.push(Trial::test("all::as_an_ordinary_user", once_more).with_ignored_flag(!root));
    if !root {
        println!("note: the `direct` tests are skipped: only root reaches namespaces by path");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs the whole program as an ordinary user, who skips this test.
fn once_more() -> Result<(), Failed> {
    let (mut command, _directory) = as_ordinary_user()?;
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Failed::from(String::from_utf8_lossy(&text).into_owned()))
}
