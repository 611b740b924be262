//! Many links at once.

use futures_util::future::join_all;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_testkit::laws::Verdict;
use lifecycle_testkit::laws::network::churn;

use super::fixture::Fixture;

pub(crate) async fn links_at_once(fixture: &Fixture) -> Verdict {
    const NODES: u64 = 30;
    let requests = fixture.nodes.ring(NODES);
    let identities = join_all(requests.iter().map(|request| fixture.backend.connect(request))).await;
    let identities: Vec<_> = identities.into_iter().collect::<Result<_, _>>().unwrap();
    let reports = join_all(identities.iter().map(|identity| fixture.backend.verify(identity))).await;
    for report in reports {
        let report = report.unwrap();
        assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
    }
    // Two ports on each tag, and no tag for two links.
    let tags = fixture.daemon().vsctl(&["--bare", "--columns=tag", "find", "port", "external_ids:lifecycle!=none"]);
    let mut tags: Vec<&str> = tags.split_whitespace().collect();
    tags.sort_unstable();
    assert_eq!(tags.len() as u64, 2 * NODES);
    tags.dedup();
    assert_eq!(tags.len() as u64, NODES);
    // What waited together went together: a batch is one configuration.
    let configurations: u64 = fixture.daemon().vsctl(&["get", "open", ".", "next_cfg"]).parse().unwrap();
    assert!(configurations < NODES / 2, "{configurations} transactions for {NODES} links");
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap().len(), identities.len());
    let gone = join_all(identities.iter().map(|identity| fixture.backend.disconnect(identity))).await;
    assert!(gone.into_iter().all(|result| result.is_ok()));
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    fixture.assert_empty_switch();
    Ok(())
}

/// Links come and go in random order, and ports and tags are just those in use: two ports on each of as many tags.
pub(crate) async fn links_come_and_go(fixture: &Fixture) -> Verdict {
    let requests = fixture.nodes.ring(300);
    churn(fixture, &requests, |in_use| {
        let words = ["--no-wait", "--bare", "--columns=tag", "find", "port", "external_ids:lifecycle!=none"];
        let text = fixture.daemon().vsctl(&words);
        let mut tags: Vec<&str> = text.split_whitespace().collect();
        tags.sort_unstable();
        assert_eq!((tags.len(), fixture.switch_side().len()), (2 * in_use.len(), 2 * in_use.len()));
        assert!(tags.chunks(2).all(|pair| pair[0] == pair[1]), "{tags:?}");
        tags.dedup();
        assert_eq!(tags.len(), in_use.len(), "two links share a tag");
    })
    .await;
    fixture.assert_empty_switch();
    Ok(())
}
