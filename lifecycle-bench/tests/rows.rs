//! That rows still measure what they say. How fast anything is, no test asks.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lifecycle-bench")).args(arguments).output().unwrap()
}

#[test]
fn rows_are_measured_or_say_why_not() {
    let output = bench(&["--json", "link", "enforcement"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = lines.as_array().unwrap();
    assert_eq!(lines.len(), 3);
    for line in lines {
        for figure in ["floor", "ours"] {
            let measured = line[figure]["measured"]["median"].as_f64().is_some_and(|median| median > 0.0);
            let skipped = line[figure]["skipped"].as_str().is_some_and(|why| !why.is_empty());
            assert!(measured || skipped, "{line}");
        }
    }
}

#[test]
fn an_unknown_row_is_answered_with_the_known_ones() {
    let output = bench(&["speed"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("no row is called `speed`; known: link, switches"), "{said}");
}
