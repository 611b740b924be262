//! Many links at once.

use futures_util::future::join_all;
use lifecycle_testkit::laws::Verdict;
use lifecycle_testkit::laws::network::churn;

use super::fixture::Fixture;

pub(crate) async fn links_at_once(fixture: &Fixture) -> Verdict {
    const NODES: u64 = 30;
    let requests = fixture.nodes.ring(NODES);
    let identities = join_all(requests.iter().map(|request| fixture.backend.connect(request))).await;
    let identities: Vec<_> = identities.into_iter().collect::<Result<_, _>>().unwrap();
    let reports = join_all(identities.iter().map(|identity| fixture.backend.verify(identity))).await;
    assert!(reports.into_iter().all(|report| report.unwrap().is_up()));
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap().len(), identities.len());
    let gone = join_all(identities.iter().map(|identity| fixture.backend.disconnect(identity))).await;
    assert!(gone.into_iter().all(|result| result.is_ok()));
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    Ok(())
}

/// Links come and go in random order.
pub(crate) async fn links_come_and_go(fixture: &Fixture) -> Verdict {
    churn(fixture, &fixture.nodes.ring(300), |_| {}).await;
    Ok(())
}
