//! Planted bugs: the engine makes one mistake on purpose, so that it is seen whether the simulator finds it.

#[cfg(feature = "planted-bugs")]
use lifecycle_engine::decide::Bug;
use lifecycle_engine::decide::World;

use super::simulation::Simulation;

/// The names of all bugs that can be planted, with what each gets wrong; none without the feature `planted-bugs`.
pub fn planted_bugs() -> Vec<(String, String)> {
    #[cfg(feature = "planted-bugs")]
    {
        use strum::VariantArray;
        Bug::VARIANTS.iter().map(|bug| (bug.to_string(), bug.what())).collect()
    }
    #[cfg(not(feature = "planted-bugs"))]
    Vec::new()
}

#[cfg(feature = "planted-bugs")]
impl Simulation {
    /// Has every controller make a mistake.
    pub(super) fn plant(&mut self, name: Option<&str>) -> Result<(), String> {
        let unknown = |name: &str| format!("no planted bug is called `{name}`; `--bug list` lists them");
        self.bug = name.map(|name| name.parse().map_err(|_| unknown(name))).transpose()?;
        Ok(())
    }

    pub(super) fn infect(&self, world: &mut World) {
        world.plant(self.bug);
    }

    /// Whether effects are started before their batch is committed.
    pub(super) fn acts_before_commit(&self) -> bool {
        self.bug == Some(Bug::ActsBeforeCommit)
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl Simulation {
    pub(super) fn plant(&mut self, name: Option<&str>) -> Result<(), String> {
        const HOW: &str = "cargo run --release -p lifecycle-testkit --features planted-bugs --bin simulate -- --bug";
        name.map_or(Ok(()), |name| Err(format!("this build has no planted bugs; run `{HOW} {name}`")))
    }

    pub(super) fn infect(&self, _: &mut World) {}

    pub(super) const fn acts_before_commit(&self) -> bool {
        false
    }
}
