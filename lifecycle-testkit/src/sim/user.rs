//! A user who cannot make up their mind.

use std::collections::BTreeMap;

use lifecycle_core::id::{JobId, LinkId};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::policy::bulk::BulkAction;
use lifecycle_core::topology::Topology;
use lifecycle_engine::decide::{Command, NodeAction, World};

use super::chance::Chance;
use super::labs;

/// Labs that the user may have.
const LABS: [&str; 2] = ["red", "blue"];

/// What the user thinks of.
#[derive(Debug, Clone, Default)]
pub(super) struct User {
    topologies: BTreeMap<LabName, Topology>,
    /// What each lab was before its last change, to be had back soon.
    before_that: BTreeMap<LabName, Topology>,
}

impl User {
    /// What the user wants next: several things now and then, at one moment.
    pub(super) fn wants(&mut self, world: &World, chance: &mut Chance) -> Vec<Command> {
        let several = match chance.below(20) {
            0 => return self.flips(world, chance),
            1 | 2 => chance.between(2, 4),
            _ => 1,
        };
        (0..several).filter_map(|_| self.want(world, chance)).collect()
    }

    fn want(&mut self, world: &World, chance: &mut Chance) -> Option<Command> {
        let known: Vec<LabName> = world.lab_names().cloned().collect();
        if known.is_empty() || chance.per_mille(60) {
            return Some(self.deploy(chance));
        }
        let lab = chance.pick(&known)?.clone();
        match chance.below(100) {
            0..=21 => Some(self.change(lab, chance)),
            22..=37 => on_node(world, lab, NodeAction::Start, chance),
            38..=52 => on_node(world, lab, NodeAction::Stop { abort: false }, chance),
            53..=60 => on_node(world, lab, NodeAction::Stop { abort: true }, chance),
            61..=70 => on_node(world, lab, NodeAction::Restart, chance),
            71..=76 => Some(Command::Bulk { lab, action: BulkAction::Start }),
            77..=80 => Some(Command::Bulk { lab, action: BulkAction::Stop }),
            81..=88 => {
                let links: Vec<LinkId> = world.links_of(world.lab_by_name(&lab)?.id).map(|link| link.id).collect();
                Some(Command::SetLink { lab, link: *chance.pick(&links)?, attrs: labs::draw_attrs(chance) })
            }
            89..=91 => Some(Command::Reconcile { lab }),
            92..=95 => {
                let jobs: Vec<JobId> = world.jobs.keys().copied().collect();
                Some(Command::CancelJob { job: *chance.pick(&jobs)? })
            }
            _ => Some(Command::Destroy { lab }),
        }
    }

    fn deploy(&mut self, chance: &mut Chance) -> Command {
        let name = chance.pick(&LABS).copied().unwrap_or("red");
        let topology = labs::draw(name, chance);
        self.topologies.insert(topology.name.clone(), topology.clone());
        Command::Apply { topology: Box::new(topology), dry_run: false }
    }

    fn change(&mut self, lab: LabName, chance: &mut Chance) -> Command {
        let Some(topology) = self.topologies.get_mut(&lab) else { return Command::Destroy { lab } };
        let before = topology.clone();
        match self.before_that.remove(&lab) {
            Some(back) if chance.coin() => *topology = back,
            _ => labs::change(topology, chance),
        }
        self.before_that.insert(lab, before);
        Command::Apply { topology: Box::new(topology.clone()), dry_run: chance.per_mille(50) }
    }

    /// Starts and stops one node many times in a moment.
    fn flips(&mut self, world: &World, chance: &mut Chance) -> Vec<Command> {
        let known: Vec<LabName> = world.lab_names().cloned().collect();
        let Some((lab, node)) = chance.pick(&known).cloned().and_then(|lab| a_node(world, lab, chance)) else {
            return Vec::new();
        };
        let action = |n: u64| if n.is_multiple_of(2) { NodeAction::Stop { abort: true } } else { NodeAction::Start };
        let command = |n| Command::Node { lab: lab.clone(), node: node.clone(), action: action(n) };
        (0..chance.between(2, 9)).map(command).collect()
    }
}

fn a_node(world: &World, lab: LabName, chance: &mut Chance) -> Option<(LabName, NodeName)> {
    let nodes: Vec<NodeName> = world.nodes_of(world.lab_by_name(&lab)?.id).map(|node| node.name.clone()).collect();
    Some((lab, chance.pick(&nodes)?.clone()))
}

fn on_node(world: &World, lab: LabName, action: NodeAction, chance: &mut Chance) -> Option<Command> {
    let (lab, node) = a_node(world, lab, chance)?;
    Some(Command::Node { lab, node, action })
}
