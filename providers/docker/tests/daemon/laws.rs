//! The laws that every provider keeps to.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use async_trait::async_trait;
use lifecycle_core::plugin::Provider;
use lifecycle_core::topology::NodeSpec;
use lifecycle_linux::testing::container_daemon::Kind;
use lifecycle_testkit::laws::provider::{ProviderFixture, suite as laws};
use lifecycle_testkit::laws::{Skip, Suite, Verdict};

use crate::bench::{self, Corner, Daemon, IMAGE, SLEEP};

pub(crate) fn suite(word: &'static str, kind: Kind) -> Suite {
    laws(word, move || {
        let daemon = bench::daemon(kind).map_err(|reason| Skip::new(word, reason))?;
        let turn = Turn::wait();
        let corner = daemon.corner();
        Ok(Fixture { daemon, provider: corner.provider(), corner, _turn: turn })
    })
}

/// Laws give their nodes the same identifiers each time, and so the same names on a daemon that they share: one at a time.
struct Turn;

static TAKEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Turn {
    fn wait() -> Self {
        let taken = TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        *TAKEN.1.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner) = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        TAKEN.1.notify_one();
    }
}

struct Fixture {
    daemon: &'static Daemon,
    provider: Arc<dyn Provider>,
    corner: Corner,
    _turn: Turn,
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
        bench::spec("sleeper", SLEEP)
    }

    fn script(&self, script: &str) -> Result<NodeSpec, Skip> {
        Ok(bench::spec("script", script))
    }

    async fn make_foreign(&self, identifier: &str) -> Verdict {
        self.daemon.run(&["create", "--name", identifier, "--label", "mine=1", IMAGE]);
        Ok(())
    }

    async fn foreign_is_intact(&self, identifier: &str) -> bool {
        let format = "{{.State.Status}} {{index .Config.Labels \"mine\"}}";
        self.daemon.try_run(&["inspect", "--format", format, identifier]).is_ok_and(|text| text == "created 1")
    }

    async fn leftovers(&self, identifier: &str) -> Vec<String> {
        let names = self.daemon.run(&["ps", "--all", "--format", "{{.Names}}"]);
        names.lines().filter(|name| name.starts_with(identifier)).map(str::to_owned).collect()
    }

    async fn teardown(&self) {
        let mine = self.daemon.run(&["ps", "--all", "--quiet", "--filter", "label=mine=1"]);
        for id in mine.lines() {
            self.daemon.run(&["rm", "--force", id]);
        }
    }
}
