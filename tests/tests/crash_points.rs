//! Controllers that are killed at every named point between two effects, and what the next one makes of what is left:
//! the same nodes run, nothing is there twice, nothing is left over, and the state is true.
//!
//! Needs a `lifecycle` with the feature of the same name beside this test:
//! `cargo build -p lifecycle-controller --features crash-points`; with the feature `libvirt` of both, also where nodes are
//! virtual machines.
#![allow(clippy::unwrap_used)]

#[path = "crash_points/aftermath.rs"]
mod aftermath;
#[path = "crash_points/containers.rs"]
mod containers;
#[path = "crash_points/machines.rs"]
mod machines;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use libtest_mimic::{Arguments, Trial};
use lifecycle_crash::CRASH_POINTS;
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::testing::hosts::{UPLINK, give_addresses, inside, join_hosts, route_in, take_addresses};
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::census::{eventually, eventually_or};
use lifecycle_tests::nodes::{enter, fingerprint, init, inits, is_up, try_init};
use lifecycle_tests::sandbox::{LONG, Running, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use aftermath::{finish_destroying, lab, start_again, until_dead_at, until_up};

/// The lab that nobody works on. Both labs are on one host, also where there are two.
const CALM: &str = "
name: calm
settings: { host: local }
mgmt: { skip-when-unused: true }
topology:
  nodes:
    c0: { kind: linux, cmd: sleep infinity }
    c1: { kind: linux, cmd: sleep infinity }
  links:
    - endpoints: ['c0:eth1', 'c1:eth1']
";

/// The lab that is worked on: a ring, and a bridge that two of its nodes are at.
const RING: &str = "
name: ring
settings: { host: local }
mgmt: { skip-when-unused: true }
topology:
  nodes:
    n0:
      kind: linux
      cmd: sleep infinity
      exec: ['true']
      healthcheck: { test: [CMD, 'true'], interval: 1 }
    n1: { kind: linux, cmd: sleep infinity }
    n2: { kind: linux, cmd: sleep infinity }
    lcbr: { kind: bridge }
  links:
    - endpoints: ['n0:eth1', 'n1:eth2']
      mtu: 1500
    - endpoints: ['n1:eth1', 'n2:eth2']
    - endpoints: ['n2:eth1', 'n0:eth2']
    - endpoints: ['n0:eth3', 'lcbr:p0']
    - endpoints: ['n1:eth3', 'lcbr:p1']
";

/// Leftovers are looked for and collected at once.
const CONFIG: &str = "limits: { link-pass: 1s, collection-grace: 1s }\n";

/// What is under way when the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A controller begins on a new state directory.
    Make,
    /// A controller begins where another one was.
    Begin,
    /// The ring is deployed.
    Deploy,
    /// One of its nodes is restarted.
    Restart,
    /// One of its nodes is stopped.
    Stop,
    /// One of its links gets another MTU, and two links are removed.
    Change,
    /// The process of one of its nodes is killed.
    Kill,
    /// An end of one of its links is deleted by hand.
    Mend,
    /// The other host gets another address.
    Move,
    /// The ring's links go to another backend, with their interfaces in place.
    Migrate {
        /// That backend.
        to: &'static str,
    },
    /// The ring is cabled the other way round, on this backend, with its interfaces in place.
    Cable {
        /// That backend.
        on: &'static str,
    },
    /// Something of ours that belongs to nobody is found and removed.
    Collect,
    /// The ring is removed.
    Destroy,
    /// The controller is asked to end.
    End,
}

