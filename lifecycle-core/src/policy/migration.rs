//! The order in which a node moves to another host, so that there are never two instances of it.
//!
//! The target is made ready first: reachable, resources reserved, image there. Only then is the old instance stopped
//! and removed, and only once it is confirmed gone does the new one start. Whatever fails before leaves the old
//! instance as it was.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::machine::ImageState;

/// What is known of the instance on the old host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OldInstance {
    /// It was last seen there, running or not.
    Present,
    /// It was told to go, and nobody has looked since.
    Unconfirmed,
    /// Somebody looked after the last call that could have made it, and it is not there.
    Gone,
}

/// What a migration looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationFacts {
    /// Whether the new host can be reached.
    pub target_reachable: bool,
    /// Whether the node's resources are reserved on the new host.
    pub reserved: bool,
    /// Its image on the new host.
    pub image: ImageState,
    /// Whether the old host can be reached.
    pub source_reachable: bool,
    /// Its instance on the old host.
    pub old: OldInstance,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MigrationStep {
    /// Nothing can be done: the new host cannot be reached.
    BlockedByTarget,
    /// Reserve its resources on the new host.
    Reserve,
    /// Fetch its image to the new host.
    FetchImage,
    /// Wait until the image is there.
    AwaitImage,
    /// The image could not be fetched: give up and leave the old instance alone.
    FailedImage,
    /// Nothing can be done: the old host cannot be reached, and a second instance must not start.
    BlockedBySource,
    /// Stop and remove the old instance.
    RemoveOld,
    /// Look whether the old instance is gone.
    ConfirmGone,
    /// Start the new instance.
    StartNew,
}

/// The next step of a migration.
pub const fn next_step(facts: MigrationFacts) -> MigrationStep {
    if !facts.target_reachable {
        return MigrationStep::BlockedByTarget;
    }
    if !facts.reserved {
        return MigrationStep::Reserve;
    }
    match facts.image {
        ImageState::Absent => return MigrationStep::FetchImage,
        ImageState::Syncing => return MigrationStep::AwaitImage,
        ImageState::Failed => return MigrationStep::FailedImage,
        ImageState::Present => {}
    }
    match facts.old {
        OldInstance::Gone => MigrationStep::StartNew,
        OldInstance::Present | OldInstance::Unconfirmed if !facts.source_reachable => MigrationStep::BlockedBySource,
        OldInstance::Present => MigrationStep::RemoveOld,
        OldInstance::Unconfirmed => MigrationStep::ConfirmGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_combination() -> impl Iterator<Item = MigrationFacts> {
        let each = |bits: u8| move |n: u8| bits >> n & 1 == 1;
        (0..8u8).flat_map(move |bits| {
            let bit = each(bits);
            ImageState::VARIANTS.iter().flat_map(move |&image| {
                OldInstance::VARIANTS.iter().map(move |&old| MigrationFacts {
                    target_reachable: bit(0),
                    reserved: bit(1),
                    source_reachable: bit(2),
                    image,
                    old,
                })
            })
        })
    }

    #[test]
    fn the_old_instance_is_touched_only_when_the_target_is_ready() {
        for facts in every_combination() {
            let ready = facts.target_reachable && facts.reserved && facts.image == ImageState::Present;
            let step = next_step(facts);
            let touches =
                matches!(step, MigrationStep::RemoveOld | MigrationStep::ConfirmGone | MigrationStep::StartNew);
            assert_eq!(touches || step == MigrationStep::BlockedBySource, ready, "{facts:?}: {step}");
            if step == MigrationStep::StartNew {
                assert_eq!(facts.old, OldInstance::Gone);
            }
            if matches!(step, MigrationStep::RemoveOld | MigrationStep::ConfirmGone) {
                assert!(facts.source_reachable, "{facts:?}: {step}");
            }
        }
    }

    /// From every combination with both hosts reachable, doing what is said leads to the new instance.
    #[test]
    fn every_migration_ends() {
        for mut facts in every_combination().filter(|f| f.target_reachable && f.source_reachable) {
            let mut steps = 0;
            loop {
                match next_step(facts) {
                    MigrationStep::Reserve => facts.reserved = true,
                    MigrationStep::FetchImage => facts.image = ImageState::Syncing,
                    MigrationStep::AwaitImage => facts.image = ImageState::Present,
                    MigrationStep::RemoveOld => facts.old = OldInstance::Unconfirmed,
                    MigrationStep::ConfirmGone => facts.old = OldInstance::Gone,
                    MigrationStep::StartNew => break,
                    MigrationStep::FailedImage => {
                        assert_eq!(facts.image, ImageState::Failed);
                        break;
                    }
                    step => panic!("{facts:?}: {step}"),
                }
                steps += 1;
                assert!(steps < 6, "{facts:?}");
            }
        }
    }
}
