//! The same where nodes are containers, on one Docker for all of these tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Trial;
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind};
use lifecycle_tests::census::eventually_or;
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use lifecycle_tests::trial::Need;
use nix::sys::signal::Signal;

use super::CONFIG;
use super::aftermath::{self, finish_destroying, lab, start_again, until_dead_at, until_up};

const IMAGE: &str = "lifecycle-test:1";

/// The lab that nobody works on.
const CALM: &str = "
name: calmN
settings: { provider: docker }
topology:
  nodes:
    c: { kind: linux, image: 'lifecycle-test:1', cmd: sleep infinity, network-mode: none }
";

/// The lab that is worked on, with a management network of its own.
const BOXES: &str = r#"
name: boxesN
settings: { provider: docker }
mgmt: { network: boxesN, ipv4-subnet: 10.77.N.0/24, ipv6-subnet: 'fd77:0:0:N::/64' }
topology:
  defaults:
    kind: linux
    image: 'lifecycle-test:1'
    cmd: sh -c "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
  nodes: { a: , b: }
  links:
    - endpoints: ['a:eth1', 'b:eth1']
"#;

/// What is under way when the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Deploy,
    /// The same on a daemon that never had a holder, whose image has to be loaded.
    First,
    /// The same, and both nodes want one port: a holder is made in vain.
    Refuse,
    /// `a` is stopped.
    Stop,
    /// `a` is started again.
    Start,
    /// The process of `a` is killed.
    Kill,
    /// What holds the namespace of `a` is killed, so that it has to be made anew.
    Break,
    Destroy,
}

/// Where a controller dies, and at which passage.
const DEATHS: [(&str, u32, Work); 21] = [
    ("container-holder-loaded", 1, Work::First),
    ("container-network-made", 1, Work::Deploy),
    ("container-holder-made", 1, Work::Deploy),
    ("container-holder-started", 2, Work::Deploy),
    ("container-holder-started", 1, Work::Break),
    ("container-made", 1, Work::Deploy),
    ("container-made", 1, Work::Break),
    ("container-started", 1, Work::Deploy),
    ("container-started", 1, Work::Start),
    ("container-started", 1, Work::Kill),
    ("container-stopped", 1, Work::Stop),
    ("container-removed", 1, Work::Break),
    ("container-removed", 1, Work::Destroy),
    ("container-holder-removed", 1, Work::Refuse),
    ("container-holder-removed", 1, Work::Break),
    ("container-holder-removed", 2, Work::Destroy),
    ("container-network-removed", 1, Work::Destroy),
    ("before-create_node", 1, Work::Break),
    ("after-stop_node", 1, Work::Stop),
    ("before-destroy_node", 2, Work::Destroy),
    ("after-destroy_node", 1, Work::Destroy),
];

pub(super) fn trials() -> Vec<Trial> {
    aftermath::trials("containers", Need::Docker, &DEATHS, die)
}

static DAEMON: Mutex<Option<Arc<ContainerDaemon>>> = Mutex::new(None);

fn daemon() -> Arc<ContainerDaemon> {
    let daemon = ContainerDaemon::start(Kind::Docker);
    daemon.import_busybox(IMAGE);
    Arc::new(daemon)
}

fn shared_daemon() -> Arc<ContainerDaemon> {
    Arc::clone(DAEMON.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(daemon))
}

