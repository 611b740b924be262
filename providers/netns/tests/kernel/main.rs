//! The provider on the real kernel, each test as root and as an ordinary user.
//!
//! Every test has directories of its own and ends with a census of what is left of it on the machine. As root a test
//! runs in this process, and once more in a copy of the program that runs as an ordinary user. What cannot run here is
//! shown as ignored, with the reason.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bench;
mod crash;
mod faces;
mod laws;
mod life;
mod scale;
mod sight;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What comes of a test that did not fail: it ran, or why it could not.
pub(crate) type Verdict = Result<(), String>;
/// A test: its name and what it does.
pub(crate) type Test = (&'static str, fn() -> Verdict);

/// Set for the copy that runs as an ordinary user.
const COPY: &str = "LIFECYCLE_NETNS_TEST_COPY";
/// User and group of the ordinary user; they need no entry anywhere.
const ORDINARY: u32 = 65_431;

fn main() -> ExitCode {
    lifecycle_provider_netns::helper_main();
    let all: Vec<Test> = [life::TESTS, sight::TESTS, faces::TESTS, crash::TESTS, scale::TESTS].concat();
    let mut trials = Vec::new();
    for (name, test) in all {
        trials.push(Trial::ignorable_test(name, move || judge(test())));
        if nix::unistd::geteuid().is_root() && std::env::var_os(COPY).is_none() {
            trials.push(Trial::ignorable_test(format!("user::{name}"), move || as_ordinary_user(name)));
        }
    }
    let laws = laws::suite().into_trials();
    if nix::unistd::geteuid().is_root() {
        trials.push(Trial::ignorable_test("user::laws", || as_ordinary_user("netns::provider::")));
    }
    trials.extend(laws);
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn judge(verdict: Verdict) -> Result<Completion, Failed> {
    Ok(verdict.map_or_else(Completion::ignored_with, |()| Completion::Completed))
}

/// Runs the tests of this program whose names begin with `name` as somebody without rights.
fn as_ordinary_user(name: &str) -> Result<Completion, Failed> {
    static PROGRAM: OnceLock<(PathBuf, tempfile::TempDir)> = OnceLock::new();
    let (program, _) = PROGRAM.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let copy = directory.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        (copy, directory)
    });
    let mut command = Command::new(program);
    command.arg(name).arg("--test-threads=2").env(COPY, "1").current_dir("/").uid(ORDINARY).gid(ORDINARY);
    if !name.ends_with(':') {
        command.arg("--exact");
    }
    let output = command.output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(text.into());
    }
    // One test that could not run says why in its own line.
    match text.lines().find(|line| line.contains("... ignored")).filter(|_| !name.ends_with(':')) {
        Some(line) => Ok(Completion::ignored_with(line.to_owned())),
        None => Ok(Completion::Completed),
    }
}
