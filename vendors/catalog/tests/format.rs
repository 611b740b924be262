//! What the reader of vendor files makes of good files and of bad ones.
#![allow(clippy::unwrap_used)]

use std::fs;

use lifecycle_core::plugin::vendor::{KindData, Readiness};
use lifecycle_vendor_catalog::VendorFile;

#[test]
fn little_has_to_be_said() {
    let file = VendorFile::parse("vendor: ACME\nkinds: [{ kind: acme_router }]\n").unwrap();
    assert_eq!(file.kinds, [KindData::new("acme_router")]);
    assert_eq!(file.kinds[0].readiness, Readiness::WhenRunning);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_expected() {
    let kind = |text: &str| format!("vendor: x\nkinds:\n  - kind: a\n{text}");
    for (text, what) in [
        ("kinds: []\n".to_owned(), &["vendor"][..]),
        ("vendor: x\nkinds: []\n".to_owned(), &["at least one"]),
        ("vendor: x\nvendor: y\nkinds: []\n".to_owned(), &["line 2", "duplicate"]),
        ("vendor: x\nkinds:\n  - kind: A\n".to_owned(), &["line 3", "lower-case letters"]),
        (kind("  - kind: b\n    aliases: [a]\n"), &["`a` is the name of two kinds"]),
        (kind("    redyness: {}\n"), &["line 4", "redyness", "readiness"]),
        (kind("    readiness: { probe: lag }\n"), &["line 4", "lag", "log"]),
        (kind("    readiness: { probe: log }\n"), &["line 4", "pattern"]),
        (kind("    readiness: { probe: log, pattern: '(' }\n"), &["line 4", "not a pattern"]),
        (kind("    progress:\n      - { pattern: x, percent: 300 }\n"), &["line 5 column 32", "more than 100"]),
        (kind("    interfaces:\n      ports: [{ template: swp }]\n"), &["line 5", "`swp` is no template", "{n}"]),
        (kind("    interfaces:\n      ports: [{ template: 'a{n}' }, { template: 'b{n}' }]\n"), &["line 5", "`count`"]),
        (kind("    save: { command: show }\n"), &["line 4 column 22", "sequence"]),
        (kind("    save: { command: [show], file: ../../etc/passwd }\n"), &["line 4", "not the name of a file"]),
        (kind("    stagger: soon\n"), &["line 4 column 14"]),
    ] {
        let problem = VendorFile::parse(&text).unwrap_err();
        for word in what {
            assert!(problem.contains(word), "{text}\n{word} is not in: {problem}");
        }
    }
}

#[test]
fn a_directory_is_read_in_order_and_its_faults_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let read = || VendorFile::read_all(directory.path());
    write("b.yaml", "vendor: B\nkinds: [{ kind: b }]\n");
    write("a.yml", "vendor: A\nkinds: [{ kind: a }]\n");
    write("notes.txt", "not a vendor");
    let files = read().unwrap();
    assert_eq!(files.iter().map(|file| file.vendor.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    write("c.yml", "vendor: C\nkinds: [{ kind: c, aliases: [b] }]\n");
    let error = read().unwrap_err().to_string();
    assert!(error.contains("c.yml") && error.contains("a kind `b` already"), "{error}");
    write("c.yml", &"#".repeat((1 << 20) + 1));
    assert!(read().unwrap_err().to_string().contains("longer than"));
    let missing = VendorFile::read_all(&directory.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}