/// Ends the daemon, if any test needed it.
pub(super) fn end() {
    drop(DAEMON.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// A controller's way to the daemon, and what it has there.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    daemon: Arc<ContainerDaemon>,
    /// Tells what is this test's from what others have.
    number: String,
    config: String,
}

impl<'a> Bench<'a> {
    fn new(sandbox: &'a Sandbox, work: Work) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(10);
        let number = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        let daemon = if work == Work::First { daemon() } else { shared_daemon() };
        let boxes = match work {
            Work::Refuse => BOXES.replace("{ a: , b: }", "{ a: { ports: ['8077:80'] }, b: { ports: ['8077:80'] } }"),
            _ => BOXES.to_owned(),
        };
        for (name, text) in [("calm", CALM), ("boxes", &boxes)] {
            sandbox.write(&format!("{name}.clab.yml"), &text.replace('N', &number));
        }
        let images = "images: [{ image: '*', root: host }]";
        let config = format!("{images}\n{CONFIG}plugins: {{ docker: {{ endpoint: '{}' }} }}\n", daemon.endpoint());
        let config = sandbox.write("config.yaml", &config).display().to_string();
        Self { sandbox, daemon, number, config }
    }

    fn serve(&self, environment: &[(&str, &str)]) -> Running<'a> {
        self.sandbox.serve_with(&[&[("LIFECYCLE_CONFIG", self.config.as_str())], environment].concat())
    }

    fn name(&self, lab: &str) -> String {
        format!("{lab}{}", self.number)
    }

    fn boxes(&self) -> serde_json::Value {
        lab(self.sandbox, &self.name("boxes"))
    }

    /// The containers of a node by their names, each with what tells its run from any other.
    fn containers(&self, lab: &str, node: &str) -> BTreeMap<String, String> {
        let of_node = format!("name=^clab-{}-{node}", self.name(lab));
        let names = self.daemon.run(&["ps", "--all", "--filter", &of_node, "--format", "{{.Names}}"]);
        let run = |name: &str| {
            let format = "{{.Id}} {{.State.Status}} since {{.State.StartedAt}}";
            // It may just have gone.
            self.daemon.try_run(&["inspect", "--format", format, name]).unwrap_or_default()
        };
        names.lines().map(|name| (name.to_owned(), run(name))).collect()
    }

    /// The one container that holds a node's namespace.
    fn holder(&self, node: &str) -> String {
        let found = self.containers("boxes", node);
        found.into_keys().find(|name| name.ends_with(".holder")).unwrap_or_else(|| panic!("{node} has no holder"))
    }

    /// What is left of both labs on the daemon.
    fn leftovers(&self) -> String {
        let containers = ["boxes", "calm"].map(|lab| self.containers(lab, "").into_keys());
        let network = format!("name=^{}$", self.name("boxes"));
        let networks = self.daemon.run(&["network", "ls", "--filter", &network, "--format", "{{.Name}}"]);
        containers.into_iter().flatten().chain(networks.lines().map(str::to_owned)).collect::<Vec<_>>().join(" ")
    }

    /// Each node has its two containers, which run, and its interfaces, and nothing is there twice.
    fn assert_once(&self) {
        for node in ["a", "b"] {
            let found = self.containers("boxes", node);
            let runs = found.values().filter(|run| run.contains(" running ")).count();
            assert_eq!((found.len(), runs), (2, 2), "{found:?}");
            let names = self.sandbox.ok(&["exec", "--lab", &self.name("boxes"), node, "--", "ls", "/sys/class/net"]);
            assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["eth0", "eth1", "lo"], "{node}");
        }
        let nodes = self.boxes()["nodes"].as_array().unwrap().clone();
        let addresses: Vec<_> = nodes.iter().map(|node| node["management_ips"]["ipv4"].clone()).collect();
        assert!(addresses[0].is_string() && addresses[0] != addresses[1], "{addresses:?}");
    }
}

