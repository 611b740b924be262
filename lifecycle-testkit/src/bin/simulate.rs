//! Runs the simulator: many seeds, or one in every detail.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Instant;

use lifecycle_testkit::sim::{Campaign, Failure, Options, large_lab, planted_bugs, run_seed};

const USAGE: &str = "\
Runs the engine against a simulated machine and checks every invariant after every step.

simulate [--seeds N] [--from N] [--steps N] [--threads N] [--bug NAME] [--json] [--keep-going]
    runs N seeds (default 200) and says which fail
simulate --seed N [--steps N] [--trace] [--bug NAME]
    runs one seed; --trace shows everything that happens in it
simulate --bug list
    lists the bugs that can be planted, in a build with the feature planted-bugs
simulate --big NODES LINKS
    measures what deciding costs for a large lab without faults";

struct Arguments {
    campaign: Campaign,
    seed: Option<u64>,
    json: bool,
    big: Option<(u64, u64)>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.campaign.options.bug.as_deref() == Some("list") {
        return list_bugs();
    }
    let result = match (arguments.big, arguments.seed) {
        (Some((nodes, links)), _) => big(nodes, links),
        (None, Some(seed)) => one(seed, &arguments.campaign.options),
        (None, None) => many(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let options = Options::default();
    let campaign = Campaign { from: 0, seeds: 200, options, first_only: false, threads: 0 };
    let mut arguments = Arguments { campaign, seed: None, json: false, big: None };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word} needs a number and got `{text}`"))
        };
        match word.as_str() {
            "--seeds" => arguments.campaign.seeds = number()?,
            "--from" => arguments.campaign.from = number()?,
            "--steps" => arguments.campaign.options.steps = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--threads" => arguments.campaign.threads = usize::try_from(number()?).unwrap_or(0),
            "--big" => arguments.big = Some((number()?, number()?)),
            "--trace" => arguments.campaign.options.trace = true,
            "--digest" => arguments.campaign.options.digest = true,
            "--json" => arguments.json = true,
            "--first" => arguments.campaign.first_only = true,
            "--bug" => arguments.campaign.options.bug = Some(words.next().ok_or("--bug needs a name")?),
            "--help" | "-h" => return Err("simulate".to_owned()),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(arguments)
}

fn list_bugs() -> ExitCode {
    let bugs = planted_bugs();
    if bugs.is_empty() {
        eprintln!("this build has none; build it with `--features planted-bugs`");
        return ExitCode::from(2);
    }
    for bug in bugs {
        println!("{}\n    {}", bug.name, bug.what);
    }
    ExitCode::SUCCESS
}

fn one(seed: u64, options: &Options) -> Result<bool, String> {
    let outcome = run_seed(seed, options)?;
    for line in &outcome.trace {
        println!("{line}");
    }
    for violation in &outcome.violations {
        println!("violated: {violation}");
    }
    println!("seed {seed}: {} steps, {} s simulated", outcome.steps, outcome.millis / 1000);
    if let Some(digest) = outcome.digest {
        println!("digest {digest:016x}");
    }
    let passed = outcome.violations.is_empty();
    println!("{} passed, {} failed", u64::from(passed), u64::from(!passed));
    Ok(passed)
}

fn many(arguments: &Arguments) -> Result<bool, String> {
    let began = Instant::now();
    let (mut passed, mut steps) = (0u64, 0u64);
    let failures = arguments.campaign.run(|outcome| {
        steps += outcome.steps;
        if outcome.violations.is_empty() {
            passed += 1;
        } else if let Some(violation) = outcome.violations.first() {
            println!("seed {}: {violation}", outcome.seed);
            println!("    {}", arguments.campaign.command(outcome.seed));
        }
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if arguments.json {
        println!("{}", summary(&failures, passed, steps, seconds));
    }
    println!("{steps} steps in {seconds:.1} s");
    println!("{passed} passed, {} failed", failures.len());
    Ok(failures.is_empty())
}

fn summary(failures: &[Failure], passed: u64, steps: u64, seconds: f64) -> serde_json::Value {
    let failures: Vec<_> = failures
        .iter()
        .map(|failure| {
            let violations: Vec<String> = failure.outcome.violations.iter().map(ToString::to_string).collect();
            serde_json::json!({ "seed": failure.outcome.seed, "violations": violations, "command": failure.command })
        })
        .collect();
    serde_json::json!({ "passed": passed, "failed": failures.len(), "steps": steps, "seconds": seconds, "failures": failures })
}

fn big(nodes: u64, links: u64) -> Result<bool, String> {
    let mut began = Instant::now();
    large_lab(nodes, links, |what, took| {
        let real = began.elapsed().as_secs_f64();
        println!(
            "{what}: {} steps, {} ms simulated, {real:.2} s real, the simulated machine included",
            took.steps, took.millis
        );
        began = Instant::now();
    })?;
    Ok(true)
}
