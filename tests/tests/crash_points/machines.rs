//! The same where nodes are virtual machines, on a libvirt of each test's own. They have a disk with nothing on it, so that
//! they run at once and hear no power button.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libtest_mimic::Trial;
use lifecycle_linux::testing::libvirt::LibvirtDaemon;
use lifecycle_tests::sandbox::{Running, Sandbox, User};
use lifecycle_tests::trial::Need;
use nix::sys::signal::Signal;

use super::CONFIG;
use super::aftermath::{self, finish_destroying, lab, start_again, until_dead_at, until_up};

/// A kind that finds its configuration on a disk.
const KIND: &str = "
vendor: Tests
kinds: [{ kind: test_vm, machine: {}, startup-config: { method: config-disk, path: startup.cfg } }]
";

/// Both are on the management network.
const LAB: &str = "
name: vms
topology:
  defaults: { kind: test_vm, provider: libvirt, image: blank.img, startup-config: vm.cfg }
  nodes: { a: , b: }
  links:
    - endpoints: ['a:eth1', 'b:eth1']
";

/// What is under way when the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Deploy,
    /// `b` is stopped.
    Stop,
    /// `b` is started again.
    Start,
    /// Another link is added, whose network cards are plugged in while the machines run.
    Plug,
    Destroy,
}

/// Where a controller dies, and at which passage.
const DEATHS: [(&str, u32, Work); 21] = [
    ("machine-address-reserved", 1, Work::Deploy),
    ("machine-recorded", 2, Work::Deploy),
    ("machine-medium-made", 1, Work::Deploy),
    ("machine-disk-made", 1, Work::Deploy),
    ("machine-tap-made", 1, Work::Deploy),
    ("machine-defined", 1, Work::Start),
    ("machine-starting", 1, Work::Deploy),
    ("machine-started", 2, Work::Deploy),
    ("machine-started", 1, Work::Start),
    ("machine-plugging", 1, Work::Plug),
    ("machine-off", 1, Work::Stop),
    ("machine-off", 1, Work::Destroy),
    ("machine-undefined", 1, Work::Destroy),
    ("machine-tap-removed", 2, Work::Destroy),
    ("machine-address-given-back", 2, Work::Destroy),
    ("machine-emptied", 1, Work::Destroy),
    ("after-create_node", 1, Work::Deploy),
    ("before-start_node", 1, Work::Start),
    ("after-stop_node", 1, Work::Stop),
    ("before-destroy_node", 2, Work::Destroy),
    ("after-destroy_node", 1, Work::Destroy),
];

pub(super) fn trials() -> Vec<Trial> {
    aftermath::trials("machines", Need::Libvirt, &DEATHS, die)
}

/// A libvirt, and a controller's way to it.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    libvirt: LibvirtDaemon,
    config: String,
}

