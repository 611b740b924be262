//! A lab of three routers and three hosts that nobody here wrote, as it is, with FRR as Debian packages it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind, lay_out_busybox};
use lifecycle_tests::census::eventually_or;
use lifecycle_tests::frr;
use lifecycle_tests::nodes::until_up;
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, fixtures, trial};
use nix::sys::signal::Signal;
use serde_json::Value;

const FOLDER: &str = "lab-examples/frr01";
const FILE: &str = "frr01.clab.yml";
/// The images that the lab names.
const IMAGES: [&str; 2] = ["quay.io/frrouting/frr:10.5.1", "wbitt/network-multitool:3.22.2"];
/// OSPF waits 40 seconds before it chooses who speaks for a network, and as long for a neighbour that went silent.
const ROUTING: Duration = Duration::from_secs(240);

pub(crate) fn trials() -> Vec<Trial> {
    let needs = [Need::Root, Need::Fixtures, Need::Frr];
    vec![
        trial("root::frr01::netns", &needs, on_netns),
        trial("root::frr01::docker", &[&needs[..], &[Need::Docker]].concat(), on_docker),
    ]
}

fn on_netns() {
    let sandbox = Sandbox::new(User::Root);
    let [router, host] = IMAGES;
    let start = serde_json::to_string(frr::START).unwrap();
    run(
        &sandbox,
        &format!(
            "images:\n  - {{image: '{router}', root: host, privileged: true, cmd: [sh, -c, {start}]}}\n  \
             - {{image: '{host}', root: host}}\n"
        ),
    );
    sandbox.assert_clean();
}

fn on_docker() {
    let sandbox = Sandbox::new(User::Root);
    let daemon = ContainerDaemon::start_in(Kind::Docker, sandbox.network());
    let folder = tempfile::tempdir().unwrap();
    let [router, host] = ["router", "host"].map(|name| folder.path().join(name));
    fs::create_dir(&router).unwrap();
    fs::create_dir(&host).unwrap();
    frr::lay_out(&router);
    lay_out_busybox(&host);
    daemon.import(IMAGES[0], &router, &serde_json::to_string(&["sh", "-c", frr::START]).unwrap());
    daemon.import(IMAGES[1], &host, r#"["sleep", "infinity"]"#);
    let endpoint = daemon.endpoint();
    run(
        &sandbox,
        &format!("provider: docker\nplugins: {{docker: {{endpoint: '{endpoint}', capabilities: [SYS_ADMIN]}}}}\n"),
    );
    assert_eq!(daemon.run(&["ps", "--all", "--quiet"]), "", "containers are left");
    drop(daemon);
    sandbox.assert_clean();
}

/// The lab from its deployment to its end.
fn run(sandbox: &Sandbox, settings: &str) {
    copy(&fixtures().unwrap().join(FOLDER), &sandbox.labs());
    let config = sandbox.write("config.yaml", settings);
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
    sandbox.ok(&["deploy", "-t", FILE]);
    until_up(sandbox);
    until_routed(sandbox, "after the deployment");

    // The adjacency between those that are left alone lives on, over a link that nobody touches.
    let others = || ["router1", "router2"].map(|router| changes(sandbox, router, "eth1"));
    let before = others();
    sandbox.ok(&["restart", "router3"]);
    until_routed(sandbox, "after a restart of router3");
    assert_eq!(others(), before, "what router1 and router2 are to each other has changed");

    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(serve.end(Signal::SIGTERM), Some(0), "{}", sandbox.log());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Waits until every router has both others as full neighbours, and the first host reaches the others through them.
fn until_routed(sandbox: &Sandbox, when: &str) {
    let routers = ["router1", "router2", "router3"];
    let shown = |router: &&str| {
        let output =
            sandbox.run(&["exec", router, "--", "vtysh", "-c", "show ip ospf neighbor", "-c", "show ip route"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let reaches =
        |address: &str| sandbox.run(&["exec", "PC1", "--", "ping", "-c", "1", "-W", "1", address]).status.success();
    let explain =
        || format!("{when} all is routed: {}\n{}", routers.iter().map(shown).collect::<String>(), sandbox.log());
    eventually_or(ROUTING, explain, || {
        let full = |router: &&str| shown(router).matches("Full/").count() == 2;
        (routers.iter().all(full) && reaches("192.168.12.2") && reaches("192.168.13.2")).then_some(())
    });
}

/// How often what a router thinks of its neighbour at an interface has changed. What neighbours call themselves depends on
/// which of their addresses was there first.
fn changes(sandbox: &Sandbox, router: &str, interface: &str) -> u64 {
    let said = || {
        let output = sandbox.run(&["exec", router, "--", "vtysh", "-c", "show ip ospf neighbor detail json"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let read = || {
        // There may be warnings around what was asked for.
        let text = said();
        let shown: Value = serde_json::from_str(text.get(text.find('{')?..=text.rfind('}')?)?).ok()?;
        let mut neighbours = shown["neighbors"].as_object()?.values().map(|list| &list[0]);
        neighbours.find(|it| it["ifaceName"] == interface)?["stateChangeCounter"].as_u64()
    };
    eventually_or(LONG, || format!("{router} tells of {interface}: {}", said()), read)
}