/// What passes a point. The first passage of most is enough; those that everything passes are tried in several places.
fn works(point: &str) -> &'static [(Work, u32)] {
    use Work::{Begin, Change, Collect, Deploy, Destroy, End, Kill, Make, Mend, Restart, Stop};
    match point {
        "store-migrated" | "store-complete" | "store-named" => &[(Make, 1)],
        "store-taking-over" | "taken-over" | "initialized" | "loaded" | "recovered" => &[(Begin, 1)],
        "store-written" | "before-commit" | "published" | "answer-taken" => &[(Deploy, 4), (Destroy, 2)],
        "committed" | "answer-decided" => &[(Deploy, 6), (Restart, 2), (Change, 2)],
        "replied" => &[(Deploy, 1), (Restart, 1), (Destroy, 1)],
        "stopping" | "effects-ended" | "released" => &[(End, 1)],
        "bridge-made" | "segment-unnamed" => &[(Deploy, 1)],
        "ends-made" | "end-finished" => &[(Deploy, 1), (Mend, 1)],
        "end-changed" | "ends-doomed" | "ends-deleted" => &[(Change, 1)],
        "segment-removed" => &[(Destroy, 1)],
        "link-bridge-made" => &[(Deploy, 1)],
        "link-ports-made" | "link-end-finished" => &[(Deploy, 1), (Mend, 1)],
        "link-part-changed" => &[(Change, 1)],
        "link-doomed" | "link-swept" => &[(Change, 1), (Destroy, 1)],
        "switch-pairs-made" | "switch-end-finished" | "switch-ports-committed" | "switch-ports-attached" => {
            &[(Deploy, 1), (Mend, 1)]
        }
        "switch-part-changed" => &[(Change, 1)],
        "switch-ports-removed" => &[(Change, 1), (Destroy, 1), (Mend, 1)],
        "switch-swept" => &[(Change, 1), (Destroy, 1)],
        // See the modules for machines and containers.
        _ if point.starts_with("machine-") || point.starts_with("container-") => &[],
        around => match around.split_once('-').map(|(_, effect)| effect) {
            Some("list_nodes" | "read_capacity" | "observe_links" | "verify") => &[(Begin, 1)],
            Some("create_node" | "start_node" | "connect") => &[(Deploy, 2)],
            Some("ensure_image" | "run_commands" | "probe_ready") => &[(Deploy, 1)],
            Some("stop_node") => &[(Restart, 1)],
            // A restart may be over before anybody takes the carrier.
            Some("set_carrier") => &[(Stop, 1)],
            Some("set_params" | "disconnect") => &[(Change, 1)],
            Some("destroy_node") => &[(Destroy, 2)],
            Some("observe_node") => &[(Kill, 1)],
            Some("remove_link") => &[(Collect, 1)],
            // Only links between hosts do, or links that go to another backend, or are cabled anew.
            Some("read_underlay" | "redirect" | "release" | "bridge-doomed" | "park") => &[],
            Some("end-parked" | "ports-parked" | "ends-parked") => &[],
            _ => panic!("nobody knows how to reach `{point}`"),
        },
    }
}

/// What is tried once more where one node of the ring is on another host, so that two of its links lead there.
const BETWEEN_HOSTS: [(&str, Work, u32); 10] = [
    ("before-read_underlay", Work::Deploy, 1),
    ("after-read_underlay", Work::Deploy, 1),
    ("before-redirect", Work::Move, 1),
    ("after-redirect", Work::Move, 1),
    ("link-bridge-made", Work::Deploy, 2),
    ("link-ports-made", Work::Deploy, 3),
    ("link-end-finished", Work::Deploy, 3),
    ("link-doomed", Work::Destroy, 2),
    ("link-swept", Work::Destroy, 1),
    ("after-connect", Work::Deploy, 4),
];

/// Where a controller dies while links go from a bridge to a switch, or back.
const MIGRATIONS: [(&str, &str, u32); 8] = [
    ("ovs", "before-release", 1),
    ("ovs", "link-bridge-doomed", 1),
    ("ovs", "after-release", 2),
    ("ovs", "switch-ports-committed", 1),
    ("ovs", "after-connect", 1),
    ("linux-bridge", "switch-ports-removed", 1),
    ("linux-bridge", "link-bridge-made", 1),
    ("linux-bridge", "link-ports-made", 2),
];