/// The controller dies at a point while it works, another one follows, and all is well.
fn die(point: &str, passage: u32, work: Work) {
    let sandbox = Sandbox::new(User::Root);
    let bench = Bench::new(&sandbox, work);
    let boxes = bench.name("boxes");
    let gate = sandbox.labs().join("now");
    let (at, when) = (format!("{point}:{passage}"), gate.display().to_string());
    let mut doomed = bench.serve(&[("LIFECYCLE_CRASH_AT", &at), ("LIFECYCLE_CRASH_WHEN", &when)]);
    let is_new = matches!(work, Work::Deploy | Work::First | Work::Refuse);
    let deploy = || sandbox.ok(&["deploy", "-t", "boxes.clab.yml"]);
    // Where nobody had a holder yet, there is nobody else.
    if work != Work::First {
        sandbox.ok(&["deploy", "-t", "calm.clab.yml"]);
        until_up(&sandbox, &bench.name("calm"));
    }
    if !is_new {
        deploy();
        until_up(&sandbox, &boxes);
    }
    if work == Work::Start {
        sandbox.ok(&["stop", "--lab", &boxes, "a"]);
    }
    let untouched = || {
        let others = (work != Work::Destroy && !is_new).then(|| bench.containers("boxes", "b"));
        (bench.containers("calm", "c"), others)
    };
    let (before, worked_on) = (untouched(), bench.containers("boxes", "a"));
    std::fs::write(&gate, "").unwrap();
    let mut client = set_off(&bench, work);
    until_dead_at(point, &sandbox, &mut doomed);
    client.as_mut().map(Running::wait);

    let mut serve = bench.serve(&[]);
    finish(&bench, work, &worked_on);
    if work != Work::Destroy && work != Work::Refuse {
        bench.assert_once();
    }
    assert_eq!(untouched(), before, "what nobody worked on goes on running, untouched");
    if work == Work::Destroy {
        // Before anybody else goes, who might clear it away.
        let left = bench.leftovers();
        assert!(!left.contains(&boxes), "{left}\n{}", sandbox.log());
    }
    // What is refused never settles.
    if work != Work::Refuse {
        sandbox.ok(&["selfcheck"]);
    }
    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(bench.leftovers(), "", "{}", sandbox.log());
    assert_eq!(serve.end(Signal::SIGTERM), Some(0), "{}", sandbox.log());
    sandbox.assert_clean();
}

/// Sets the work off; the command that waits for its end, if one does.
fn set_off<'a>(bench: &Bench<'a>, work: Work) -> Option<Running<'a>> {
    let (sandbox, boxes) = (bench.sandbox, bench.name("boxes"));
    match work {
        Work::Deploy | Work::First | Work::Refuse => Some(sandbox.spawn(&["deploy", "-t", "boxes.clab.yml"])),
        Work::Stop => Some(sandbox.spawn(&["stop", "--lab", &boxes, "a"])),
        Work::Start => Some(sandbox.spawn(&["start", "--lab", &boxes, "a"])),
        Work::Destroy => Some(sandbox.spawn(&["destroy", &boxes])),
        Work::Kill => {
            let holder = bench.holder("a");
            bench.daemon.run(&["kill", holder.trim_end_matches(".holder")]);
            None
        }
        Work::Break => {
            bench.daemon.run(&["kill", &bench.holder("a")]);
            None
        }
    }
}

/// Waits until what was under way is done by the next controller, as far as the first one had written down that it was
/// wanted, and asks for it otherwise.
fn finish(bench: &Bench<'_>, work: Work, worked_on: &BTreeMap<String, String>) {
    let (sandbox, boxes) = (bench.sandbox, bench.name("boxes"));
    let is_up = || lifecycle_tests::nodes::is_up(&bench.boxes());
    let explain = || format!("{:?}: {:#}\n{}", bench.containers("boxes", ""), bench.boxes(), sandbox.log());
    let until = |holds: &dyn Fn() -> bool| eventually_or(LONG, explain, || holds().then_some(()));
    match work {
        Work::Deploy | Work::First => {
            sandbox.ok(&["deploy", "-t", "boxes.clab.yml"]);
            until(&is_up);
        }
        Work::Refuse => {
            // Whoever is refused is tried again and again, and each time nothing stays of it.
            let of = |node| bench.containers("boxes", node).len();
            let is_one_whole = || [[0, 2], [2, 0]].contains(&["a", "b"].map(of));
            until(&|| is_one_whole() && bench.boxes().to_string().contains("allocated"));
        }
        Work::Start => until(&is_up),
        Work::Kill | Work::Break => until(&|| is_up() && bench.containers("boxes", "a") != *worked_on),
        Work::Stop => start_again(sandbox, &boxes, "a"),
        Work::Destroy => finish_destroying(sandbox, &boxes),
    }
}
