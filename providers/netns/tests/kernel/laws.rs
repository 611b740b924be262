//! The laws that every provider keeps to.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::name::NodeName;
use lifecycle_core::plugin::Provider;
use lifecycle_core::topology::NodeSpec;
use lifecycle_testkit::laws::provider::{ProviderFixture, suite as laws};
use lifecycle_testkit::laws::{Skip, Suite, Verdict};

use crate::bench::Corner;

pub(crate) fn suite() -> Suite {
    laws("netns", || {
        let corner = Corner::new();
        Ok(Fixture { provider: corner.provider(), corner })
    })
}

struct Fixture {
    provider: Arc<dyn Provider>,
    corner: Corner,
}

impl Fixture {
    /// Where the instance would be that the suite makes under this name: incarnation 1 in the suite's lab.
    fn place(&self, identifier: &str) -> PathBuf {
        let node = identifier.rsplit('.').next().unwrap();
        let lab = lifecycle_core::id::LabId::from_u64(0x1ab);
        self.corner.context.state_dir.join("netns/nodes").join(format!("{node}.1.{lab}"))
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    fn reopened(&self) -> Arc<dyn Provider> {
        self.corner.provider()
    }

    fn sleeper(&self) -> NodeSpec {
        NodeSpec::new(NodeName::new("sleeper").unwrap(), "linux")
    }

    fn script(&self, script: &str) -> Result<NodeSpec, Skip> {
        let mut spec = self.sleeper();
        spec.cmd = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        Ok(spec)
    }

    async fn make_foreign(&self, identifier: &str) -> Verdict {
        let place = self.place(identifier);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "not ours").unwrap();
        Ok(())
    }

    async fn foreign_is_intact(&self, identifier: &str) -> bool {
        fs::read_to_string(self.place(identifier)).is_ok_and(|text| text == "not ours")
    }

    async fn leftovers(&self, identifier: &str) -> Vec<String> {
        let (long, node) = identifier.rsplit_once('.').unwrap();
        let init = format!("\"lc:{}\"", long.rsplit('-').next().unwrap());
        self.corner.census().into_iter().filter(|line| line.contains(node) || line.contains(&init)).collect()
    }
}