/// Where a controller dies while the ring is cabled anew.
const CABLINGS: [(&str, &str, u32); 8] = [
    ("linux-bridge", "before-park", 1),
    ("linux-bridge", "link-end-parked", 1),
    ("linux-bridge", "link-end-parked", 4),
    ("linux-bridge", "after-park", 2),
    ("linux-bridge", "after-connect", 1),
    ("ovs", "switch-ports-parked", 1),
    ("ovs", "switch-ends-parked", 2),
    ("ovs", "switch-ports-committed", 1),
];

/// The backend that passes a point.
fn backend(point: &str) -> &'static str {
    match point.split_once('-') {
        Some(("link", _)) => "linux-bridge",
        Some(("switch", _)) => "ovs",
        _ => "veth",
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Most of the time is spent waiting for processes to begin and to end.
    arguments.test_threads.get_or_insert(6);
    let mut trials: Vec<Trial> = Vec::new();
    for (name, user, need) in [("root", User::Root, Need::Root), ("ordinary", User::Ordinary, Need::UserNamespaces)] {
        for &point in CRASH_POINTS {
            for &(work, passage) in works(point) {
                let name = format!("{name}::{point}::{passage}::{work:?}").to_lowercase();
                let needs = if backend(point) == "ovs" { &[Need::Root, Need::OpenVswitch][..] } else { &[need] };
                if user == User::Root || backend(point) != "ovs" {
                    trials.push(trial(&name, needs, move || die(user, point, work, passage, None)));
                }
            }
        }
    }
    for (point, work, passage) in BETWEEN_HOSTS {
        let name = format!("root::hosts::{point}::{passage}::{work:?}").to_lowercase();
        let test = move || die(User::Root, point, work, passage, Some(&OtherHost::new()));
        trials.push(trial(&name, &[Need::Root], test));
    }
    for (to, point, passage) in MIGRATIONS {
        let name = format!("root::{point}::{passage}::migrate-to-{to}");
        let test = move || die(User::Root, point, Work::Migrate { to }, passage, None);
        trials.push(trial(&name, &[Need::Root, Need::OpenVswitch], test));
    }
    for (on, point, passage) in CABLINGS {
        let name = format!("root::{point}::{passage}::cable-on-{on}");
        let test = move || die(User::Root, point, Work::Cable { on }, passage, None);
        let needs = if on == "ovs" { &[Need::Root, Need::OpenVswitch][..] } else { &[Need::Root] };
        trials.push(trial(&name, needs, test));
    }
    trials.extend(machines::trials());
    trials.extend(containers::trials());
    trials.push(every_point_is_passed(&trials));
    let conclusion = libtest_mimic::run(&arguments, trials);
    containers::end();
    conclusion.exit();
}

/// A trial that knows which others there are.
fn every_point_is_passed(trials: &[Trial]) -> Trial {
    let is_tried = |point: &&&str| trials.iter().any(|trial| trial.name().contains(&format!("::{point}::")));
    let untried: Vec<&str> = CRASH_POINTS.iter().filter(|point| !is_tried(point)).copied().collect();
    trial("every_point_is_passed", &[], move || assert_eq!(untried, [""; 0], "nobody dies there"))
}

/// A host besides the one that the controller runs on: a network namespace.
struct OtherHost {
    namespace: FreshNamespace,
}

impl OtherHost {
    fn new() -> Self {
        Self { namespace: FreshNamespace::new().unwrap() }
    }

    fn file(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.ns.as_raw_fd()).into()
    }

    fn config(&self) -> String {
        let bridges = format!("{{ linux-bridge: {{ namespace: {} }} }}", self.file().display());
        format!("backend: linux-bridge\nhosts: {{ h2: {{ plugins: {bridges} }} }}\n{CONFIG}")
    }

    fn change_address(&self) {
        // A second address of a network goes with the first.
        take_addresses(&mut route_in(&self.file()), 1, 0, UPLINK);
        give_addresses(&mut route_in(&self.file()), 1, 1, UPLINK);
    }

    fn interfaces(&self) -> BTreeSet<String> {
        let table = inside(self.file(), || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let table = table.join().unwrap();
        table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    }
}

