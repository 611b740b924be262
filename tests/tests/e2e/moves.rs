//! A node moves to another host: when it fits there, with its links, and never so that two of it live.

use libtest_mimic::Trial;
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind};
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{node, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::hosts::Hosts;

const IMAGE: &str = "lifecycle-test:1";

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("root::moves::container", &[Need::Root, Need::Docker], a_container_moves_when_it_fits)]
}

/// A lab of `moving`, its neighbour, and where it says so somebody who leaves no memory on the other host.
fn lab(host: &str, full: Option<u64>) -> String {
    let node = |host: &str, memory: &str, exec: &str| {
        json!({ "kind": "linux", "host": host, "image": IMAGE, "cmd": "sleep infinity", "memory": memory,
            "network-mode": "none", "exec": [exec] })
    };
    let mut nodes = json!({
        "moving": node(host, "512MiB", "ip address add 10.7.0.1/24 dev eth1"),
        "neighbour": node("local", "64MiB", "ip address add 10.7.0.2/24 dev eth1"),
    });
    if let Some(bytes) = full {
        nodes["full"] = node("h2", &bytes.to_string(), "true");
    }
    json!({
        "name": "moves",
        "settings": { "provider": "docker", "backend": "linux-bridge" },
        "mgmt": { "skip-when-unused": true },
        "topology": { "nodes": nodes, "links": [{ "endpoints": ["moving:eth1", "neighbour:eth1"] }] },
    })
    .to_string()
}

fn a_container_moves_when_it_fits() {
    let sandbox = Sandbox::new(User::Root);
    let hosts = Hosts::bridges(&sandbox);
    let here = ContainerDaemon::start_in(Kind::Docker, sandbox.network());
    let there = ContainerDaemon::start_in(Kind::Docker, hosts.other.clone());
    let mut config: Value = serde_json::from_str(&hosts.config).unwrap();
    config["images"] = json!([{ "image": "*", "root": "host" }]);
    config["plugins"]["docker"] = json!({ "endpoint": here.endpoint() });
    config["hosts"]["h2"]["plugins"]["docker"] = json!({ "endpoint": there.endpoint() });
    for daemon in [&here, &there] {
        daemon.import_busybox(IMAGE);
    }
    let config = sandbox.write("config.yaml", &config.to_string()).display().to_string();
    let file = |text: &str| sandbox.write("moves.clab.yml", text).display().to_string();
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.as_str())]);

    let total: u64 = there.run(&["info", "--format", "{{.MemTotal}}"]).parse().unwrap();
    let left = 256 << 20;
    sandbox.ok(&["deploy", "-t", &file(&lab("local", Some(total - left)))]);
    let reached = || {
        until_up(&sandbox);
        let ping = ["exec", "neighbour", "--", "ping", "-c", "1", "-W", "2", "10.7.0.1"];
        eventually("the neighbour reaches it", LONG, || sandbox.run(&ping).status.success().then_some(()));
    };
    reached();
    let of = |daemon: &ContainerDaemon, name: &str| {
        let format = "{{.ID}} {{.Names}} {{.Status}}";
        let listed = daemon.run(&["ps", "--no-trunc", "--format", format]);
        let is_it = |line: &&str| line.contains(&format!("clab-moves-{name}.")) && !line.contains(".holder");
        listed.lines().find(is_it).and_then(|line| line.split(' ').next()).map(str::to_owned)
    };
    let neighbour = of(&here, "neighbour");
    let before = of(&here, "moving").unwrap();

    // It does not fit: the old one goes on running, and the reason has the numbers.
    sandbox.ok(&["apply", "--no-wait", "-t", &file(&lab("h2", Some(total - left)))]);
    let explain = || format!("the node says why it does not move: {:#}", sandbox.lab());
    eventually_or(LONG, explain, || {
        let said = node(&sandbox, "moving").to_string();
        said.contains("Insufficient resources on h2: requires 512 MB, 256 MB available").then_some(())
    });
    assert_eq!((of(&here, "moving"), of(&there, "moving")), (Some(before), None));
    reached();

    // Somebody makes room, and it moves by itself. Whoever looks there first and then here never sees both.
    sandbox.ok(&["apply", "--no-wait", "-t", &file(&lab("h2", None))]);
    eventually_or(
        LONG,
        || format!("it moves: {:#}", sandbox.lab()),
        || {
            let (new, old) = (of(&there, "moving"), of(&here, "moving"));
            assert!(new.is_none() || old.is_none(), "both live: {new:?} and {old:?}");
            new
        },
    );
    until_up(&sandbox);
    // The neighbour's end leads through a tunnel now, and is another interface.
    sandbox.ok(&["exec", "neighbour", "--", "ip", "address", "add", "10.7.0.2/24", "dev", "eth1"]);
    reached();
    assert_eq!(of(&here, "neighbour"), neighbour, "the neighbour was touched");

    sandbox.ok(&["destroy", "--all"]);
    for daemon in [&here, &there] {
        assert_eq!(daemon.run(&["ps", "--all", "--quiet"]), "", "containers are left");
    }
    assert_eq!(serve.end(Signal::SIGTERM), Some(0), "{}", sandbox.log());
    drop((here, there));
    hosts.assert_clean(&sandbox);
}
