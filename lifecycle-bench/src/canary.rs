//! Tells when namespaces are really gone. The kernel takes them apart some time after their last user has left, and says
//! nothing; but one end of a veth that stands elsewhere vanishes with the other.

use std::time::Duration;

use crate::measure::{Result, until};
use crate::raw::Space;

/// One end of a veth in a namespace that is watched, the other in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Canary {
    home: Space,
    count: usize,
}

impl Canary {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { home: Space::new()?, count: 0 })
    }

    /// Watches a namespace too.
    pub(crate) fn watch(&mut self, space: &Space) -> Result<()> {
        self.count += 1;
        self.home.veth(&format!("canary{}", self.count), space, "canary")
    }

    /// Lets namespaces go and waits until the kernel has taken them apart.
    pub(crate) fn release(spaces: Vec<Space>) -> Result<()> {
        let mut canary = Self::new()?;
        spaces.iter().try_for_each(|space| canary.watch(space))?;
        drop(spaces);
        canary.wait()
    }

    /// Waits until all of them are gone.
    pub(crate) fn wait(&self) -> Result<()> {
        let gone = || Ok((1..=self.count).all(|number| !self.home.has(&format!("canary{number}"))));
        until("the namespaces are gone", Duration::from_secs(60), gone)
    }
}