fn deploy(sandbox: &Sandbox, name: &str) {
    sandbox.ok(&["deploy", "-t", &format!("{name}.clab.yml")]);
    until_up(sandbox, name);
}

/// The controller dies at a point while it works, another one follows, and all is well.
fn die(user: User, point: &str, work: Work, passage: u32, other: Option<&OtherHost>) {
    let sandbox = Sandbox::new(user);
    sandbox.write("calm.clab.yml", CALM);
    let ring = match other {
        None => RING.to_owned(),
        // Hosts of one network namespace would share a management network.
        Some(_) => RING
            .replace("n2: { kind: linux,", "n2: { host: h2, kind: linux,")
            .replace("topology:\n", "topology:\n  defaults: { network-mode: none }\n"),
    };
    sandbox.write("ring.clab.yml", &ring);
    let (backend, needs_switch) = match work {
        Work::Migrate { to: "ovs" } => ("linux-bridge", true),
        Work::Migrate { .. } => ("ovs", true),
        Work::Cable { on } => (on, on == "ovs"),
        _ => (backend(point), backend(point) == "ovs"),
    };
    let switch = needs_switch.then(|| OpenVswitch::start_in(sandbox.network()));
    let mut config = format!("backend: {backend}\n{CONFIG}");
    if let Some(switch) = &switch {
        config += &format!("plugins: {{ovs: {{database: \"{}\", datapath: netdev}}}}\n", switch.database());
    }
    if let Some(other) = other {
        join_hosts([&sandbox.network(), &other.file()]);
        config = other.config();
    }
    let config = sandbox.write("config.yaml", &config).display().to_string();
    let gate = sandbox.labs().join("now");
    let (at, when) = (format!("{point}:{passage}"), gate.display().to_string());
    let calm = ("LIFECYCLE_CONFIG", config.as_str());
    let armed = ("LIFECYCLE_CRASH_AT", at.as_str());
    let gated = ("LIFECYCLE_CRASH_WHEN", when.as_str());

    let mut doomed = match work {
        Work::Make => sandbox.spawn_with(&[calm, armed], &["serve"]),
        Work::Begin => sandbox.serve_with(&[calm]),
        _ => sandbox.serve_with(&[calm, armed, gated]),
    };
    let mut before = Vec::new();
    if work != Work::Make {
        deploy(&sandbox, "calm");
        if work != Work::Deploy {
            deploy(&sandbox, "ring");
        }
        before = untouched(&sandbox, work);
    }
    if work == Work::Begin {
        doomed.end(Signal::SIGKILL);
        doomed = sandbox.spawn_with(&[calm, armed], &["serve"]);
    } else {
        std::fs::write(&gate, "").unwrap();
    }
    let client = set_off(&sandbox, work, &doomed, other);
    until_dead_at(point, &sandbox, &mut doomed);
    // Whoever waits for it is told, and does not wait for ever.
    client.map(|mut client| client.wait());

    let mut serve = sandbox.serve_with(&[calm]);
    finish(&sandbox, work);
    assert_eq!(untouched(&sandbox, work)[..before.len()], before, "what nobody worked on goes on running, untouched");
    assert_once(&sandbox);
    sandbox.ok(&["selfcheck"]);
    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(serve.end(Signal::SIGTERM), Some(0), "{}", sandbox.log());
    if let Some(switch) = &switch {
        assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    }
    drop(switch);
    if let Some(other) = other {
        assert_eq!(other.interfaces(), BTreeSet::from(["lo".to_owned(), UPLINK.to_owned()]));
        sandbox.ip(&["link", "delete", UPLINK]);
    }
    sandbox.assert_clean();
}

