//! The simulator, tried on engines and network backends that make mistakes: it has to find each planted bug, by an invariant that the bug is
//! said to break, within the seeds that every change is tested with.
//!
//! Run it in release mode:
//! `cargo test --release -p lifecycle-testkit --features planted-bugs --test planted_bugs`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use lifecycle_testkit::sim::{Options, Planted, planted_bugs, run_seed};

/// Seeds in which a bug has to be found.
const SEEDS: u64 = 2_000;

/// Whether each seed passes with no bug planted: one that does not says nothing about bugs.
static SOUND: Mutex<BTreeMap<u64, bool>> = Mutex::new(BTreeMap::new());

/// How each bug was found.
static FOUND: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn is_sound(seed: u64) -> Result<bool, Failed> {
    if let Some(&known) = SOUND.lock().unwrap_or_else(PoisonError::into_inner).get(&seed) {
        return Ok(known);
    }
    let sound = run_seed(seed, &Options::default())?.violations.is_empty();
    SOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, sound);
    Ok(sound)
}

fn find(bug: &Planted) -> Result<(), Failed> {
    let options = Options { bug: Some(bug.name.clone()), ..Options::default() };
    let mut others: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let violations = run_seed(seed, &options)?.violations;
        if violations.is_empty() || !is_sound(seed)? {
            continue;
        }
        if let Some(violation) = violations.iter().find(|it| bug.breaks.contains(&it.invariant)) {
            let text = format!("{:>5} seeds, then {violation}", seed + 1);
            let text = text.chars().take(160).collect();
            FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(bug.name.clone(), text);
            return Ok(());
        }
        violations.iter().for_each(|it| *others.entry(it.invariant).or_default() += 1);
    }
    Err(format!("{SEEDS} seeds broke none of {:?}, but {others:?}: {}", bug.breaks, bug.what).into())
}

fn an_unknown_bug_is_refused() -> Result<(), Failed> {
    let options = Options { bug: Some("no-such-bug".to_owned()), ..Options::default() };
    match run_seed(0, &options) {
        Err(message) if message.contains("no-such-bug") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let bugs = planted_bugs().into_iter();
    let mut trials: Vec<Trial> =
        bugs.map(|bug| Trial::test(format!("{} is found", bug.name), move || find(&bug))).collect();
    trials.push(Trial::test("an unknown bug is refused", an_unknown_bug_is_refused));
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (bug, how) in FOUND.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{bug:<32} {how}");
    }
    conclusion.exit_code()
}
