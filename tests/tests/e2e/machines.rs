//! Labs that mix a virtual machine, a container and a bare namespace, on a libvirt and a Docker of each test's own. They need
//! a `lifecycle` that was built with the feature `libvirt`.

use libtest_mimic::Trial;
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind};
use lifecycle_linux::testing::guest;
use lifecycle_linux::testing::libvirt::LibvirtDaemon;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{fingerprint, init, node, until_up};
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const IMAGE: &str = "lifecycle-test:1";

/// The machine's kind, which looks for its configuration on a medium.
const KIND: &str = "
vendor: Tests
kinds:
  - kind: test_vm
    machine: { chipset: i440fx, serial-ports: 2 }
    startup-config: { method: METHOD, path: startup.cfg }
    save: { command: [cat, /media/startup.cfg], file: vm.cfg }
";
const STARTUP_CONFIG: &str = "hostname vm\n";

/// Each is linked to each. The machine's init gives its cards their addresses. It shares the management network with the
/// bare namespace; containers have one of their own.
const LAB: &str = r#"
name: machines
topology:
  defaults: {kind: linux}
  nodes:
    vm:
      kind: test_vm
      provider: libvirt
      image: guest
      startup-config: vm.cfg
      exec: [media]
      healthcheck: {test: [CMD, test, -e, /media/startup.cfg], interval: 1, timeout: 20, retries: 1}
      cmd: SOON dhcp ip=10.9.1.1/24 ip=10.9.2.1/24
      mgmt-ipv4: 172.20.20.77
    ct:
      provider: docker
      image: lifecycle-test:1
      network-mode: none
      cmd: sh -c 'trap exit TERM; while sleep 0.2; do :; done'
      exec: [ip address add 10.9.1.2/24 dev eth1, ip address add 10.9.3.2/24 dev eth2]
    ns:
      provider: netns
      exec: [ip address add 10.9.2.3/24 dev eth1, ip address add 10.9.3.3/24 dev eth2]
  links:
    - {type: veth, mtu: 1500, endpoints: [{node: vm, interface: eth1}, {node: ct, interface: eth1}]}
    - {type: veth, mtu: 1500, rate: 1Gbit, endpoints: [{node: vm, interface: eth2}, {node: ns, interface: eth1}]}
    - {type: veth, mtu: 1500, endpoints: [{node: ct, interface: eth2}, {node: ns, interface: eth2}]}
"#;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = [Need::Root, Need::Docker, Need::Libvirt];
    let on_switch = [&needs[..], &[Need::OpenVswitch]].concat();
    vec![
        trial("root::machines::linux_bridge", &needs, || a_mixed_lab("linux-bridge")),
        trial("root::machines::ovs", &on_switch, || a_mixed_lab("ovs")),
    ]
}

/// A lab that runs, with its own daemons.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    switch: Option<OpenVswitch>,
    docker: ContainerDaemon,
    libvirt: LibvirtDaemon,
    config: String,
    serve: Running<'a>,
}

impl<'a> Bench<'a> {
    fn deploy(sandbox: &'a Sandbox, backend: &str) -> Self {
        let switch = (backend == "ovs").then(|| OpenVswitch::start_in(sandbox.network()));
        let database = switch.as_ref().map_or_else(|| "unix:/nonexistent/db.sock".to_owned(), OpenVswitch::database);
        let docker = ContainerDaemon::start_in(Kind::Docker, sandbox.network());
        docker.import_busybox(IMAGE);
        let libvirt = LibvirtDaemon::start_in(sandbox.network());
        let directory = libvirt.directory().display();
        guest::make(&libvirt.directory().join("images/guest"));
        let settings = format!(
            "images: [{{image: '*', root: host}}]\nvendors: [vendors]\nplugins:\n  docker: {{endpoint: '{}'}}\n  libvirt: {{uri: '{}', directory: \
             {directory}/vms, images: [{directory}/images], acceleration: qemu, memory_mb: 96}}\n  ovs: {{database: \
             '{database}', datapath: netdev}}\n",
            docker.endpoint(),
            libvirt.uri()
        );
        let config = sandbox.write("config.yaml", &settings).display().to_string();
        let medium = if backend == "ovs" { "config-disk" } else { "iso" };
        sandbox.write("vendors/tests.yml", &KIND.replace("METHOD", medium));
        sandbox.write("vm.cfg", STARTUP_CONFIG);
        sandbox.write("machines.clab.yml", &LAB.replacen("SOON", guest::SOON, 1));
        let serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", &config)]);
        sandbox.ok(&["deploy", "--backend", backend, "-t", "machines.clab.yml"]);
        let bench = Self { sandbox, switch, docker, libvirt, config, serve };
        bench.all_reach_each_other("after the deployment");
        for link in sandbox.lab()["links"].as_array().unwrap() {
            assert_eq!(link["backend"], backend, "{link:#}");
        }
        bench
    }