/// Sets the work off; the command that waits for its end, if one does.
fn set_off<'a>(
    sandbox: &'a Sandbox,
    work: Work,
    serve: &Running<'_>,
    other: Option<&OtherHost>,
) -> Option<Running<'a>> {
    match work {
        Work::Make | Work::Begin => None,
        Work::Deploy => Some(sandbox.spawn(&["deploy", "-t", "ring.clab.yml"])),
        Work::Restart => Some(sandbox.spawn(&["restart", "--lab", "ring", "n0"])),
        Work::Stop => Some(sandbox.spawn(&["stop", "--lab", "ring", "n0"])),
        Work::Change => {
            sandbox.write("ring.clab.yml", &changed());
            Some(sandbox.spawn(&["apply", "-t", "ring.clab.yml"]))
        }
        Work::Migrate { to } => {
            sandbox.write("ring.clab.yml", &on(to));
            Some(sandbox.spawn(&["apply", "-t", "ring.clab.yml"]))
        }
        Work::Cable { .. } => {
            sandbox.write("ring.clab.yml", &the_other_way_round());
            Some(sandbox.spawn(&["apply", "-t", "ring.clab.yml"]))
        }
        Work::Destroy => Some(sandbox.spawn(&["destroy", "ring"])),
        Work::Kill => {
            kill(Pid::from_raw(init(sandbox, "n0")), Signal::SIGKILL).unwrap();
            None
        }
        Work::Mend => {
            enter(init(sandbox, "n0"), &["--net", "ip", "link", "delete", "eth1"]);
            None
        }
        Work::Move => {
            other.unwrap().change_address();
            None
        }
        Work::Collect => {
            let link = |words: &str| {
                enter(
                    init(sandbox, "n0"),
                    &[&["--net", "ip", "link"], &words.split(' ').collect::<Vec<_>>()[..]].concat(),
                )
            };
            // Bears the marks that an interface of ours is born with, and belongs to no link.
            link("add left0 address 62:00:00:00:00:10 type veth peer name left1 address 62:00:00:00:00:11");
            link("set left1 group 1818649465");
            link("set left0 group 1818649465");
            None
        }
        Work::End => {
            kill(Pid::from_raw(serve.pid()), Signal::SIGTERM).unwrap();
            None
        }
    }
}

/// The lab file of the ring with another MTU on one link and without two others, one of them at the bridge.
fn changed() -> String {
    let text = RING.replace("mtu: 1500", "mtu: 1400");
    let kept = text.lines().filter(|line| !line.contains("n2:eth1") && !line.contains("lcbr:p1"));
    kept.collect::<Vec<_>>().join("\n")
}

/// The lab file of the ring with other links between the same interfaces.
fn the_other_way_round() -> String {
    let others = [("'n0:eth1', 'n1:eth2'", "'n0:eth1', 'n2:eth2'"), ("'n1:eth1', 'n2:eth2'", "'n1:eth1', 'n0:eth2'")];
    let last = ("'n2:eth1', 'n0:eth2'", "'n2:eth1', 'n1:eth2'");
    others.into_iter().chain([last]).fold(RING.to_owned(), |text, (old, new)| text.replace(old, new))
}

/// The lab file of the ring on another backend, as far as that can join the ends of its links.
fn on(backend: &str) -> String {
    RING.replace("host: local", &format!("host: local, backend: {backend}"))
}

