//! What is read of nodes in several tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use crate::census::eventually_or;
use crate::sandbox::{LONG, Sandbox};
use serde_json::Value;

/// Lab file of nodes in a ring, each with a link to the next.
pub fn ring(name: &str, size: usize) -> String {
    let mut text = format!("name: {name}\nmgmt:\n  skip-when-unused: true\ntopology:\n  nodes:\n");
    for i in 0..size {
        text += &format!("    n{i}: {{kind: linux, cmd: sleep infinity}}\n");
    }
    text += "  links:\n";
    for i in 0..size {
        text += &format!("    - endpoints: [\"n{i}:eth1\", \"n{}:eth2\"]\n", (i + 1) % size);
    }
    text
}

/// A node of the one lab there is.
pub fn node(sandbox: &Sandbox, name: &str) -> Value {
    let lab = sandbox.lab();
    let nodes = lab["nodes"].as_array().unwrap().clone();
    nodes.into_iter().find(|node| node["node_name"] == name).unwrap_or_else(|| panic!("{name} is not in {lab:#}"))
}

/// Whether every node runs and every link is up.
pub fn is_up(lab: &Value) -> bool {
    let all = |list: &str, key: &str, value: &str| {
        lab[list].as_array().is_some_and(|rows| rows.iter().all(|row| row[key] == value))
    };
    all("nodes", "actual_state", "running") && all("links", "actual_state", "up")
}

/// Waits until the one lab there is is up.
pub fn until_up(sandbox: &Sandbox) -> Value {
    let explain = || {
        let lab = sandbox.lab();
        // The end of the log says most, and those who print reports cut them.
        let log = sandbox.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the lab is up: {lab:#}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    };
    eventually_or(LONG, explain, || Some(sandbox.lab()).filter(is_up))
}

/// Pid, outside, of the init of a node.
pub fn init(sandbox: &Sandbox, name: &str) -> i32 {
    try_init(sandbox, name).unwrap_or_else(|| panic!("{name} has no init among {:?}", sandbox.processes()))
}

/// Pid, outside, of the init of a node, if it has one now.
pub fn try_init(sandbox: &Sandbox, name: &str) -> Option<i32> {
    inits(sandbox, name).into_iter().next()
}

/// Pids, outside, of all inits of a node, of which there is never more than one.
pub fn inits(sandbox: &Sandbox, name: &str) -> Vec<i32> {
    let is_init = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        inner.is_some_and(|pids| pids.split_whitespace().count() > 1 && pids.trim().ends_with("\t1"))
    };
    // An init is called after its node; the kernel keeps 15 bytes of that.
    let called: String = format!("lc:{name}").chars().take(15).collect();
    let is_called =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == called);
    let pids = sandbox.processes().into_iter().map(|(pid, _)| pid);
    pids.filter(|pid| is_called(*pid) && is_init(*pid)).collect()
}

/// Runs a program in namespaces of a process. An ordinary user enters the user namespace first.
///
/// # Panics
/// When the program fails.
pub fn enter(pid: i32, arguments: &[&str]) -> String {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string()]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} in the namespaces of {pid}: {} {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What must not change of a node when another one is worked on: its init, its interfaces with their indexes and
/// addresses, and when it started.
pub fn fingerprint(sandbox: &Sandbox, name: &str) -> String {
    let pid = init(sandbox, name);
    let interfaces = enter(pid, &["--net", "ip", "-o", "-br", "link"]);
    // Carrier comes and goes with the neighbour; identity and address do not.
    let interfaces: Vec<String> = interfaces
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let (interface, mac) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
            format!("{interface} {mac}")
        })
        .collect();
    format!("{pid} {interfaces:?} {}", node(sandbox, name)["boot_started_at"])
}

/// What would be another if a link had flapped since.
pub fn steadiness(link: &Value) -> Value {
    serde_json::json!([link["state_since"], link["ends"][0]["epoch"], link["ends"][1]["epoch"]])
}
