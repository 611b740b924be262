//! Laws about links that another backend takes over.

use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::network::LinkIdentity;

use super::super::Verdict;
use super::super::runner::eventually;
use super::Bench;

/// What tells that the ends are the same.
fn ends(identity: &LinkIdentity) -> Vec<(u64, u32)> {
    identity.ends().map(|end| (end.namespace, end.ifindex)).collect()
}

pub(super) async fn release_keeps_the_ends(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    let (_, other) = bench.linked(2).await;
    let places = [request.a.place.name(), request.b.place.name()];
    let attaches = bench.backend().capabilities().attaches;
    if !places.iter().all(|place| attaches.contains_key(place)) {
        let error = bench.backend().release(&identity).await.expect_err("release what cannot be handed over");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(bench.is_intact(&identity).await, "what was refused was done");
        return Ok(());
    }
    let reopened = bench.fixture.reopened();
    reopened.initialize().await.expect("initialize");
    for backend in [bench.backend(), reopened] {
        backend.release(&identity).await.expect("release");
        assert_eq!(bench.ends(&request).await, [true, true], "an end went");
        assert!(!bench.is_intact(&identity).await, "it is let go of and intact");
        assert_eq!(bench.observed(request.link).await.len(), 1, "what is let go of bears its mark");
    }
    assert!(bench.is_intact(&other).await, "letting go of one link touched another");

    let again = bench.connect(&request).await;
    assert_eq!(ends(&again), ends(&identity), "the ends were made anew");
    eventually("the link is up again", async || bench.is_up(&again).await).await;
    // Before it was taken over it can be removed as it was recorded.
    bench.backend().release(&again).await.expect("release");
    bench.backend().disconnect(&again).await.expect("disconnect");
    bench.assert_gone(&request).await;
    Ok(())
}