/// Waits until what was under way is done by the next controller, as far as the first one had written down that it was
/// wanted, and asks for it otherwise.
fn finish(sandbox: &Sandbox, work: Work) {
    match work {
        Work::Make => {
            deploy(sandbox, "calm");
            deploy(sandbox, "ring");
        }
        Work::Deploy | Work::Change => {
            if !lab(sandbox, "ring").is_null() {
                until_up(sandbox, "ring");
            }
            deploy(sandbox, "ring");
        }
        Work::Begin | Work::Restart | Work::Kill | Work::Mend | Work::Move | Work::End => until_up(sandbox, "ring"),
        Work::Migrate { to } => {
            let explain = || format!("on {to}: {:#}\n{}", lab(sandbox, "ring"), sandbox.log());
            eventually_or(LONG, explain, || {
                let ring = lab(sandbox, "ring");
                let links = ring["links"].as_array()?.iter().filter(|link| !link["ends"].to_string().contains("lcbr"));
                (is_up(&ring) && links.map(|link| &link["backend"]).all(|at| at == to)).then_some(())
            });
        }
        Work::Cable { .. } => {
            until_up(sandbox, "ring");
            // Unless it was recorded already.
            sandbox.ok(&["apply", "-t", "ring.clab.yml"]);
            until_up(sandbox, "ring");
        }
        Work::Stop => start_again(sandbox, "ring", "n0"),
        Work::Collect => {
            until_up(sandbox, "ring");
            eventually("the leftover is gone", LONG, || {
                (!interfaces(sandbox, "n0").iter().any(|name| name.starts_with("left"))).then_some(())
            });
        }
        Work::Destroy => {
            finish_destroying(sandbox, "ring");
            assert!(try_init(sandbox, "n0").is_none(), "{:?}", sandbox.processes());
        }
    }
    until_up(sandbox, "calm");
    if work == Work::Change {
        let mtu = enter(init(sandbox, "n0"), &["--net", "ip", "-o", "link", "show", "eth1"]);
        assert!(mtu.contains("mtu 1400"), "{mtu}");
        assert_eq!(lab(sandbox, "ring")["links"].as_array().unwrap().len(), 3);
    }
}

/// What must not change of those that nobody works on.
fn untouched(sandbox: &Sandbox, work: Work) -> Vec<String> {
    let mut found: Vec<String> = ["c0", "c1"].iter().map(|name| fingerprint(sandbox, name)).collect();
    let others: &[&str] = match work {
        Work::Make | Work::Deploy | Work::Destroy => &[],
        Work::Restart | Work::Stop | Work::Kill => &["n1", "n2"],
        Work::Begin | Work::Change | Work::Mend | Work::Move | Work::Collect | Work::End => &["n0", "n1", "n2"],
        Work::Migrate { .. } | Work::Cable { .. } => {
            let ring = ["n0", "n1", "n2"].map(|name| (name, interface_indexes(sandbox, name)));
            found.extend(ring.map(|(name, indexes)| format!("{name}: {indexes}")));
            &["n0", "n1", "n2"]
        }
    };
    found.extend(others.iter().map(|name| format!("{name}: {}", init(sandbox, name))));
    found
}

/// The interfaces of a node with their indexes and addresses.
fn interface_indexes(sandbox: &Sandbox, name: &str) -> String {
    let text = enter(init(sandbox, name), &["--net", "ip", "-o", "link"]);
    let lines =
        text.lines().map(|line| line.split([' ', '@']).filter(|word| !word.is_empty()).take(2).collect::<String>());
    lines.collect::<Vec<_>>().join(" ")
}

/// Names of a node's interfaces beside its loopback and the one for management.
fn interfaces(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let text = enter(init(sandbox, name), &["--net", "ip", "-o", "-br", "link"]);
    let names = text.lines().filter_map(|line| line.split([' ', '@']).next());
    names.filter(|name| !["lo", "eth0"].contains(name)).map(str::to_owned).collect()
}

/// Each node has one init and an interface for each of its links, and nothing else has them.
fn assert_once(sandbox: &Sandbox) {
    for lab in sandbox.all_labs() {
        let text = lab["links"].to_string();
        for node in lab["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] == "linux") {
            let name = node["node_name"].as_str().unwrap();
            assert_eq!(inits(sandbox, name).len(), 1, "{name}: {:?}", sandbox.processes());
            let ends = text.matches(&format!("\"{name}\"")).count();
            assert_eq!(interfaces(sandbox, name).len(), ends, "{name}: {:?} for {text}", interfaces(sandbox, name));
        }
    }
}