impl<'a> Bench<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let libvirt = LibvirtDaemon::start_in(sandbox.network());
        let directory = libvirt.directory();
        fs::create_dir(directory.join("images")).unwrap();
        fs::File::create(directory.join("images/blank.img")).unwrap().set_len(1 << 20).unwrap();
        let (uri, directory) = (libvirt.uri(), directory.display());
        let settings = format!("directory: {directory}/vms, images: [{directory}/images], acceleration: qemu");
        // Their power buttons are pressed once, in vain.
        let limits = CONFIG.replace("limits: {", "limits: { stop-grace: 1ms,");
        let plugins = format!("plugins: {{libvirt: {{uri: '{uri}', memory_mb: 32, {settings}}}}}");
        let config = format!("backend: linux-bridge\nvendors: [vendors]\n{limits}{plugins}\n");
        sandbox.write("vendors/tests.yml", KIND);
        sandbox.write("vm.cfg", "x");
        let config = sandbox.write("config.yaml", &config).display().to_string();
        Self { sandbox, libvirt, config }
    }

    fn serve(&self, environment: &[(&str, &str)]) -> Running<'a> {
        self.sandbox.serve_with(&[&[("LIFECYCLE_CONFIG", self.config.as_str())], environment].concat())
    }

    /// The disks, by their machines, with what tells one from another that took its place.
    fn disks(&self) -> BTreeMap<String, u64> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.libvirt.directory().join("vms")]);
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with("disk.qcow2") {
                    found.insert(name_of(path.parent().unwrap()), fs::metadata(&path).unwrap().ino());
                }
            }
        }
        found
    }

    /// The machines by their names, each with the number of its run; of those that do not run it is `-`.
    fn machines(&self) -> BTreeMap<String, String> {
        let names = self.libvirt.virsh(&["list", "--all", "--name"]);
        let names = names.lines().map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| (name.to_owned(), self.libvirt.virsh(&["domid", name]).trim().to_owned())).collect()
    }

    /// Names of taps and bridges.
    fn interfaces(&self, kind: &str) -> Vec<String> {
        let text = self.libvirt.ip(&["-o", "link", "show", "type", kind]).unwrap();
        text.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
    }

    /// Each machine is there once, with its disk and its taps, and runs.
    fn assert_once(&self, links: usize) {
        let machines = self.machines();
        assert_eq!(machines.len(), 2, "{machines:?}");
        assert!(machines.values().all(|run| run != "-"), "{machines:?}");
        assert!(machines.keys().eq(self.disks().keys()), "{machines:?} with {:?}", self.disks());
        let (taps, bridges) = (self.interfaces("tun"), self.interfaces("bridge"));
        assert_eq!((taps.len(), bridges.len()), (2 + 2 * links, 1 + links), "{taps:?} {bridges:?}");
        let addresses = lab(self.sandbox, "vms")["nodes"].as_array().unwrap().clone();
        let addresses: Vec<_> = addresses.iter().map(|node| node["management_ips"]["ipv4"].clone()).collect();
        assert!(addresses[0].is_string() && addresses[0] != addresses[1], "{addresses:?}");
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// The controller dies at a point while it works, another one follows, and all is well.
fn die(point: &str, passage: u32, work: Work) {
    let sandbox = Sandbox::new(User::Root);
    let bench = Bench::new(&sandbox);
    sandbox.write("vms.clab.yml", LAB);
    let gate = sandbox.labs().join("now");
    let (at, when) = (format!("{point}:{passage}"), gate.display().to_string());
    let mut doomed = bench.serve(&[("LIFECYCLE_CRASH_AT", &at), ("LIFECYCLE_CRASH_WHEN", &when)]);
    let deploy = || sandbox.ok(&["deploy", "-t", "vms.clab.yml"]);
    if work != Work::Deploy {
        deploy();
        until_up(&sandbox, "vms");
    }
    if work == Work::Start {
        sandbox.ok(&["stop", "b"]);
    }
    let (disks, before) = (bench.disks(), bench.machines());
    fs::write(&gate, "").unwrap();
    let mut client = match work {
        Work::Deploy => sandbox.spawn(&["deploy", "-t", "vms.clab.yml"]),
        Work::Stop => sandbox.spawn(&["stop", "b"]),
        Work::Start => sandbox.spawn(&["start", "b"]),
        Work::Plug => {
            sandbox.write("vms.clab.yml", &format!("{LAB}    - endpoints: ['a:eth2', 'b:eth2']\n"));
            sandbox.spawn(&["apply", "-t", "vms.clab.yml"])
        }
        Work::Destroy => sandbox.spawn(&["destroy", "vms"]),
    };
    until_dead_at(point, &sandbox, &mut doomed);
    client.wait();

    let mut serve = bench.serve(&[]);
    let explain = || format!("{:?}: {:#}\n{}", bench.machines(), lab(&sandbox, "vms"), sandbox.log());
    match work {
        Work::Destroy => finish_destroying(&sandbox, "vms"),
        Work::Stop => start_again(&sandbox, "vms", "b"),
        Work::Start => until_up(&sandbox, "vms"),
        Work::Deploy | Work::Plug => {
            deploy();
            until_up(&sandbox, "vms");
        }
    }
    if work != Work::Destroy {
        bench.assert_once(if work == Work::Plug { 2 } else { 1 });
        let now = bench.disks();
        assert!(disks.iter().all(|(name, disk)| now.get(name) == Some(disk)), "{disks:?} became {now:?}");
        let untouched = |machines: &BTreeMap<String, String>| {
            let is_b = |name: &String| name.contains("-b.");
            machines.clone().into_iter().filter(|(name, _)| work == Work::Plug || !is_b(name)).collect::<Vec<_>>()
        };
        if work != Work::Deploy {
            assert_eq!(untouched(&bench.machines()), untouched(&before), "somebody else was touched");
        }
        sandbox.ok(&["selfcheck"]);
        sandbox.ok(&["destroy", "--all"]);
    }
    assert!(bench.machines().is_empty() && bench.disks().is_empty(), "{}", explain());
    assert_eq!(serve.end(Signal::SIGTERM), Some(0), "{}", sandbox.log());
    assert_eq!([bench.interfaces("tun"), bench.interfaces("bridge")].concat(), [""; 0], "interfaces are left");
    assert!(!sandbox.state().join("management/libvirt.json").exists(), "addresses are left reserved");
    drop(bench);
    sandbox.assert_clean();
}
