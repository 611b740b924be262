//! Many links come and go in random order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};

use super::NetworkFixture;
use crate::sim::chance::Chance;

/// How long links come and go, unless `LIFECYCLE_CHURN_SECONDS` says otherwise.
const SECONDS: u64 = 5;
/// Most links that are built or removed at once.
const AT_ONCE: usize = 40;

/// Has the links of some requests come and go in random order for some seconds. In between and at the end, when all are
/// gone, everything that is observed has to be just what is in use, and `look` may look closer.
///
/// # Panics
/// When it is not, or a link cannot be built, verified or removed.
pub async fn churn(fixture: &dyn NetworkFixture, requests: &[LinkRequest], look: impl Fn(&BTreeSet<LinkId>)) {
    let seconds = std::env::var("LIFECYCLE_CHURN_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let began = Instant::now();
    let mut chance = Chance::new(u64::from(std::process::id()), "churn");
    let backend = fixture.backend();
    let mut up: BTreeMap<LinkId, LinkIdentity> = BTreeMap::new();
    let mut incarnations: BTreeMap<LinkId, u64> = BTreeMap::new();
    let mut rounds = 0;
    while began.elapsed() < time || !up.is_empty() {
        let ends = began.elapsed() >= time;
        let picked: BTreeSet<usize> = (0..AT_ONCE).map(|_| chance.below(requests.len() as u64) as usize).collect();
        let picked =
            picked.into_iter().map(|at| &requests[at]).filter(|request| !ends || up.contains_key(&request.link));
        let (going, coming): (Vec<_>, Vec<_>) = picked.partition(|request| up.contains_key(&request.link));
        let removed = going.iter().filter_map(|request| up.remove(&request.link)).collect::<Vec<_>>();
        let coming = coming.into_iter().map(|request| {
            let incarnation = incarnations.entry(request.link).or_insert(0);
            *incarnation += 1;
            LinkRequest { incarnation: *incarnation, ..request.clone() }
        });
        let coming: Vec<LinkRequest> = coming.collect();
        // Both at once, as when one lab goes and another one comes.
        let (built, gone) = join(
            join_all(coming.iter().map(|request| backend.connect(request))),
            join_all(removed.iter().map(|identity| backend.disconnect(identity))),
        )
        .await;
        gone.into_iter().for_each(|result| result.expect("disconnect"));
        for identity in built {
            let identity = identity.expect("connect");
            up.insert(identity.link, identity);
        }
        rounds += 1;
        if rounds % 8 == 0 || up.is_empty() {
            let in_use: BTreeSet<LinkId> = up.keys().copied().collect();
            let found = backend.observe(&fixture.namespaces()).await.expect("observe");
            assert_eq!(found.iter().map(|found| found.link).collect::<BTreeSet<_>>(), in_use);
            look(&in_use);
            if let Some(identity) = up.values().nth(chance.below(up.len().max(1) as u64) as usize) {
                let report = backend.verify(identity).await.expect("verify");
                assert!(report.is_intact(), "{report:?}");
            }
        }
    }
}
