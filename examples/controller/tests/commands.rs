//! The command line against a running controller: what is printed where, and exit codes.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output, Stdio};

use common::{Served, chain, lab_name};
use lifecycle_core::machine::NodeState;
use lifecycle_engine::drive::LabSnapshot;
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn expect(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "\nstdout: {out}\nstderr: {err}");
    assert!(out.contains(stdout), "stdout lacks `{stdout}`: {out}");
    assert!(err.contains(stderr), "stderr lacks `{stderr}`: {err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_operated() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let run = async |line: &str| served.lifecycle(line).await;
    expect(&run("stop n0").await, 0, "", "");
    expect(&run("stop n0").await, 0, "", "one/n0: is so already");
    expect(&run("start one/n0 --timeout 10s").await, 0, "", "");
    expect(&run("restart n0 n1").await, 0, "", "");
    expect(&run("start n9").await, 5, "", "no node is called `n9`; there is one/n0, one/n1");
    expect(&run("start two/n0").await, 5, "", "no lab is called `two`; there is one");
    expect(&run("start -l one n0 n9").await, 3, "", "one/n9: no node is called `n9`");
    expect(&run("stop --all").await, 0, "2 affected: n0, n1", "");
    expect(&run("start --all -o json").await, 0, "\"affected\": 2", "");
    served.up(chain("two", 1)).await;
    expect(&run("start n0").await, 2, "", "several labs have a node `n0`; say which: one/n0, two/n0");
    expect(&run("start --all").await, 2, "", "name one of one, two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_its_way_is_a_conflict_and_waiting_has_an_end() {
    let served = Served::start().await;
    served.provider.close_gate(true);
    served.controller.apply("ann", chain("one", 1)).await.unwrap();
    let starting = |lab: Option<&LabSnapshot>| lab.is_some_and(|lab| lab.nodes[0].actual_state == NodeState::Starting);
    served.controller.wait(&lab_name("one"), common::PATIENCE, starting).await.unwrap();
    let run = async |line: &str| served.lifecycle(line).await;
    expect(&run("stop n0").await, 4, "", "cannot stop: the node is `starting` since");
    expect(&run("wait n0 --for ready --timeout 100ms").await, 124, "", "not `ready` within 100ms: n0");
    expect(&run("exec n0 -- true").await, 4, "", "does not run");
    expect(&run("start --all --timeout 100ms").await, 124, "1 skipped, since they are on their way", "not as wanted");
    served.provider.close_gate(false);
    expect(&run("wait n0 --for ready").await, 0, "", "");
    expect(&run("wait --for state=running -l one").await, 0, "", "");
    expect(&run("wait n9 -l one --for ready").await, 5, "", "there is no such node");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_have_many_formats() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let run = async |line: &str| served.lifecycle(line).await;
    expect(&run("inspect").await, 0, "NODE  STATE    READY\nn0    running  yes\n", "");
    expect(&run("inspect one -o wide").await, 0, "PROVIDER", "");
    expect(&run("-o name inspect").await, 0, "one/n0\none/n1\n", "");
    let json: Value = serde_json::from_slice(&run("-o json inspect").await.stdout).unwrap();
    assert_eq!((&json["name"], &json["nodes"][1]["node_name"]), (&"one".into(), &"n1".into()));
    let yaml: Value = serde_saphyr::from_str(&text(&run("-o yaml inspect").await.stdout)).unwrap();
    assert_eq!(yaml, json);
    expect(&run("inspect two").await, 5, "", "no lab is called `two`");
    served.up(chain("two", 1)).await;
    expect(&run("inspect").await, 0, "LAB  STATE    NODES  LINKS", "`lifecycle inspect LAB` shows one");
    let lines = text(&run("-o jsonl inspect -a").await.stdout);
    assert_eq!(lines.lines().count(), 2);
    expect(&run("graph one").await, 0, "n0 ---|\"eth1 - eth2\"| n1", "");
    expect(&run("graph two --format dot").await, 0, "graph \"two\" {", "");
    expect(&run("history one/n0").await, 0, "starting    running", "");
    expect(&run("version").await, 0, &format!("process {}", std::process::id()), "");
    expect(&run("selfcheck").await, 0, "8 promises checked, 0 broken\n", "");
    let all = run("events -o jsonl").await;
    let events: Vec<Value> = text(&all.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().zip(1..).all(|(event, seq)| event["seq"] == seq), "no gaps");
    expect(&run("events --since 3 -l two").await, 0, "two node n0: running", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_used() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let run = async |line: &str| served.lifecycle(line).await;
    expect(&run("exec n0 -- echo hello").await, 0, "hello\n", "");
    expect(&run("exec n0 -- false").await, 1, "", "");
    expect(&run("exec n0 -- nonsense").await, 127, "", "the node has no program `nonsense`");
    expect(&run("exec n0 -o json -- echo x").await, 0, "\"code\": 0", "");
    let logs = run("logs n0").await;
    expect(&logs, 0, "one\n", "two\n");
    assert_eq!(logs.stdout, b"one\n\xff\n", "each line goes where the node wrote it");
    expect(&run("logs n0 --tail 2 -o jsonl").await, 0, "{\"at\":null,\"stderr\":true,\"line\":\"two\\n\"}", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn labs_come_and_go() {
    let served = Served::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.clab.yml");
    let write = |nodes: &str| std::fs::write(&file, format!("name: one\ntopology:\n  nodes:\n{nodes}")).unwrap();
    let (path, run) = (file.display().to_string(), async |line: String| served.lifecycle(&line).await);
    write("    a: {kind: linux, network-mode: none}\n");
    expect(&run(format!("deploy --dry-run -t {path}")).await, 0, "+ node a\n", "");
    expect(&run(format!("deploy -t {path}")).await, 0, "a     running  yes", "");
    expect(&run(format!("apply -t {path} --no-wait")).await, 0, "", "lab one is as its file says");
    write("    b: {kind: linux, network-mode: none}\n");
    expect(&run(format!("apply --dry-run -t {path}")).await, 0, "+ node b\n- node a\n", "");
    expect(&run(format!("apply -t {path} --timeout 10s")).await, 0, "b     running  yes", "");
    write("    b: {kind: toaster}\n");
    expect(&run(format!("apply -t {path}")).await, 1, "", "unknown kind `toaster`");
    write("    b: {knid: linux}\n");
    expect(&run(format!("apply -t {path}")).await, 1, "", "unknown field `knid`");
    expect(&run("destroy two".to_owned()).await, 5, "", "no lab is called `two`; there is one");
    expect(&run("destroy two one".to_owned()).await, 3, "", "lab one is gone");
    expect(&run("inspect".to_owned()).await, 0, "LAB  STATE", "there is no lab");
}

#[test]
fn without_a_controller() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("never");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifecycle"));
        command.args(arguments).env("LIFECYCLE_STATE_DIR", &state).output().unwrap()
    };
    expect(&run(&["start", "n0"]), 6, "", "no controller is running for the state directory");
    expect(&run(&["inspect"]), 0, "LAB  STATE", "there is no lab");
    expect(&run(&["destroy", "one"]), 5, "", "no lab is called `one`");
    expect(&run(&["destroy", "--all"]), 0, "", "");
    expect(&run(&["destroy"]), 2, "", "Usage");
    expect(&run(&["fly"]), 2, "", "unrecognized subcommand 'fly'");
    expect(&run(&["wait", "n0", "--for", "state=asleep"]), 2, "", "with one of undeployed, pending");
    expect(&run(&["--config", "/nonexistent", "inspect"]), 1, "", "cannot read the configuration /nonexistent");
    expect(&run(&["up", "/nonexistent"]), 1, "", "cannot read the lab file /nonexistent");
    expect(&run(&["version"]), 0, "controller: none is running", "");
    expect(&run(&["--help"]), 0, "Exit codes: 0 done, 1 failed", "");
    for shell in ["bash", "zsh", "fish"] {
        expect(&run(&["completion", shell]), 0, "lifecycle", "");
    }
    assert!(!state.exists(), "commands that only look make nothing");
}

#[test]
fn a_reader_that_goes_away_is_met_with_silence() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lifecycle"))
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_kept_beneath_a_directory() {
    let served = Served::start().await;
    let mut topology = chain("one", 2);
    topology.nodes[0].kind = "shell".to_owned();
    served.up(topology).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let run = async |line: &str| served.lifecycle(&format!("{line} -d {path}")).await;
    expect(&run("save n0").await, 0, "clab-one/n0/n.cfg", "");
    let kept = std::fs::read_to_string(directory.path().join("clab-one/n0/n.cfg")).unwrap();
    assert_eq!(kept, "hostname n\n");
    // Of all nodes, one that has nothing to tell by its kind is none that failed; who names it is told.
    expect(&run("save").await, 0, "kind `linux`", "");
    expect(&run("save n1").await, 1, "nothing says how a node of kind `linux` tells its configuration", "");
    expect(&run("save n0 n1").await, 3, "clab-one/n0/n.cfg", "");
    expect(&run("save n9").await, 5, "", "no node is called `n9`");
}
