//! The laws that every provider keeps to. Their node is a machine with nothing to boot, which runs until it is powered off;
//! where commands are to be run, it is the tests' own guest.

use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::plugin::Provider;
use lifecycle_core::topology::NodeSpec;
use lifecycle_linux::testing::libvirt::missing;
use lifecycle_testkit::laws::provider::{ProviderFixture, suite as laws};
use lifecycle_testkit::laws::{Skip, Suite, Verdict};

use crate::WORD;
use crate::bench::{self, BLANK, Bench, GUEST};

pub(crate) fn suite() -> Suite {
    laws(WORD, || {
        if let Some(reason) = missing() {
            return Err(Skip::new(WORD, reason));
        }
        let bench = Bench::take();
        Ok(Fixture { provider: bench.provider(), bench })
    })
}

struct Fixture {
    provider: Arc<dyn Provider>,
    bench: Bench,
}

const FOREIGN: &str = "<domain type='qemu'><memory unit='MiB'>32</memory><os><type>hvm</type></os>";

#[async_trait]
impl ProviderFixture for Fixture {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    fn reopened(&self) -> Arc<dyn Provider> {
        self.bench.provider()
    }

    fn sleeper(&self) -> NodeSpec {
        bench::spec("sleeper", BLANK)
    }

    fn commanded(&self) -> NodeSpec {
        bench::spec("commanded", GUEST)
    }

    fn script(&self, _script: &str) -> Result<NodeSpec, Skip> {
        Err(Skip::new("script", "a machine runs no script, and has no exit code"))
    }

    async fn make_foreign(&self, identifier: &str) -> Verdict {
        let file = self.bench.vms().with_extension("foreign");
        let text = format!("{FOREIGN}<name>{identifier}</name><description>mine</description></domain>");
        std::fs::write(&file, text).unwrap();
        self.bench.virsh(&["define", &file.to_string_lossy()]);
        Ok(())
    }

    async fn foreign_is_intact(&self, identifier: &str) -> bool {
        let state = self.bench.try_virsh(&["domstate", identifier]);
        let told = self.bench.try_virsh(&["desc", identifier]);
        (state.as_deref(), told.as_deref()) == (Ok("shut off"), Ok("mine"))
    }

    async fn leftovers(&self, identifier: &str) -> Vec<String> {
        let mut left = Vec::new();
        let names = self.bench.virsh(&["list", "--all", "--name"]);
        left.extend(names.lines().filter(|name| *name == identifier).map(str::to_owned));
        let mut folders = vec![self.bench.vms()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                if path.to_string_lossy().contains(identifier) {
                    left.push(path.display().to_string());
                }
                folders.extend(path.is_dir().then_some(path));
            }
        }
        left
    }

    async fn teardown(&self) {
        for name in self.bench.virsh(&["list", "--all", "--name"]).lines().filter(|name| !name.is_empty()) {
            let _ = self.bench.try_virsh(&["destroy", name]);
            self.bench.virsh(&["undefine", name]);
        }
    }
}
