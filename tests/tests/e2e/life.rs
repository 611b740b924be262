//! A lab's life as its user lives it.

use std::path::Path;

use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{fingerprint, is_up, node, ring, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use nix::sys::signal::Signal;

/// The README's first command: up, verified, its pings pass, and Ctrl-C leaves nothing.
pub(crate) fn quickstart(user: User) {
    let sandbox = Sandbox::new(user);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../labs/quickstart.clab.yml");
    let mut up = sandbox.spawn(&["up", file.to_str().unwrap()]);
    up.until_printed("is up and verified");
    let lab = until_up(&sandbox);
    assert_eq!(lab["nodes"].as_array().unwrap().len(), 3, "{lab:#}");
    for link in lab["links"].as_array().unwrap() {
        for end in link["ends"].as_array().unwrap() {
            assert_eq!((&end["up"], &end["reason"]), (&true.into(), &serde_json::Value::Null), "{link:#}");
        }
    }
    eventually("its nodes are ready", LONG, || {
        let lab = sandbox.lab();
        let ready = lab["nodes"].as_array().unwrap().iter().all(|node| node["is_ready"] == true);
        ready.then_some(())
    });
    for node in sandbox.lab()["nodes"].as_array().unwrap() {
        assert_eq!(node["note"], serde_json::Value::Null, "a start command failed: {node:#}");
    }
    assert_eq!(up.end(Signal::SIGINT), Some(0), "{}", sandbox.log());
    sandbox.assert_clean();
}

pub(crate) fn restart_in_a_ring_of_ten(user: User) {
    let sandbox = Sandbox::new(user);
    let file = sandbox.write("ring.clab.yml", &ring("ring", 10));
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", file.to_str().unwrap()]);
    until_up(&sandbox);
    let names: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
    let before: Vec<String> = names.iter().map(|name| fingerprint(&sandbox, name)).collect();
    sandbox.ok(&["restart", "n4"]);
    let lab = sandbox.lab();
    assert!(is_up(&lab), "after `restart` returned, its links are verified again: {lab:#}");
    for (name, before) in names.iter().zip(before) {
        let after = fingerprint(&sandbox, name);
        assert_eq!(after == before, name != "n4", "{name}: {before} / {after}");
    }
    sandbox.ok(&["destroy", "ring"]);
    assert_eq!(serve.end(Signal::SIGTERM), Some(0));
    sandbox.assert_clean();
}

pub(crate) fn commands_are_guarded(user: User) {
    let sandbox = Sandbox::new(user);
    let text = "name: slow\ntopology:\n  nodes:\n    a: {kind: linux, startup-delay: 4}\n    b: {kind: linux}\n";
    let file = sandbox.write("slow.clab.yml", text);
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "--no-wait", "-t", file.to_str().unwrap()]);
    eventually("a is starting", LONG, || (node(&sandbox, "a")["actual_state"] == "starting").then_some(()));
    let said = sandbox.fails(4, &["stop", "a"]);
    assert!(said.contains("starting") && said.contains("abort"), "the refusal says what would be accepted: {said}");
    // Some were left alone, so the command was done in part, and says so by its code.
    let bulk = sandbox.run(&["start", "--all", "--no-wait", "-o", "json"]);
    assert_eq!(bulk.status.code(), Some(3));
    let bulk: serde_json::Value = serde_json::from_slice(&bulk.stdout).unwrap();
    let classes: usize = ["affected", "skipped_transitional", "already_in_state"]
        .iter()
        .map(|class| bulk[*class].as_array().map_or_else(|| bulk[*class].as_u64().unwrap() as usize, Vec::len))
        .sum();
    assert_eq!(classes, 2, "each node is in exactly one class: {bulk:#}");
    sandbox.ok(&["stop", "--abort", "a"]);
    let state = node(&sandbox, "a")["actual_state"].clone();
    assert!(state == "stopped" || state == "undeployed", "{state}");
    sandbox.fails(5, &["start", "nobody"]);
    sandbox.ok(&["start", "a"]);
    until_up(&sandbox);
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

pub(crate) fn apply_converges(user: User) {
    let sandbox = Sandbox::new(user);
    let file = sandbox.write("ring.clab.yml", &ring("ring", 4));
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", file.to_str().unwrap()]);
    until_up(&sandbox);
    let kept = [fingerprint(&sandbox, "n0"), fingerprint(&sandbox, "n1")];
    // One node fewer, and one link in another place.
    let mut text = ring("ring", 3);
    text = text.replace("\"n2:eth1\", \"n0:eth2\"", "\"n2:eth7\", \"n0:eth7\"");
    sandbox.write("ring.clab.yml", &text);
    let plan = sandbox.ok(&["deploy", "--dry-run", "-t", file.to_str().unwrap()]);
    assert!(plan.contains("n3"), "{plan}");
    assert_eq!(sandbox.lab()["nodes"].as_array().unwrap().len(), 4, "a dry run changes nothing");
    sandbox.ok(&["apply", "-t", file.to_str().unwrap()]);
    eventually("the lab is what its file says", LONG, || {
        let lab = sandbox.lab();
        let sizes = (lab["nodes"].as_array()?.len(), lab["links"].as_array()?.len());
        (sizes == (3, 3) && is_up(&lab)).then_some(())
    });
    let pid = |fingerprint: &str| fingerprint.split(' ').next().unwrap().to_owned();
    for (name, before) in ["n0", "n1"].iter().zip(kept) {
        assert_eq!(pid(&fingerprint(&sandbox, name)), pid(&before), "{name} went on running");
    }
    sandbox.ok(&["destroy", "ring"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

pub(crate) fn exec_logs_history(user: User) {
    let sandbox = Sandbox::new(user);
    let text = "name: talk\ntopology:\n  nodes:\n    a:\n      kind: linux\n      cmd: sh -c 'echo hello from $HOSTNAME; exec sleep 1000'\n      env: {GREETING: hi}\n      exec: [sh -c 'echo ran > /tmp/ran']\n";
    let file = sandbox.write("talk.clab.yml", text);
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", file.to_str().unwrap()]);
    assert_eq!(sandbox.ok(&["exec", "a", "--", "sh", "-c", "echo $GREETING; cat /tmp/ran"]), "hi\nran\n");
    sandbox.fails(7, &["exec", "a", "--", "sh", "-c", "exit 7"]);
    assert!(sandbox.ok(&["logs", "a"]).contains("hello from"));
    let history = sandbox.ok(&["history", "a"]);
    assert!(history.contains("running") && history.contains("pending"), "{history}");
    let events = sandbox.ok(&["events", "-o", "jsonl"]);
    assert!(events.lines().count() > 3, "{events}");
    sandbox.ok(&["wait", "a", "--for", "state=running", "--timeout", "5s"]);
    sandbox.fails(124, &["wait", "a", "--for", "state=stopped", "--timeout", "1s"]);
    sandbox.ok(&["destroy", "talk"]);
    assert!(sandbox.ok(&["history", "talk/a"]).contains("undeployed"), "the trail outlives the node");
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}
