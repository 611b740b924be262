//! What is changed by hand is noticed by event and put right; what is a node's own is left alone.

use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{fingerprint, init, is_up, node, ring, try_init, until_up};
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn deployed(user: User, size: usize) -> Sandbox {
    let sandbox = Sandbox::new(user);
    sandbox.write("ring.clab.yml", &ring("ring", size));
    sandbox
}

fn deploy(sandbox: &Sandbox) -> Running<'_> {
    let serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", "ring.clab.yml"]);
    until_up(sandbox);
    serve
}

fn finish(sandbox: &Sandbox, mut serve: Running<'_>) {
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

/// Rows of the audit trail of a node that say drift.
fn drift(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let rows = sandbox.json(&["history", name]);
    rows.as_array().unwrap().iter().filter(|row| row["trigger"] == "drift").cloned().collect()
}

pub(crate) fn a_killed_process_comes_back(user: User) {
    let sandbox = deployed(user, 3);
    let serve = deploy(&sandbox);
    let others = [fingerprint(&sandbox, "n0"), fingerprint(&sandbox, "n2")];
    let old = init(&sandbox, "n1");
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    eventually("n1 runs again", LONG, || {
        let new = try_init(&sandbox, "n1").filter(|new| *new != old)?;
        is_up(&sandbox.lab()).then_some(new)
    });
    assert!(!drift(&sandbox, "n1").is_empty(), "{:#}", sandbox.json(&["history", "n1"]));
    assert_eq!(others, [fingerprint(&sandbox, "n0"), fingerprint(&sandbox, "n2")], "no other node was touched");
    finish(&sandbox, serve);
}

pub(crate) fn a_deleted_veth_comes_back(user: User) {
    let sandbox = deployed(user, 3);
    let serve = deploy(&sandbox);
    let ifindex = || sandbox.ok(&["exec", "n1", "--", "cat", "/sys/class/net/eth1/ifindex"]);
    let old = ifindex();
    sandbox.ok(&["exec", "n1", "--", "ip", "link", "delete", "eth1"]);
    eventually("the link is there again, as another interface", LONG, || {
        let output = sandbox.run(&["exec", "n1", "--", "cat", "/sys/class/net/eth1/ifindex"]);
        let new = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && new != old && is_up(&sandbox.lab())).then_some(())
    });
    finish(&sandbox, serve);
}

