//! Death at every named point between two outside effects, of the keeper, of the helper that launches an init, or of an
//! init; and what a later controller with a new keeper makes of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::InstanceState;
use lifecycle_provider_netns::{CRASH_POINTS, NetnsProvider};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::{Corner, create, eventually, is_root, run, sh, state};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] =
    &[("crash::every_point_is_reached_and_survived", every_point_is_reached_and_survived)];

const GRACE: Duration = Duration::from_secs(2);

fn every_point_is_reached_and_survived() -> Verdict {
    // Most of the time is spent waiting for keepers to retire, so that several wait at once.
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(point) = CRASH_POINTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Without pins there is no moment after pinning.
                    if *point != "create-pinned" || is_root() {
                        crash_at(point);
                    }
                }
            });
        }
    });
    Ok(())
}

/// A life of a node, given up at the first failure.
async fn live(provider: &NetnsProvider, corner: &Corner) -> lifecycle_core::Result<()> {
    let request = corner.script(1, "sleep 1000");
    let node = provider.create_node(&request).await?.instance;
    provider.start_node(&node).await?;
    provider.stop_node(&node, GRACE).await?;
    provider.start_node(&node).await?;
    provider.destroy_node(&node).await
}

fn crash_at(point: &'static str) {
    let mut corner = Corner::new();
    corner.context.settings = json!({ "keeper_env": [["LIFECYCLE_CRASH_AT", point]] });
    // The bystander is made before: a keeper that is not told to die.
    let quiet = lifecycle_core::plugin::HostContext { settings: json!({}), ..corner.context.clone() };
    let verdict = run(corner, async |corner| {
        let calm = NetnsProvider::new(&quiet).unwrap();
        let bystander = create(&calm, &corner.request(2)).await;
        calm.start_node(&bystander).await.unwrap();
        let init = corner.init("n2").unwrap();
        kill(Pid::from_raw(corner.keeper().unwrap()), Signal::SIGKILL).unwrap();
        eventually("the first keeper is gone", async || corner.keeper().is_none()).await;

        let provider = corner.provider();
        let lived = live(&provider, &corner).await;
        assert!(corner.keeper_log().contains(&format!("died at {point}\n")), "{point} was not reached: {lived:?}");
        drop((provider, calm));
        if let Some(keeper) = corner.keeper() {
            // A helper or an init died; the keeper goes too, since what it starts would die again.
            kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
            eventually("the second keeper is gone", async || corner.keeper().is_none()).await;
        }

        let context = lifecycle_core::plugin::HostContext { epoch: 2, ..quiet };
        let provider = NetnsProvider::new(&context).unwrap();
        let listed = provider.list_nodes().await.unwrap();
        assert!(
            listed.iter().any(|node| node.instance == bystander && node.state == InstanceState::Running),
            "{point}"
        );
        assert_eq!(corner.init("n2"), Some(init), "{point}: the bystander was touched");
        let known = listed.iter().any(|node| node.instance != bystander);
        assert!(known || lived.is_ok() || point.starts_with("destroy"), "{point}: not listed: {listed:?}");
        // Whatever was left, doing it again comes to the end that was wanted.
        let request = corner.script(1, "sleep 1000");
        let node = create(&provider, &request).await;
        eventually("it runs", async || {
            // An init that was asked to stop before all this may only now come to its end.
            provider.stop_node(&node, GRACE).await.is_ok()
                && create(&provider, &request).await == node
                && provider.start_node(&node).await.is_ok()
        })
        .await;
        assert_eq!(state(&provider, &node).await, InstanceState::Running, "{point}");
        eventually("it runs once", async || sh(&provider, &node, "pgrep -fxc 'sleep 1000'").await.1 == "1").await;
        assert_eq!(corner.processes().iter().filter(|(_, name)| name == "lc:n1").count(), 1, "{point}: two inits");
        provider.stop_node(&node, GRACE).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Created, "{point}");
        for node in [node, bystander] {
            provider.destroy_node(&node).await.unwrap_or_else(|error| panic!("{point}: {error:?}"));
        }
        Ok(())
    });
    verdict.unwrap();
}
