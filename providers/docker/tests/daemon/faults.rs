//! Requests that go wrong, controllers that die between two requests, daemons that hang or die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{CreateNode, InstanceState};
use lifecycle_core::{ErrorKind, Result};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::Test;
use crate::bench::{Corner, Daemon, block_on, eventually, observed, place, started, state};
use crate::proxy::{DELAY, Proxy, Wrong};

pub(crate) const TESTS: &[Test] = &[
    ("every_request_may_be_dropped", |daemon| every_request_may_be(Wrong::Dropped, daemon)),
    ("every_request_may_be_unanswered", |daemon| every_request_may_be(Wrong::Unanswered, daemon)),
    ("every_request_may_be_silent", |daemon| every_request_may_be(Wrong::Silent, daemon)),
    ("every_request_may_be_delayed", |daemon| every_request_may_be(Wrong::Delayed, daemon)),
    ("a_controller_may_die_at_every_request", a_controller_may_die_at_every_request),
];
pub(crate) const OWN: &[Test] = &[("a_daemon_that_hangs_and_dies", a_daemon_that_hangs_and_dies)];

const GRACE: Duration = Duration::from_secs(3);
/// More changing requests than a life of a node has.
const MOST: usize = 30;

fn request(corner: &Corner) -> CreateNode {
    let mut request = corner.request(1);
    request.management = Some(corner.management());
    request
}

/// What a controller does with an operation whose end is not known: it tries again, and looks once more when what was
/// late must have come.
async fn insist<T>(what: &str, mut operation: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let mut doubtful = false;
    loop {
        match operation().await {
            Err(error) if error.kind().is_unknown() || error.kind().is_unreachable() => {
                assert!(began.elapsed() < Duration::from_secs(20), "{what}: {error:?}");
                doubtful = true;
            }
            Ok(_) if std::mem::take(&mut doubtful) => tokio::time::sleep(DELAY).await,
            other => return other,
        }
    }
}

/// A life of a node, each step tried until its end is known.
async fn live(provider: &Arc<dyn Provider>, request: &CreateNode) -> Result<()> {
    let node = insist("create", async || provider.create_node(request).await).await?.instance;
    insist("start", async || provider.start_node(&node).await).await?;
    assert_eq!(state(provider, &node).await, InstanceState::Running);
    insist("stop", async || provider.stop_node(&node, GRACE).await).await?;
    assert!(matches!(state(provider, &node).await, InstanceState::Created | InstanceState::Exited(_)));
    insist("start again", async || provider.start_node(&node).await).await?;
    insist("destroy", async || provider.destroy_node(&node).await).await
}

/// Everything of a corner's that the daemon has.
fn leftovers(daemon: &Daemon, corner: &Corner) -> Vec<String> {
    let containers = daemon.run(&["ps", "--all", "--format", "{{.Names}}"]);
    let networks = daemon.run(&["network", "ls", "--format", "{{.Name}}"]);
    let number = corner.number.to_string();
    containers.lines().chain(networks.lines()).filter(|name| name.contains(&number)).map(str::to_owned).collect()
}

fn every_request_may_be(wrong: Wrong, daemon: &Daemon) {
    for at in 0..MOST {
        let reached = block_on(async {
            let mut corner = daemon.corner();
            let proxy = Proxy::start(daemon.socket(), wrong, at, false);
            corner.endpoint = proxy.endpoint();
            // Shorter than a delay, so that the sender has given up before its request arrives.
            corner.settings = json!({ "deadline_ms": 900 });
            let provider = corner.provider();
            let request = request(&corner);
            live(&provider, &request).await.unwrap_or_else(|error| panic!("{wrong:?} at {at}: {error:?}"));
            eventually("nothing is left", async || leftovers(daemon, &corner).is_empty()).await;
            proxy.was_reached()
        });
        if !reached {
            assert!(at > 7, "a life of a node has only {at} requests");
            break;
        }
    }
}

