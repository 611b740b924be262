//! A live lab with hands at it: sockets wherever a part of a link stands, and what the controller says of its links.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{Link, Request, RouteSocket, Which};
use lifecycle_linux::probe::{ProbeEnd, Prober};
use lifecycle_linux::testing::{name, number};
use lifecycle_tests::nodes::{init, until_up};
use lifecycle_tests::sandbox::{Running, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Time for something to be noticed and put right.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time in which the controller reads every link that it heard of.
const QUIET: Duration = Duration::from_secs(3);

/// A link of the lab.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) id: LinkId,
    /// Where its ends stand and under which names; a node's name, or nothing for the host.
    pub(crate) ends: [(String, IfName); 2],
}

impl Wire {
    pub(crate) fn port(&self, side: Side) -> IfName {
        OurName::LinkEnd { link: self.id, side }.ifname()
    }

    pub(crate) fn bridge(&self) -> IfName {
        OurName::LinkBridge { link: self.id }.ifname()
    }

    /// Whether an end is at something of this name.
    pub(crate) fn is_at(&self, place: &str) -> bool {
        self.ends.iter().any(|(node, _)| node == place)
    }
}

/// A place in which interfaces stand.
struct Place {
    network: File,
    route: RouteSocket,
    prober: Prober,
}

/// A live lab with hands at it.
pub(crate) struct Bench<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) wires: Vec<Wire>,
    places: BTreeMap<String, Place>,
    /// The process of the controller.
    controller: Pid,
    chance: u64,
    /// What the controller said last of each link.
    pub(crate) states: BTreeMap<LinkId, String>,
    /// How much of the log was read.
    read: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, serve: &Running<'_>, seed: u64) -> Self {
        let controller = Pid::from_raw(serve.pid());
        let lab = until_up(sandbox);
        let rows = lab["links"].as_array().unwrap();
        let end = |end: &Value| {
            (end["node"].as_str().unwrap_or_default().to_owned(), name(end["interface"].as_str().unwrap()))
        };
        let wires = rows.iter().map(|row| Wire {
            id: row["id"].as_str().unwrap().parse().unwrap(),
            ends: [end(&row["ends"][0]), end(&row["ends"][1])],
        });
        let mut places = BTreeMap::from([(String::new(), open(File::open(sandbox.network()).unwrap()))]);
        for node in lab["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] == "linux") {
            let name = node["node_name"].as_str().unwrap();
            let network = File::open(format!("/proc/{}/ns/net", init(sandbox, name))).unwrap();
            places.insert(name.to_owned(), open(network));
        }
        let wires: Vec<Wire> = wires.collect();
        let states = wires.iter().map(|wire| (wire.id, "up".to_owned())).collect();
        let mut bench = Self { sandbox, wires, places, controller, chance: seed, states, read: 0 };
        bench.transitions();
        bench
    }

    /// Adds a place by the file of its network namespace.
    pub(crate) fn add_place(&mut self, name: &str, network: File) {
        self.places.insert(name.to_owned(), open(network));
    }

    /// A number below `bound`.
    pub(crate) fn chance(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }

    pub(crate) fn side(&mut self) -> Side {
        if self.chance(2) == 0 { Side::A } else { Side::B }
    }

    /// The namespace of a node, or of what is the host to the sandbox.
    pub(crate) fn network(&self, place: &str) -> &File {
        &self.places[place].network
    }

    pub(crate) fn route(&mut self, place: &str) -> &mut RouteSocket {
        &mut self.places.get_mut(place).unwrap().route
    }

    /// An interface of the host.
    pub(crate) fn host_link(&mut self, name: &IfName) -> Option<Link> {
        self.route("").link(Which::Name(name)).unwrap()
    }

    /// Does something to the host's interfaces, which must be possible.
    pub(crate) fn run(&mut self, request: Request) {
        self.route("").run(request).unwrap();
    }

    /// Does several things at which the controller looks only once all are done.
    pub(crate) fn unseen(&mut self, deeds: impl FnOnce(&mut Self)) {
        kill(self.controller, Signal::SIGSTOP).unwrap();
        deeds(self);
        kill(self.controller, Signal::SIGCONT).unwrap();
    }

    /// What was said since the last time of links' states: the link and the new state.
    pub(crate) fn transitions(&mut self) -> Vec<(LinkId, String)> {
        let log = self.sandbox.log();
        let fresh = &log[self.read..];
        let whole = fresh.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        let rows = fresh[..whole].lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said: Vec<(LinkId, String)> = rows
            .filter(|row| row["event"] == "link_state_transition")
            .map(|row| {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                (text("link_id").parse().unwrap(), text("new_state"))
            })
            .collect();
        self.states.extend(said.iter().cloned());
        said
    }

    /// Waits until some links went down and were verified again, and sees that no other one changed its state. Where one deed
    /// broke several, one that was read only after another was mended may have been well again by then.
    pub(crate) fn until_put_right(&mut self, deed: &str, wires: &[Wire]) {
        let began = Instant::now();
        let mut quiet_since = Instant::now();
        let mut states: BTreeMap<LinkId, Vec<String>> = BTreeMap::new();
        loop {
            for (link, state) in self.transitions() {
                assert!(wires.iter().any(|wire| wire.id == link), "{deed}: {link} went {state} as well");
                states.entry(link).or_default().push(state);
                quiet_since = Instant::now();
            }
            let is_up =
                |wire: &Wire| states.get(&wire.id).and_then(|states| states.last()).is_some_and(|it| it == "up");
            let untouched = |wire: &Wire| !states.contains_key(&wire.id) && quiet_since.elapsed() > QUIET;
            let some = wires.is_empty() || wires.iter().any(is_up);
            if some && wires.iter().all(|wire| is_up(wire) || untouched(wire)) {
                break;
            }
            let late = began.elapsed() > PATIENCE;
            assert!(!late, "{deed}: not put right: {states:?} of {wires:?}\n{}", self.end_of_log());
            std::thread::sleep(Duration::from_millis(3));
        }
        for wire in wires {
            assert!(self.passes(wire), "{deed}: no frame passes through {wire:?}");
        }
    }

    /// The last lines of the controller's log, which say most.
    pub(crate) fn end_of_log(&self) -> String {
        let log = self.sandbox.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether frames pass each way.
    pub(crate) fn passes(&mut self, wire: &Wire) -> bool {
        let mut ends = Vec::new();
        for (place, name) in &wire.ends {
            // What leads to a bridge that nodes share ends there, and another of its links is as good as the far end.
            if !self.places.contains_key(place) {
                return true;
            }
            let Some(link) = self.route(place).link(Which::Name(name)).unwrap() else { return false };
            ends.push((place.clone(), ProbeEnd { index: link.index, mac: link.mac.unwrap() }));
        }
        let ((a, end_a), (b, end_b)) = (&ends[0], &ends[1]);
        let (near, far) = (&self.places[a].prober, &self.places[b].prober);
        let passes = |from: &Prober, from_end, to: &Prober, to_end| {
            from.probe(from_end, to, to_end, number(), Duration::from_secs(5)).unwrap()
        };
        passes(near, *end_a, far, *end_b) && passes(far, *end_b, near, *end_a)
    }
}

fn open(network: File) -> Place {
    let want = [Want::Socket(SocketKind::Packet), Want::Socket(SocketKind::Route)];
    let mut opened = NamespaceAccess::new().open_inside(network.try_clone().unwrap().into(), None, &want).unwrap();
    let route = RouteSocket::new(opened.pop().unwrap()).unwrap();
    Place { network, route, prober: Prober::new(opened.pop().unwrap()).unwrap() }
}
