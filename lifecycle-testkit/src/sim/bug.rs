//! Planted bugs: the engine or the network backend makes one mistake on purpose, so that it is seen whether the simulator
//! finds it.

use super::simulation::Simulation;

/// A bug that can be planted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planted {
    /// Its name.
    pub name: String,
    /// What it gets wrong.
    pub what: String,
    /// The invariants of which it breaks at least one.
    pub breaks: &'static [&'static str],
}

#[cfg(feature = "planted-bugs")]
mod planted {
    use lifecycle_engine::decide::{Bug, World};
    use strum::{EnumMessage, VariantArray};

    use super::{Planted, Simulation};
    use crate::sim::machine::Mistake;

    /// All bugs that can be planted, those of the engine first; none without the feature `planted-bugs`.
    pub fn planted_bugs() -> Vec<Planted> {
        let of_engine = Bug::VARIANTS.iter().map(|bug| (bug.to_string(), bug.what(), bug.breaks()));
        let of_backend = Mistake::VARIANTS.iter().map(|mistake| {
            let what = mistake.get_documentation().unwrap_or_default().replace('\n', " ");
            (mistake.to_string(), what, mistake.breaks())
        });
        of_engine.chain(of_backend).map(|(name, what, breaks)| Planted { name, what, breaks }).collect()
    }

    impl Simulation {
        /// Has every controller, or every host's backend, make a mistake.
        pub(in crate::sim) fn plant(&mut self, name: Option<&str>) -> Result<(), String> {
            let Some(name) = name else { return Ok(()) };
            let mistake: Option<Mistake> = name.parse().ok();
            self.bug = name.parse().ok();
            if self.bug.is_none() && mistake.is_none() {
                return Err(format!("no planted bug is called `{name}`; `--bug list` lists them"));
            }
            self.machine.hosts.values_mut().for_each(|host| host.mistake = mistake);
            Ok(())
        }

        pub(in crate::sim) fn infect(&self, world: &mut World) {
            world.plant(self.bug);
        }

        /// Whether effects are started before their batch is committed.
        pub(in crate::sim) fn acts_before_commit(&self) -> bool {
            self.bug == Some(Bug::ActsBeforeCommit)
        }
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod planted {
    use lifecycle_engine::decide::World;

    use super::{Planted, Simulation};

    /// All bugs that can be planted; none without the feature `planted-bugs`.
    pub const fn planted_bugs() -> Vec<Planted> {
        Vec::new()
    }

    impl Simulation {
        pub(in crate::sim) fn plant(&mut self, name: Option<&str>) -> Result<(), String> {
            const HOW: &str =
                "cargo run --release -p lifecycle-testkit --features planted-bugs --bin simulate -- --bug";
            name.map_or(Ok(()), |name| Err(format!("this build has no planted bugs; run `{HOW} {name}`")))
        }

        pub(in crate::sim) fn infect(&self, _: &mut World) {}

        pub(in crate::sim) const fn acts_before_commit(&self) -> bool {
            false
        }
    }
}

pub use planted::planted_bugs;