fn a_controller_may_die_at_every_request(daemon: &Daemon) {
    for wrong in [Wrong::Dropped, Wrong::Unanswered] {
        for at in 0..MOST {
            let reached = block_on(async {
                let corner = daemon.corner();
                let bystander = started(&corner.provider(), &corner.request(2)).await;
                let before = observed(&corner.provider(), &bystander).await;

                // From that request on, nothing that the first controller asks for reaches the daemon.
                let proxy = Proxy::start(daemon.socket(), wrong, at, true);
                let doomed =
                    Corner { endpoint: proxy.endpoint(), settings: json!({}), ..daemon.corner_of(corner.number) };
                let request = request(&corner);
                let provider = doomed.provider();
                let lived = async {
                    let node = provider.create_node(&request).await?.instance;
                    provider.start_node(&node).await?;
                    provider.stop_node(&node, GRACE).await?;
                    provider.start_node(&node).await?;
                    provider.destroy_node(&node).await
                };
                let lived = lived.await;
                drop(provider);
                assert_eq!(lived.is_err(), proxy.was_reached(), "{wrong:?} at {at}: {lived:?}");

                // The next one finds all that there is, and comes to every end that it wants.
                let provider = corner.provider();
                let listed = provider.list_nodes().await.unwrap();
                assert!(listed.contains(&before), "{wrong:?} at {at}: the bystander was touched");
                let mut found = listed.into_iter().filter(|node| node.instance.node == request.node);
                if let Some(node) = found.next()
                    && matches!(node.state, InstanceState::Broken { .. })
                    && provider.create_node(&request).await.is_err()
                {
                    // What was half removed is removed first.
                    provider.destroy_node(&node.instance).await.unwrap();
                }
                assert!(found.next().is_none(), "{wrong:?} at {at}: it is there twice");
                let node = started(&provider, &request).await;
                assert_eq!(state(&provider, &node).await, InstanceState::Running, "{wrong:?} at {at}");
                place(&provider, &node).await;
                assert_eq!(leftovers(daemon, &corner).iter().filter(|name| name.contains("-n1.")).count(), 2);
                for node in [node, bystander] {
                    provider.destroy_node(&node).await.unwrap();
                }
                assert_eq!(leftovers(daemon, &corner), [""; 0], "{wrong:?} at {at}");
                proxy.was_reached()
            });
            if !reached {
                assert!(at > 7, "a life of a node has only {at} requests");
                break;
            }
        }
    }
}

fn a_daemon_that_hangs_and_dies(daemon: &Daemon) {
    block_on(async {
        let mut corner = daemon.corner();
        corner.settings = json!({ "deadline_ms": 1000 });
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let mut news = provider.watch();
        let mut heard = async |what: &str| {
            use futures_util::StreamExt;
            tokio::time::timeout(Duration::from_secs(20), news.next())
                .await
                .unwrap_or_else(|_| panic!("{what}"))
                .unwrap()
        };
        heard("the beginning").await;

        // Hung: what asks is told that nobody can be reached, what acts that it may have happened.
        daemon.with(|daemon| daemon.signal(Signal::SIGSTOP));
        let began = Instant::now();
        assert_eq!(provider.list_nodes().await.unwrap_err().kind(), ErrorKind::Unreachable);
        let error = provider.create_node(&corner.request(2)).await.unwrap_err();
        assert!(error.kind().is_unknown() || error.kind().is_unreachable(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "deadlines were not kept");
        daemon.with(|daemon| daemon.signal(Signal::SIGCONT));
        eventually("it answers again", async || provider.list_nodes().await.is_ok()).await;
        assert_eq!(state(&provider, &node).await, InstanceState::Running);

        // Killed: nobody says that nodes are gone while nobody knows.
        daemon.with(|daemon| daemon.kill());
        assert_eq!(provider.list_nodes().await.unwrap_err().kind(), ErrorKind::Unreachable);
        assert_eq!(provider.observe_node(&node).await.unwrap_err().kind(), ErrorKind::Unreachable);
        assert_eq!(provider.start_node(&node).await.unwrap_err().kind(), ErrorKind::Unreachable);
        heard("its death").await;
        daemon.with(|daemon| daemon.up());
        heard("its return").await;
        // It has ended what it found running, and with the holder the namespace: the node has to be made anew.
        eventually("the truth is told", async || matches!(state(&provider, &node).await, InstanceState::Broken { .. }))
            .await;
        for instance in provider.list_nodes().await.unwrap() {
            provider.destroy_node(&instance.instance).await.unwrap();
        }
        let mut again = corner.request(1);
        again.incarnation = 2;
        let node = started(&provider, &again).await;
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        provider.destroy_node(&node).await.unwrap();
    });
}