pub(crate) fn what_a_node_sets_is_left_alone(user: User) {
    let sandbox = deployed(user, 3);
    let serve = deploy(&sandbox);
    sandbox.ok(&["exec", "n1", "--", "ip", "link", "set", "eth1", "down"]);
    eventually("both ends say so", LONG, || {
        let lab = sandbox.lab();
        let link = lab["links"].as_array()?.iter().find(|link| link["actual_state"] == "down")?.clone();
        let ends = link["ends"].as_array()?;
        ends.iter().all(|end| end["reason"] == "local_interface_down" && end["up"] == false).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    let flags = sandbox.ok(&["exec", "n1", "--", "cat", "/sys/class/net/eth1/flags"]);
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 0, "it is still down");
    sandbox.ok(&["exec", "n1", "--", "ip", "link", "set", "eth1", "up"]);
    until_up(&sandbox);
    finish(&sandbox, serve);
}

/// On a link that says `manage: strict`, what something in a node sets at its end is put back; on another it stays.
pub(crate) fn what_is_set_on_a_strict_link_is_put_back(user: User) {
    let sandbox = Sandbox::new(user);
    let text = ring("ring", 3).replacen("\"n1:eth2\"]\n", "\"n1:eth2\"]\n      manage: strict\n", 1);
    assert!(text.contains("strict"), "{text}");
    sandbox.write("ring.clab.yml", &text);
    let serve = sandbox.serve_with(&[("LIFECYCLE_LOG_LEVEL", "info")]);
    sandbox.ok(&["deploy", "-t", "ring.clab.yml"]);
    until_up(&sandbox);
    let before = sandbox.lab();
    let set = |words: &str| {
        let arguments: Vec<&str> =
            ["exec", "n0", "--", "ip", "link", "set"].into_iter().chain(words.split(' ')).collect();
        sandbox.ok(&arguments);
    };
    let read = |what: &str| sandbox.ok(&["exec", "n0", "--", "cat", &format!("/sys/class/net/{what}")]);
    // n0's eth1 is at the strict link, its eth2 at another one.
    set("eth2 mtu 1300");
    set("eth1 mtu 1400");
    eventually("the MTU is put back", LONG, || (read("eth1/mtu") == "9500\n" && is_up(&sandbox.lab())).then_some(()));
    set("eth1 down");
    eventually("it is set up again", LONG, || {
        (read("eth1/operstate") == "up\n" && is_up(&sandbox.lab())).then_some(())
    });
    assert_eq!(read("eth2/mtu"), "1300\n", "what is a node's own is left alone");
    let log = sandbox.log();
    for reason in ["the MTU of n0:eth1 was set to 1400 instead of 9500", "n0:eth1 was set down"] {
        let row = log.lines().find(|line| line.contains("link_state_transition") && line.contains(reason));
        assert!(row.is_some_and(|row| row.contains("drift") && row.contains("n0:eth1/n1:eth2")), "{reason}: {log}");
    }
    let identities = |lab: &Value| -> Vec<Value> {
        lab["nodes"].as_array().unwrap().iter().map(|node| node["boot_started_at"].clone()).collect()
    };
    assert_eq!(identities(&before), identities(&sandbox.lab()), "no node was touched");
    finish(&sandbox, serve);
}

/// What a lab consists of is never taken for a leftover, however often and eagerly leftovers are looked for.
pub(crate) fn nothing_in_use_is_collected(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("seg.clab.yml", SEGMENT);
    let config =
        sandbox.write("config.yaml", "limits: { link-pass: 200ms, sync-pass: 200ms, collection-grace: 1ms }\n");
    let serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
    sandbox.ok(&["deploy", "-t", "seg.clab.yml"]);
    until_up(&sandbox);
    let fingerprints = || ["a", "b", "c"].map(|name| fingerprint(&sandbox, name));
    let has_both = |node: &String| node.contains("eth0") && node.contains("eth1");
    let explain = || format!("all have both interfaces: {:?}\n{}", fingerprints(), sandbox.log());
    let before = eventually_or(LONG, explain, || Some(fingerprints()).filter(|nodes| nodes.iter().all(has_both)));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(["a", "b", "c"].map(|name| fingerprint(&sandbox, name)), before);
    let ping = |to: &str| sandbox.run(&["exec", "a", "--", "ping", "-c", "1", "-W", "2", to]).status.success();
    let address = node(&sandbox, "b")["management_ips"]["ipv4"].as_str().unwrap().to_owned();
    eventually("the management network works", LONG, || ping(&address).then_some(()));
    assert!(!sandbox.log().contains("collect"), "{}", sandbox.log());
    finish(&sandbox, serve);
}

/// Three nodes at one bridge.
const SEGMENT: &str = "name: seg\ntopology:\n  nodes:\n    lcbr0: {kind: bridge}\n    a: {kind: linux}\n    b: {kind: linux}\n    c: {kind: linux}\n  links:\n    - endpoints: [\"a:eth1\", \"lcbr0:pa\"]\n    - endpoints: [\"b:eth1\", \"lcbr0:pb\"]\n    - endpoints: [\"c:eth1\", \"lcbr0:pc\"]\n";

pub(crate) fn a_segment_and_its_bridge(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("seg.clab.yml", SEGMENT);
    let serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", "seg.clab.yml"]);
    until_up(&sandbox);
    let address = || {
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            sandbox.ok(&[
                "exec",
                name,
                "--",
                "ip",
                "address",
                "replace",
                &format!("10.9.0.{}/24", i + 1),
                "dev",
                "eth1",
            ]);
        }
    };
    address();
    let ping =
        |from: &str, to: &str| sandbox.run(&["exec", from, "--", "ping", "-c", "1", "-W", "2", to]).status.success();
    eventually("a reaches b and c through the segment", LONG, || {
        (ping("a", "10.9.0.2") && ping("a", "10.9.0.3")).then_some(())
    });
    if user == User::Root {
        sandbox.ip(&["link", "delete", "lcbr0"]);
        std::thread::sleep(std::time::Duration::from_secs(1));
        until_up(&sandbox);
        // The interfaces were made anew, so the nodes' own addresses on them are gone.
        address();
        eventually("the segment works again", LONG, || {
            (is_up(&sandbox.lab()) && ping("a", "10.9.0.2") && ping("b", "10.9.0.3")).then_some(())
        });
    }
    finish(&sandbox, serve);
}

pub(crate) fn a_deleted_pin_comes_back() {
    let sandbox = deployed(User::Root, 2);
    let serve = deploy(&sandbox);
    let pins = || -> Vec<String> {
        let pins = sandbox.mounts().into_iter().filter(|line| line.starts_with("nsfs"));
        pins.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    };
    let before = pins();
    assert!(!before.is_empty(), "root's namespaces are pinned by files");
    let status = std::process::Command::new("umount").arg(&before[0]).status().unwrap();
    assert!(status.success());
    std::fs::remove_file(&before[0]).unwrap();
    eventually("the pin is there again", LONG, || pins().contains(&before[0]).then_some(()));
    assert!(is_up(&sandbox.lab()));
    assert_eq!(node(&sandbox, "n0")["actual_state"], "running");
    finish(&sandbox, serve);
}
