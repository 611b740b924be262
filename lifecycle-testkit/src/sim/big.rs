//! A large lab without faults, for measuring what deciding costs.

use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::topology::{Endpoint, LinkSpec, NodeSpec, Topology};
use lifecycle_engine::decide::Command;

use super::faults::Faults;
use super::labs::{self, JAIL};
use super::simulation::{Event, Simulation};

/// What it took to bring a large lab up, or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Big {
    /// Steps of the engine.
    pub steps: u64,
    /// Milliseconds of simulated time.
    pub millis: u64,
}

/// Brings a lab of `nodes` nodes and at most `links` links up, then removes it, with no faults and no checks. Between the
/// two `each` is told what it took, so that a caller can read a real clock.
///
/// # Errors
/// When it does not come up, or something is left.
pub fn large_lab(nodes: u64, links: u64, mut each: impl FnMut(&str, Big)) -> Result<(), String> {
    let mut simulation = Simulation::new(1);
    simulation.faults = Faults::NONE;
    simulation.unchecked = true;
    simulation.machine.hosts.values_mut().for_each(|host| host.switch = None);
    simulation.settings = lifecycle_engine::decide::Settings {
        provider: labs::plugin(JAIL),
        backend: simulation.settings.backend.clone(),
        ..Default::default()
    };
    simulation.after(0, Event::Start);
    simulation.advance();
    let begin = (simulation.steps, simulation.clock.millis);
    simulation.command(Command::Apply { topology: Box::new(topology(nodes, links)), dry_run: false });
    let up = |it: &Simulation| {
        it.world().is_some_and(|world| {
            world.nodes.values().all(|node| node.actual == NodeState::Running && node.ready.ready)
                && world.links.values().all(|link| link.actual == LinkState::Up)
        })
    };
    each("up", run(&mut simulation, begin, up)?);
    let begin = (simulation.steps, simulation.clock.millis);
    simulation.command(Command::Destroy { lab: labs::lab("big") });
    each("down", run(&mut simulation, begin, |it| it.world().is_some_and(|world| world.labs.is_empty()))?);
    simulation.nothing_is_left();
    match simulation.violations.first() {
        None => Ok(()),
        Some(violation) => Err(violation.to_string()),
    }
}

fn run(simulation: &mut Simulation, begin: (u64, u64), done: impl Fn(&Simulation) -> bool) -> Result<Big, String> {
    const BOUND: u64 = 600_000;
    simulation.decide();
    while !done(simulation) {
        if simulation.clock.millis - begin.1 > BOUND || !simulation.advance() {
            return Err(format!("not done after {} steps", simulation.steps - begin.0));
        }
    }
    Ok(Big { steps: simulation.steps - begin.0, millis: simulation.clock.millis - begin.1 })
}

/// A ring with chords, on one host.
fn topology(nodes: u64, links: u64) -> Topology {
    let mut topology = Topology::new(labs::lab("big"), "/labs");
    topology.settings.host = Some(labs::host("h1"));
    topology.nodes = (0..nodes).map(|n| NodeSpec::new(labs::node(n), "linux")).collect();
    for n in 0..links {
        // Each round joins every node to one further away.
        let (from, round) = (n % nodes, n / nodes + 1);
        let end = |node: u64, side: &str| {
            Endpoint::node(labs::node(node % nodes), labs::interface(&format!("{side}{round}")))
        };
        topology.links.push(LinkSpec::new(end(from, "a"), end(from + round, "b")));
    }
    topology
}
