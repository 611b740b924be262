//! Many links at once.

use futures_util::future::join_all;
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::OurName;
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
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap().len(), identities.len());
    let gone = join_all(identities.iter().map(|identity| fixture.backend.disconnect(identity))).await;
    assert!(gone.into_iter().all(|result| result.is_ok()));
    assert_eq!(fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap(), []);
    assert_eq!(fixture.switch_side(), Vec::<String>::new());
    Ok(())
}

/// Links come and go in random order, and bridges and ports are just those in use.
pub(crate) async fn links_come_and_go(fixture: &Fixture) -> Verdict {
    let requests = fixture.nodes.ring(300);
    churn(fixture, &requests, |in_use| {
        let parts = in_use.iter().flat_map(|link| {
            let ends = [Side::A, Side::B].map(|side| OurName::LinkEnd { link: *link, side });
            ends.into_iter().chain([OurName::LinkBridge { link: *link }]).map(|name| name.ifname().to_string())
        });
        let mut parts: Vec<String> = parts.collect();
        parts.sort();
        assert_eq!(fixture.switch_side(), parts);
    })
    .await;
    Ok(())
}
