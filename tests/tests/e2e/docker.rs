//! Labs whose nodes are containers, on a Docker of each test's own, beside nodes in bare namespaces.

use libtest_mimic::Trial;
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind};
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{is_up, node, until_up};
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

const IMAGE: &str = "lifecycle-test:1";

/// Two containers and a bare namespace in a row, on two network backends.
const LAB: &str = r#"
name: mixed
settings: {provider: docker}
topology:
  defaults: {kind: linux}
  nodes:
    a:
      image: lifecycle-test:1
      cmd: sleep infinity
      exec: [ip address add 10.9.0.1/24 dev eth1]
    b:
      image: lifecycle-test:1
      cmd: sleep infinity
      exec: [ip address add 10.9.0.2/24 dev eth1, ip address add 10.9.1.2/24 dev eth2]
    c:
      provider: netns
      network-mode: none
      exec: [ip address add 10.9.1.3/24 dev eth1]
  links:
    - {type: veth, mtu: 1500, endpoints: [{node: a, interface: eth1}, {node: b, interface: eth1}]}
    - {type: veth, mtu: 1500, backend: linux-bridge, endpoints: [{node: b, interface: eth2}, {node: c, interface: eth1}]}
"#;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = [Need::Root, Need::Docker];
    vec![
        trial("root::docker::mixed_lab", &needs, a_mixed_lab),
        trial("root::docker::by_hand", &needs, what_is_done_by_hand),
        trial("root::docker::daemon_restarted", &needs, the_daemon_is_killed_and_restarted),
    ]
}

/// A lab that runs, with its own daemon.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    daemon: ContainerDaemon,
    serve: Running<'a>,
}

impl<'a> Bench<'a> {
    fn deploy(sandbox: &'a Sandbox) -> Self {
        let daemon = ContainerDaemon::start_in(Kind::Docker, sandbox.network());
        daemon.import_busybox(IMAGE);
        let settings = format!(
            "images: [{{image: '*', root: host}}]\nplugins: {{docker: {{endpoint: '{}'}}}}\n",
            daemon.endpoint()
        );
        let config = sandbox.write("config.yaml", &settings);
        sandbox.write("mixed.clab.yml", LAB);
        let serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
        sandbox.ok(&["deploy", "-t", "mixed.clab.yml"]);
        let bench = Self { sandbox, daemon, serve };
        bench.all_reach_each_other("after the deployment");
        bench
    }

    fn ping(&self, from: &str, address: &str) -> bool {
        self.sandbox.run(&["exec", from, "--", "ping", "-c", "1", "-W", "1", address]).status.success()
    }

    fn all_reach_each_other(&self, when: &str) {
        until_up(self.sandbox);
        let said = |name: &str| {
            let output = self.sandbox.run(&["exec", name, "--", "ip", "address"]);
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        };
        let explain = || format!("{when} a reaches b and c reaches b: {:#}", ["a", "b", "c"].map(said).join("\n"));
        eventually_or(LONG, explain, || {
            (self.ping("a", "10.9.0.2") && self.ping("c", "10.9.1.2") && is_up(&self.sandbox.lab())).then_some(())
        });
    }

    /// Sets addresses again. What a node sets on an end of a link is gone when the link is built anew for the other one.
    fn set_addresses(&self) {
        for (name, address, interface) in [
            ("a", "10.9.0.1/24", "eth1"),
            ("b", "10.9.0.2/24", "eth1"),
            ("b", "10.9.1.2/24", "eth2"),
            ("c", "10.9.1.3/24", "eth1"),
        ] {
            // It may be there.
            self.sandbox.run(&["exec", name, "--", "ip", "address", "add", address, "dev", interface]);
        }
    }

    /// The name of a node's container.
    fn container(&self, name: &str) -> String {
        let names = self.daemon.run(&["ps", "--all", "--format", "{{.Names}}"]);
        let is_it = |line: &&str| line.starts_with(&format!("clab-mixed-{name}.")) && !line.ends_with(".holder");
        names.lines().find(is_it).unwrap_or_else(|| panic!("no {name} among {names}")).to_owned()
    }

    /// The index of an interface in a node.
    fn index(&self, name: &str, interface: &str) -> String {
        self.sandbox.ok(&["exec", name, "--", "cat", &format!("/sys/class/net/{interface}/ifindex")])
    }

    fn finish(mut self) {
        self.sandbox.ok(&["destroy", "--all"]);
        assert_eq!(self.daemon.run(&["ps", "--all", "--quiet"]), "", "containers are left");
        assert_eq!(
            self.daemon.run(&["network", "ls", "--quiet", "--filter", "driver=bridge"]),
            "",
            "networks are left"
        );
        self.serve.end(Signal::SIGTERM);
        drop(self.daemon);
        self.sandbox.assert_clean();
    }
}

