//! Labs with virtual machines, on a libvirt of the test's own, beside nodes in bare namespaces. They need a `lifecycle` that
//! was built with the feature `libvirt`.
#![allow(clippy::unwrap_used)]

use libtest_mimic::Arguments;
use lifecycle_linux::testing::guest;
use lifecycle_linux::testing::libvirt::LibvirtDaemon;
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{node, until_up};
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

/// A machine whose init gives its card an address, and a bare namespace.
const LAB: &str = r#"
name: machines
settings: {backend: linux-bridge}
topology:
  defaults: {kind: linux}
  nodes:
    vm:
      provider: libvirt
      image: guest
      cmd: quiet ip=10.9.0.1/24
    ns:
      provider: netns
      network-mode: none
      exec: [ip address add 10.9.0.2/24 dev eth1]
  links:
    - {type: veth, mtu: 1500, endpoints: [{node: vm, interface: eth1}, {node: ns, interface: eth1}]}
"#;

fn main() {
    let needs = [Need::Root, Need::Libvirt];
    let trials = vec![trial("root::libvirt::mixed_lab", &needs, a_mixed_lab)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

struct Bench<'a> {
    sandbox: &'a Sandbox,
    daemon: LibvirtDaemon,
    serve: Running<'a>,
}

impl<'a> Bench<'a> {
    fn deploy(sandbox: &'a Sandbox) -> Self {
        let daemon = LibvirtDaemon::start_in(sandbox.network());
        let directory = daemon.directory().display();
        guest::make(&daemon.directory().join("images/guest"));
        let settings = format!(
            "images: [{{image: '*', root: host}}]\nplugins:\n  libvirt: {{uri: '{}', directory: {directory}/vms, images: \
             [{directory}/images], acceleration: qemu, memory_mb: 96}}\n",
            daemon.uri()
        );
        let config = sandbox.write("config.yaml", &settings);
        sandbox.write("machines.clab.yml", LAB);
        let serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
        sandbox.ok(&["deploy", "-t", "machines.clab.yml"]);
        let bench = Self { sandbox, daemon, serve };
        bench.they_reach_each_other("after the deployment");
        bench
    }

    fn they_reach_each_other(&self, when: &str) {
        until_up(self.sandbox);
        let explain = || {
            let log = self.sandbox.run(&["logs", "vm", "--tail", "20"]);
            format!("{when} ns reaches vm: {}\n{}", String::from_utf8_lossy(&log.stdout), self.sandbox.log())
        };
        eventually_or(LONG, explain, || {
            // What a node sets on an end of a link is gone when the link is built anew; else it is there.
            self.sandbox.run(&["exec", "ns", "--", "ip", "address", "add", "10.9.0.2/24", "dev", "eth1"]);
            let ping = self.sandbox.run(&["exec", "ns", "--", "ping", "-c", "1", "-W", "1", "10.9.0.1"]);
            ping.status.success().then_some(())
        });
    }

    fn domain(&self) -> String {
        self.daemon.virsh(&["list", "--all", "--name"]).trim().to_owned()
    }

    /// The number of the machine's run, which no two runs share.
    fn run(&self) -> String {
        self.daemon.try_virsh(&["domid", &self.domain()]).unwrap_or_default()
    }

    fn runs_anew(&self, before: &str, when: &str) {
        eventually(when, LONG, || {
            let now = self.run();
            (!now.is_empty() && now != "-" && now != before).then_some(())
        });
        self.they_reach_each_other(when);
    }
}

fn a_mixed_lab() {
    let sandbox = Sandbox::new(User::Root);
    let mut bench = Bench::deploy(&sandbox);

    // The other end's node is restarted, and the machine is not touched.
    let run = bench.run();
    sandbox.ok(&["restart", "ns"]);
    bench.they_reach_each_other("after a restart of the other node");
    assert_eq!(bench.run(), run);

    // The machine is powered off by hand, and comes back with its link.
    bench.daemon.virsh(&["destroy", &bench.domain()]);
    bench.runs_anew(&run, "after it was powered off by hand");

    // Its tap is deleted by hand: the link is made again, and the machine is plugged in while it runs.
    let run = bench.run();
    let taps = bench.daemon.ip(&["-o", "link", "show", "type", "tun"]).unwrap();
    let tap = taps.split(": ").nth(1).unwrap().to_owned();
    bench.daemon.ip(&["link", "delete", &tap]).unwrap();
    bench.they_reach_each_other("after its tap was deleted");
    assert_eq!(bench.run(), run, "the machine was restarted");

    // The daemon is killed: the node is stale, the machine runs on, and is found again.
    bench.daemon.kill();
    eventually("it is stale, not stopped", LONG, || {
        let vm = node(&sandbox, "vm");
        (!vm["stale_since"].is_null() && vm["actual_state"] == "running").then_some(())
    });
    bench.daemon.up();
    eventually("it is no longer stale", LONG, || node(&sandbox, "vm")["stale_since"].is_null().then_some(()));
    bench.they_reach_each_other("after the daemon came back");
    assert_eq!(bench.run(), run, "the machine was restarted");

    sandbox.ok(&["stop", "vm"]);
    eventually("the machine is stopped and its link is down", LONG, || {
        let down = sandbox.lab()["links"][0]["actual_state"] == "down";
        (node(&sandbox, "vm")["actual_state"] == "stopped" && down).then_some(())
    });
    sandbox.ok(&["start", "vm"]);
    bench.they_reach_each_other("after a stop and a start");

    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(bench.domain(), "", "domains are left");
    bench.serve.end(Signal::SIGTERM);
    drop(bench.daemon);
    sandbox.assert_clean();
}