    fn all_reach_each_other(&self, when: &str) {
        until_up(self.sandbox);
        // The last one is on the management network, found by its name.
        let ways = [("ct", "10.9.1.1"), ("ns", "10.9.2.1"), ("ct", "10.9.3.3"), ("ns", "vm")];
        let answers = |from: &str, address: &str| {
            self.sandbox.run(&["exec", from, "--", "ping", "-c", "1", "-W", "1", address]).status.success()
        };
        let explain = || {
            let said = ways.map(|(from, address)| format!("{address} answers {from}: {}", answers(from, address)));
            let log = self.sandbox.run(&["logs", "vm", "--tail", "20"]);
            let (log, controller) = (String::from_utf8_lossy(&log.stdout), self.sandbox.log());
            format!("all reach each other {when}: {said:?}\n{log}\n{controller}")
        };
        eventually_or(LONG, explain, || ways.iter().all(|(from, address)| answers(from, address)).then_some(()));
        // Libvirt takes away what slows a tap down, each time that a machine begins to hold it.
        eventually("the machine's second link has its rate", LONG, || self.taps().contains("qdisc tbf").then_some(()));
    }

    /// Commands are run in the machine: those of the lab file after its start, which found its configuration, its health
    /// check, those of people, and the one that tells its configuration.
    fn commands_are_run(&self) {
        let explain = || format!("the machine is healthy: {:#}", node(self.sandbox, "vm"));
        eventually_or(LONG, explain, || (node(self.sandbox, "vm")["is_ready"] == true).then_some(()));
        assert_eq!(self.sandbox.ok(&["exec", "vm", "--", "cat", "/media/startup.cfg"]), STARTUP_CONFIG);
        assert_eq!(self.sandbox.run(&["exec", "vm", "--", "sh", "-c", "exit 3"]).status.code(), Some(3));
        self.sandbox.ok(&["save", "vm"]);
        let saved = std::fs::read_to_string(self.sandbox.labs().join("clab-machines/vm/vm.cfg"));
        assert_eq!(saved.unwrap(), STARTUP_CONFIG);
    }

    fn taps(&self) -> String {
        self.libvirt.ip(&["-o", "link", "show", "type", "tun"]).unwrap()
    }

    fn domain(&self) -> String {
        self.libvirt.virsh(&["list", "--all", "--name"]).trim().to_owned()
    }

    /// The number of the machine's run, which no two runs share.
    fn run(&self) -> String {
        self.libvirt.try_virsh(&["domid", &self.domain()]).unwrap_or_default()
    }

    fn container(&self) -> String {
        let names = self.docker.run(&["ps", "--all", "--format", "{{.Names}}"]);
        names.lines().find(|name| !name.ends_with(".holder")).unwrap_or_default().to_owned()
    }

    /// What must not change while nothing is done to the container: its run, and its interfaces.
    fn container_as_it_is(&self) -> String {
        let run = self.docker.run(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &self.container()]);
        let index = |name| self.read("ct", &format!("/sys/class/net/{name}/ifindex"));
        format!("{run} {} {}", index("eth1"), index("eth2"))
    }

    fn read(&self, name: &str, path: &str) -> String {
        self.sandbox.ok(&["exec", name, "--", "cat", path]).trim().to_owned()
    }

    fn runs_anew(&self, before: &str, when: &str) {
        eventually(when, LONG, || {
            let now = self.run();
            (!now.is_empty() && now != "-" && now != before).then_some(())
        });
        self.all_reach_each_other(when);
    }
}

