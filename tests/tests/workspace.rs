//! The rules of the workspace: who may depend on whom, under which licences, and how long a file may be.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All crates that a package reaches by normal edges, itself excluded, with default features.
fn reaches(package: &str) -> BTreeSet<String> {
    let tree =
        cargo(&["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn assert_avoids(package: &str, forbidden: &[&str]) {
    let reached = reaches(package);
    let found: Vec<&&str> = forbidden.iter().filter(|name| reached.contains(**name)).collect();
    assert!(found.is_empty(), "{package} must not reach {found:?}");
}

const RUNTIMES: [&str; 12] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "nix",
    "rustix",
    "socket2",
    "hyper",
    "reqwest",
    "rusqlite",
    "axum",
    "tracing-subscriber",
];

const PLUGINS: [&str; 9] = [
    "lifecycle-provider-docker",
    "lifecycle-provider-libvirt",
    "lifecycle-provider-netns",
    "lifecycle-network-veth",
    "lifecycle-network-linux-bridge",
    "lifecycle-network-ovs",
    "lifecycle-vendor-catalog",
    "lifecycle-vendor-linux",
    "lifecycle-store-sqlite",
];

#[test]
fn core_is_pure() {
    assert_avoids("lifecycle-core", &RUNTIMES);
    let ours: Vec<String> =
        reaches("lifecycle-core").into_iter().filter(|name| name.starts_with("lifecycle-")).collect();
    assert!(ours.is_empty(), "core depends on nothing of ours, yet reaches {ours:?}");
}

/// What the dependency graph cannot show: that pure code does not reach for the clock, the disk or other processes
/// through the standard library.
#[test]
fn pure_code_touches_nothing_outside() {
    let forbidden = [
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "std::process",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::thread",
        "std::env",
        "tokio::",
        "async fn step",
    ];
    for folder in ["lifecycle-core/src", "lifecycle-engine/src/decide"] {
        for file in rust_files(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in forbidden {
                    assert!(!code.contains(word), "{}:{}: pure code uses {word}", file.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn plugins_know_neither_each_other_nor_the_engine() {
    for plugin in PLUGINS {
        let others = PLUGINS.iter().filter(|other| **other != plugin).copied();
        let mut forbidden: Vec<&str> = others.chain(["lifecycle-engine", "lifecycle-kit", "axum", "clap"]).collect();
        // Container daemons are spoken to over HTTP; whoever serves it is no plugin.
        if plugin != "lifecycle-provider-docker" {
            forbidden.push("hyper");
        }
        assert_avoids(plugin, &forbidden);
    }
}

#[test]
fn the_engine_knows_plugins_by_trait_only() {
    let mut forbidden = PLUGINS.to_vec();
    forbidden.extend(["lifecycle-kit", "lifecycle-linux", "lifecycle-topology", "axum", "hyper", "clap", "rusqlite"]);
    assert_avoids("lifecycle-engine", &forbidden);
}

#[test]
fn the_testkit_is_for_tests() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|it| it["kind"].is_null());
        let uses = normal.filter(|it| it["name"] == "lifecycle-testkit").count();
        assert!(uses == 0 || package["publish"] == serde_json::json!([]), "{name} depends on the testkit");
    }
}

#[test]
fn default_features_need_no_c_library_of_the_system() {
    let reached = reaches("lifecycle-kit");
    for name in ["virt", "virt-sys", "libpq-sys", "openssl-sys"] {
        assert!(!reached.contains(name), "the default facade reaches {name}");
    }
}

fn metadata() -> serde_json::Value {
    // What other platforms need is never downloaded here, so it cannot be asked about.
    let platform = "x86_64-unknown-linux-gnu";
    serde_json::from_str(&cargo(&["metadata", "--filter-platform", platform, "--format-version", "1"])).unwrap()
}

/// Every licence of every dependency is one of those that deny.toml allows, for all crates or for that one.
#[test]
fn licences_are_clean() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = deny.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut refused = BTreeMap::new();
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().to_owned();
        let licence = package["license"].as_str().unwrap_or("none stated").replace('/', " OR ");
        // "A OR B" needs one of them, "A AND B" all; parentheses in use group ORs within ANDs.
        let exception = format!("{{ crate = \"{name}\", allow = [\"{licence}\"] }}");
        let clean = licence
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|word| allowed.contains(word.trim().trim_matches(['(', ')']))))
            || deny.contains(&exception);
        if !clean {
            refused.insert(name, licence);
        }
    }
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:?}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_file_is_too_long_to_read() {
    for file in rust_files(&root()) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines; split it", file.display());
    }
}

/// Unsafe code stands in one crate, where it can be audited; a single call of another crate must be argued there.
#[test]
fn unsafe_code_stands_in_one_crate() {
    for file in rust_files(&root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let at_home = file.strip_prefix(root()).unwrap().starts_with("lifecycle-linux");
        if !at_home && text.contains("unsafe {") && !file.ends_with("tests/workspace.rs") {
            assert!(text.contains("SAFETY:"), "{} has unsafe code without an argument", file.display());
        }
    }
}

#[test]
fn every_published_crate_describes_itself() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if !name.starts_with("lifecycle-") || package["publish"] == serde_json::json!([]) {
            continue;
        }
        for key in ["description", "license", "repository", "rust_version", "readme"] {
            assert!(package[key].is_string(), "{name} lacks `{key}`");
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let readme = manifest.parent().unwrap().join(package["readme"].as_str().unwrap());
        assert!(readme.is_file(), "{} is missing", readme.display());
    }
}
