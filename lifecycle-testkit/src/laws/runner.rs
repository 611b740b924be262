//! Turns laws into trials: each with its own runtime, a limit of time, and a skip that can be seen.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Runtime};

/// Environment variable that lists what must not be missing, separated by commas: names of capabilities, of suites, or
/// `all`. A law that is skipped for want of one of them fails.
pub const REQUIRE: &str = "LIFECYCLE_TEST_REQUIRE";

/// Runs a test program once more by a command for it, as somebody else; what was made for the command lives as long as it runs.
/// Without a command it is skipped for want of `need`.
///
/// # Errors
/// What the program printed, when it failed.
pub fn once_more<T>(need: &str, command: io::Result<(Command, T)>) -> Result<Completion, Failed> {
    let (mut command, _made) = match command {
        Ok(command) => command,
        Err(error) => return Ok(Completion::ignored_with(Skip::new(need, error.to_string()))),
    };
    let output = command.output()?;
    if output.status.success() {
        return Ok(Completion::Completed);
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Failed::from(String::from_utf8_lossy(&text).into_owned()))
}

/// Time that one law may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Why a law cannot be tried here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The capability, or whatever else is missing, by its name.
    pub need: String,
    /// Why it is missing.
    pub reason: String,
}

impl Skip {
    /// `need` is missing, and why.
    pub fn new(need: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { need: need.into(), reason: reason.into() }
    }

    /// Skips unless the plugin says that it has a capability.
    ///
    /// # Errors
    /// The skip, when it does not.
    pub fn unless(has: bool, capability: &str) -> Verdict {
        if has { Ok(()) } else { Err(Self::new(capability, "the plugin says that it lacks this capability")) }
    }

    fn is_refused(&self, required: &str) -> bool {
        required.split(',').map(str::trim).any(|name| name == "all" || name == self.need)
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.need, self.reason)
    }
}

/// What comes of a law that did not fail: it held, or could not be tried. A law that does not hold panics.
pub type Verdict = Result<(), Skip>;

/// A set of laws to try.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.trials.iter().map(Trial::name)).finish()
    }
}

impl Suite {
    /// A set without laws.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a law. It runs on a current-thread runtime of its own and fails by panicking.
    #[must_use]
    pub fn law(mut self, name: impl Into<String>, law: impl AsyncFnOnce() -> Verdict + Send + 'static) -> Self {
        self.trials.push(Trial::ignorable_test(name, move || {
            let required = std::env::var(REQUIRE).unwrap_or_default();
            judge(runtime()?.block_on(law()), &required)
        }));
        self
    }

    /// Adds the laws of another suite.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.trials.extend(other.trials);
        self
    }

    /// The laws as trials, to be run beside others.
    pub fn into_trials(self) -> Vec<Trial> {
        self.trials
    }

    /// Tries the laws that the command line selects, as a test binary does.
    pub fn run(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}

fn runtime() -> Result<Runtime, Failed> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn judge(verdict: Verdict, required: &str) -> Result<Completion, Failed> {
    match verdict {
        Ok(()) => Ok(Completion::Completed),
        Err(skip) if skip.is_refused(required) => Err(format!("{REQUIRE} forbids to skip this: {skip}").into()),
        Err(skip) => Ok(Completion::ignored_with(skip)),
    }
}

/// Runs a law and then its teardown, also when the law does not hold or does not end.
pub(crate) async fn torn_down(law: impl Future<Output = Verdict>, teardown: impl Future<Output = ()>) -> Verdict {
    let law = tokio::time::timeout(LIMIT, AssertUnwindSafe(law).catch_unwind()).await;
    let teardown = tokio::time::timeout(LIMIT, teardown).await;
    let verdict = law.unwrap_or_else(|_| panic!("the law was not decided within {LIMIT:?}"));
    assert!(verdict.is_err() || teardown.is_ok(), "the teardown did not end within {LIMIT:?}");
    verdict.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Waits until `holds`, for what takes effect a little after the call that asked for it.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < end, "did not come true within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_seen_and_can_be_forbidden() {
        let verdict = || Skip::unless(false, "exec");
        assert!(
            matches!(judge(verdict(), "ovs").unwrap(), Completion::Ignored { reason: Some(why) } if why.contains("exec"))
        );
        for required in ["exec", "ovs, exec", "all"] {
            let failed = judge(verdict(), required).err().unwrap();
            assert!(failed.message().unwrap().contains("exec"), "{required}");
        }
        assert!(matches!(judge(Skip::unless(true, "exec"), "all").unwrap(), Completion::Completed));
    }

    #[test]
    fn a_teardown_follows_a_law_that_does_not_hold() {
        let mut torn = false;
        let law = torn_down(async { panic!("it does not hold") }, async { torn = true });
        let law = AssertUnwindSafe(law).catch_unwind();
        assert!(runtime().unwrap().block_on(law).is_err());
        assert!(torn);
    }
}