fn a_mixed_lab() {
    let sandbox = Sandbox::new(User::Root);
    let bench = Bench::deploy(&sandbox);
    // Names of nodes on the management network are found by their short and their long ones.
    for name in ["b", "clab-mixed-b", "b.mixed.io"] {
        assert!(bench.ping("a", name), "{name} is not found");
    }
    let lab = sandbox.lab();
    let of = |name: &str| node(&sandbox, name);
    assert!(of("a")["management_ips"].to_string().contains("172.20.20."), "{lab:#}");

    // One node is restarted: no other is touched, and the far end of its link stays the interface that it was.
    let far = bench.index("b", "eth1");
    sandbox.ok(&["restart", "a"]);
    bench.all_reach_each_other("after a restart");
    assert_eq!(bench.index("b", "eth1"), far, "b's end was touched");
    sandbox.ok(&["stop", "b"]);
    eventually("b is stopped and its links are down", LONG, || {
        let lab = sandbox.lab();
        let down = lab["links"].as_array()?.iter().all(|link| link["actual_state"] == "down");
        (node(&sandbox, "b")["actual_state"] == "stopped" && down).then_some(())
    });
    sandbox.ok(&["start", "b"]);
    bench.all_reach_each_other("after a stop and a start");
    bench.finish();
}

fn what_is_done_by_hand() {
    let sandbox = Sandbox::new(User::Root);
    let bench = Bench::deploy(&sandbox);
    let started =
        |name: &str| bench.daemon.run(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &bench.container(name)]);
    let runs_anew = |name: &str, before: &str| {
        eventually(&format!("{name} runs anew"), LONG, || {
            let names = bench.daemon.run(&["ps", "--format", "{{.Names}}"]);
            let runs = names
                .lines()
                .any(|line| line.starts_with(&format!("clab-mixed-{name}.")) && !line.ends_with(".holder"));
            (runs && started(name) != before).then_some(())
        });
        bench.all_reach_each_other("after that");
    };

    let (before, eth1) = (started("a"), bench.index("a", "eth1"));
    bench.daemon.run(&["restart", "--time", "0", &bench.container("a")]);
    runs_anew("a", &before);
    assert_eq!(bench.index("a", "eth1"), eth1, "the interface outlived the process");

    let before = started("b");
    bench.daemon.run(&["kill", &bench.container("b")]);
    runs_anew("b", &before);

    // What belongs to a node is taken away, and it is made anew.
    let before = started("a");
    bench.daemon.run(&["rm", "--force", &bench.container("a")]);
    eventually("a is made anew", LONG, || {
        let names = bench.daemon.run(&["ps", "--format", "{{.Names}}"]);
        names.lines().any(|line| line.starts_with("clab-mixed-a.") && !line.ends_with(".holder")).then_some(())
    });
    until_up(&sandbox);
    bench.set_addresses();
    runs_anew("a", &before);
    let before = started("b");
    bench.daemon.run(&["rm", "--force", &format!("{}.holder", bench.container("b"))]);
    eventually("b is made anew with another holder", LONG, || {
        let names = bench.daemon.run(&["ps", "--format", "{{.Names}}"]);
        let mut of_b = names.lines().filter(|line| line.starts_with("clab-mixed-b."));
        (of_b.clone().count() == 2 && of_b.any(|line| line.ends_with(".holder"))).then_some(())
    });
    eventually("the lab is up with it", LONG, || (started("b") != before && is_up(&sandbox.lab())).then_some(()));
    bench.set_addresses();
    runs_anew("b", &before);

    // A frozen node runs, and nobody thaws it.
    bench.daemon.run(&["pause", &bench.container("a")]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(node(&sandbox, "a")["actual_state"], "running");
    bench.daemon.run(&["unpause", &bench.container("a")]);
    bench.all_reach_each_other("after a pause");
    bench.finish();
}

fn the_daemon_is_killed_and_restarted() {
    let sandbox = Sandbox::new(User::Root);
    let mut bench = Bench::deploy(&sandbox);
    bench.daemon.run(&["run", "--detach", "--name", "stranger", "--network", "none", IMAGE, "sleep", "infinity"]);
    bench.daemon.kill();
    eventually("its nodes are stale, not stopped", LONG, || {
        let a = node(&sandbox, "a");
        (!a["stale_since"].is_null() && a["actual_state"] == "running").then_some(())
    });
    assert!(node(&sandbox, "c")["stale_since"].is_null(), "the other provider's node is not");
    bench.daemon.up();
    eventually("they are no longer stale", LONG, || node(&sandbox, "a")["stale_since"].is_null().then_some(()));
    // It has ended them all: they are made anew.
    until_up(&sandbox);
    bench.set_addresses();
    bench.all_reach_each_other("after the daemon came back");
    let strangers = bench.daemon.run(&["ps", "--all", "--format", "{{.Names}}", "--filter", "name=stranger"]);
    assert_eq!(strangers, "stranger", "a foreign container was removed");
    bench.daemon.run(&["rm", "--force", "stranger"]);
    bench.finish();
}