fn a_mixed_lab(backend: &str) {
    let sandbox = Sandbox::new(User::Root);
    let mut bench = Bench::deploy(&sandbox, backend);
    bench.commands_are_run();
    let untouched = |bench: &Bench<'_>| (bench.container_as_it_is(), fingerprint(&sandbox, "ns"));

    // The address that is fixed for it is shown, and is not given to anybody else.
    let shown = ["vm", "ns"].map(|name| node(&sandbox, name)["management_ips"]["ipv4"].clone());
    assert_eq!(shown[0], "172.20.20.77");
    assert!(shown[1].is_string() && shown[1] != shown[0], "{shown:?}");

    // A machine may leave checksums to whoever passes on what it sends.
    eventually("the machine sends back what it is sent", LONG, || {
        let said = sandbox.run(&["exec", "ct", "--", "sh", "-c", "echo heard | nc -w 2 10.9.1.1 7"]);
        (said.stdout == b"heard\n").then_some(())
    });

    // The machine stops: those at its links see no carrier, and each other as before. It starts: all is as it was.
    let before = untouched(&bench);
    bench.libvirt.virsh(&["undefine", &bench.domain()]);
    sandbox.ok(&["stop", "vm"]);
    let carrier = |name: &str, of: &str| bench.read(name, &format!("/sys/class/net/{of}/carrier"));
    eventually("the machine is stopped and its links are without carrier", LONG, || {
        let stopped = node(&sandbox, "vm")["actual_state"] == "stopped";
        (stopped && carrier("ct", "eth1") == "0" && carrier("ns", "eth1") == "0").then_some(())
    });
    assert_eq!((carrier("ct", "eth2"), carrier("ns", "eth2")), ("1".to_owned(), "1".to_owned()));
    sandbox.ok(&["start", "vm"]);
    bench.all_reach_each_other("after a stop and a start of the machine");
    assert_eq!(untouched(&bench), before, "somebody else was touched");

    // It is ended by hand, or its process is killed, and nobody helps.
    let run = bench.run();
    if backend == "ovs" {
        bench.libvirt.virsh(&["destroy", &bench.domain()]);
    } else {
        let files = bench.libvirt.directory().join("run/libvirt/qemu").join(format!("{}.pid", bench.domain()));
        let pid = std::fs::read_to_string(files).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    bench.runs_anew(&run, "after the machine was ended");
    assert_eq!(untouched(&bench), before, "somebody else was touched");

    // The others are restarted and killed, and the machine runs on. It sees that the container is gone, and back.
    let run = bench.run();
    sandbox.ok(&["stop", "ct"]);
    let says = |words: &str| sandbox.ok(&["logs", "vm", "--tail", "100"]).contains(words).then_some(());
    eventually("the machine sees no carrier", LONG, || says("eth1 carrier 0"));
    sandbox.ok(&["start", "ct"]);
    sandbox.ok(&["restart", "ns"]);
    bench.all_reach_each_other("after the others were restarted");
    let before = bench.container_as_it_is();
    bench.docker.run(&["kill", &bench.container()]);
    kill(Pid::from_raw(init(&sandbox, "ns")), Signal::SIGKILL).unwrap();
    eventually("the container runs anew", LONG, || {
        let started = bench.docker.run(&["inspect", "--format", "{{.State.Running}}", &bench.container()]);
        (started == "true" && bench.container_as_it_is() != before).then_some(())
    });
    bench.all_reach_each_other("after the others were killed");

    // A link's tap is deleted by hand: the link is made again, and the machine is plugged in while it runs.
    let taps = bench.taps();
    let tap = taps.split(": ").find(|word| word.starts_with("lt")).unwrap().to_owned();
    bench.libvirt.ip(&["link", "delete", &tap]).unwrap();
    bench.all_reach_each_other("after a tap was deleted");

    // The controller and libvirt's daemon are killed. The next ones find all as it was.
    let before = untouched(&bench);
    bench.serve.end(Signal::SIGKILL);
    bench.libvirt.kill();
    bench.serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", &bench.config)]);
    eventually("the machine is stale, not stopped", LONG, || {
        let vm = node(&sandbox, "vm");
        (!vm["stale_since"].is_null() && vm["actual_state"] == "running").then_some(())
    });
    bench.libvirt.up();
    eventually("it is no longer stale", LONG, || node(&sandbox, "vm")["stale_since"].is_null().then_some(()));
    bench.all_reach_each_other("after the daemons came back");
    assert_eq!((untouched(&bench), bench.run()), (before, run), "somebody was restarted");
    is_cabled_anew(&bench, backend);

    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(bench.domain(), "", "domains are left");
    assert_eq!(bench.docker.run(&["ps", "--all", "--quiet"]), "", "containers are left");
    if let Some(switch) = &bench.switch {
        assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    }
    bench.serve.end(Signal::SIGTERM);
    drop((bench.docker, bench.libvirt, bench.switch));
    sandbox.assert_clean();
}

/// The machine's links exchange what is at their far ends, and the machine keeps its cards, with their addresses.
fn is_cabled_anew(bench: &Bench<'_>, backend: &str) {
    let sandbox = bench.sandbox;
    let (ct, ns) = ("{node: ct, interface: eth1}", "{node: ns, interface: eth1}");
    let exchanged = LAB.replace(ct, "THERE").replace(ns, ct).replace("THERE", ns).replacen("SOON", guest::SOON, 1);
    sandbox.write("machines.clab.yml", &exchanged);
    let cards = || ["eth1", "eth2"].map(|card| bench.read("vm", &format!("/sys/class/net/{card}/ifindex")));
    let before = (cards(), bench.run());
    let apply = ["apply", "--backend", backend, "-t", "machines.clab.yml"];
    let plan = sandbox.ok(&[&apply[..], &["--dry-run"]].concat());
    assert!(plan.contains("interface vm:eth1, from vm:eth1 -- ct:eth1 to vm:eth1 -- ns:eth1: in place"), "{plan}");
    sandbox.ok(&apply);
    until_up(sandbox);
    assert_eq!((cards(), bench.run()), before, "the machine's cards are others");
    let address = ["exec", "ct", "--", "ip", "address", "add", "10.9.2.2/24", "dev", "eth1"];
    sandbox.ok(&address);
    let ping = ["exec", "ct", "--", "ping", "-c", "1", "-W", "1", "10.9.2.1"];
    eventually("the machine answers its new neighbour", LONG, || sandbox.run(&ping).status.success().then_some(()));
}
