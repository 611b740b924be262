//! Input that nobody wrote in good faith: a clear error each, and soon.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use lifecycle_topology::{LoadError, MAX_TEXT, Options, load, load_text};
use proptest::prelude::*;

/// Far more than any of these takes on the slowest machine, and far less than a runaway one would.
const SOON: Duration = Duration::from_secs(60);

fn refused(bytes: &[u8], reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.clab.yml");
    std::fs::write(&path, bytes).unwrap();
    let started = Instant::now();
    let error = load(&path, &Options::default()).expect_err(reason).to_string();
    assert!(started.elapsed() < SOON, "{reason}: took {:?}", started.elapsed());
    assert!(error.contains(reason), "expected `{reason}` in: {error:.2000}");
    assert!(error.len() < 200_000, "{reason}: an error of {} bytes", error.len());
}

fn lab_with(nodes: &str) -> String {
    format!("name: x\ntopology:\n  defaults: {{kind: linux}}\n  nodes:\n{nodes}")
}

#[test]
fn alias_bombs() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let of = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![of; 10].join(", "));
    }
    refused(bomb.as_bytes(), "the file has too many values");
    let merges: String =
        (1..60).map(|level| format!("m{level}: &m{level} {{<<: [*m{0}, *m{0}], k{level}: 1}}\n", level - 1)).collect();
    refused(format!("m0: &m0 {{k0: 1}}\n{merges}").as_bytes(), "the file has too many values");
}

#[test]
fn size() {
    refused(&vec![b'x'; 10 << 20], "the file is longer than");
    refused(lab_with(&"    # nothing\n".repeat(1 << 20)).as_bytes(), "the file is longer than");
    refused("- a\n".repeat(MAX_TEXT / 4).as_bytes(), "the file has too many values");
    refused(format!("name: {}\ntopology: {{}}\n", "x".repeat(MAX_TEXT / 2)).as_bytes(), "is not a valid lab name");
    refused(format!("? {}\n: 1\n", "x".repeat(MAX_TEXT / 2)).as_bytes(), "unknown field");
    let error = load_text("x", &"x".repeat(MAX_TEXT + 1), Path::new("/"), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("the file is longer than"), "{error}");
}

#[test]
fn depth() {
    refused(&[b'['; 1 << 20], "this is not valid YAML");
    refused("{a: ".repeat(1 << 18).as_bytes(), "this is not valid YAML");
    refused("- ".repeat(1 << 18).as_bytes(), "too deep");
    refused(format!("x: {}1{}\n", "[".repeat(100), "]".repeat(100)).as_bytes(), "too deep");
    refused("${A:-".repeat(1 << 18).as_bytes(), "too deep within each other");
    refused("{{ if true }}".repeat(1 << 16).as_bytes(), "in the template");
}

#[test]
fn growth() {
    refused(b"{{ range seq 1000000 }}{{ range seq 1000000 }}{{ end }}{{ end }}", "range iteration budget exhausted");
    refused(b"{{ range seq 1000000 }}xxxxxxxxxxxxxxxx{{ end }}", "the template makes too much text");
    refused(b"{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}", "recursion limit");
}

#[test]
fn names() {
    for name in ["'a b'", "a/b", "..", "../../etc", "'-rf'", "'$(reboot)'", "ä", "\"a\\e[31m\"", &"x".repeat(300)] {
        refused(lab_with(&format!("    {name}:\n")).as_bytes(), "is not a valid node name");
        refused(format!("name: {name}\ntopology: {{}}\n").as_bytes(), "is not a valid lab name");
        let link = format!(
            "    a:\n  links:\n    - endpoints: [{{node: a, interface: x}}, {{node: {name}, interface: y}}]\n      type: veth\n"
        );
        refused(lab_with(&link).as_bytes(), "there is no node");
    }
    for port in ["'a b'", "ä", "''", &"x".repeat(300)] {
        let link = format!("    a:\n  links:\n    - {{type: dummy, endpoint: {{node: a, interface: {port}}}}}\n");
        refused(lab_with(&link).as_bytes(), "is not a valid port name");
    }
}

#[test]
fn encodings() {
    refused(b"name: x\ntopology: \xff\n", "this is not UTF-8 text");
    refused(&"name: x".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), "this is not valid YAML");
    refused(b"\xff\xfen\0a\0m\0e\0", "this is not UTF-8 text");
    refused(b"name: x\ntopology:\n\tnodes: {}\n", "use spaces instead of tabs");
    refused(b"name: x\ntopology: {nodes: {a: \0}}\n", "lab.clab.yml:2:");
}

#[test]
fn many_problems_are_cut_off() {
    let nodes: String = (0..5_000).map(|index| format!("    n{index}: {{colour: red}}\n")).collect();
    refused(lab_with(&nodes).as_bytes(), "more than 100 errors");
}

#[test]
fn many_warnings_are_no_error() {
    let nodes: String = (0..200).map(|index| format!("    n{index}: {{mgmt-ipv4: 10.0.0.{index}}}\n")).collect();
    let loaded = load_text("x", &lab_with(&nodes), Path::new("/"), &Options::default()).unwrap();
    assert_eq!(loaded.warnings.len(), 101);
    let error =
        load_text("x", &lab_with(&format!("{nodes}    bad: {{cpu: x}}\n")), Path::new("/"), &Options::default());
    assert!(error.unwrap_err().to_string().contains("expected a number"), "an error is not lost among warnings");
}

#[test]
fn what_is_no_file() {
    let missing = load(Path::new("/nonexistent/lab.clab.yml"), &Options::default()).unwrap_err();
    assert!(
        matches!(&missing, LoadError::Read { .. }) && missing.to_string().contains("/nonexistent/lab.clab.yml"),
        "{missing}"
    );
    assert!(std::error::Error::source(&missing).is_some());
    assert!(matches!(load(Path::new("/"), &Options::default()), Err(LoadError::Read { .. })));
    let endless = load(Path::new("/dev/zero"), &Options::default()).unwrap_err();
    assert!(endless.to_string().contains("the file is longer than"), "{endless}");
}

#[test]
fn a_large_lab_is_no_attack() {
    let nodes: String =
        (0..2_000).map(|index| format!("    n{index}: {{image: alpine, exec: [echo {index}]}}\n")).collect();
    let link = |index: usize| format!("    - endpoints: ['n{index}:eth1', 'n{}:eth2']\n", (index + 1) % 2_000);
    let links: String = (0..2_000).map(link).collect();
    let text = lab_with(&format!("{nodes}  links:\n{links}"));
    let started = Instant::now();
    let loaded = load_text("x", &text, Path::new("/"), &Options::default()).unwrap();
    assert_eq!((loaded.topology.nodes.len(), loaded.topology.links.len()), (2_000, 2_000));
    assert!(started.elapsed() < SOON);
}

const SAMPLES: [&str; 3] = [
    include_str!("data/nodes.clab.yml"),
    include_str!("data/links.clab.yml"),
    include_str!("data/template.clab.gotmpl"),
];

proptest! {
    /// Whatever happens to a good file, reading it ends with a lab or with a report that can be shown.
    #[test]
    fn damaged_files(
        sample in 0..SAMPLES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, "[a-z0-9:{}\\[\\]$%&*!|>'\"#~,. \t\n-]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = SAMPLES[sample].chars().collect();
        for (at, length, with) in damage {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        match load_text("lab.yml", &text, Path::new("/nonexistent"), &Options::default()) {
            Ok(loaded) => prop_assert!(!loaded.topology.name.as_str().is_empty()),
            Err(error) => prop_assert!(error.to_string().contains("error")),
        }
    }
}
