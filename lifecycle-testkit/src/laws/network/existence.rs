//! Laws about what exists after links are built and removed.

use std::time::Duration;

use lifecycle_core::ErrorKind;
use tokio::time::timeout;

use super::super::Verdict;
use super::super::runner::eventually;
use super::Bench;

pub(super) async fn a_connected_link_is_up(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    assert_eq!((identity.link, identity.incarnation), (request.link, request.incarnation));
    assert_eq!(identity.a.point, request.a);
    assert_eq!(identity.b.as_ref().map(|b| &b.point), Some(&request.b));
    assert_eq!(identity.a.mac, request.a.mac);
    assert_eq!(bench.ends(&request).await, [true, true]);
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    let report = bench.verify(&identity).await;
    assert_eq!((report.a.mtu, report.b.as_ref().map(|b| b.mtu)), (1500, Some(1500)));
    assert!(report.problems.is_empty(), "{report:?}");
    Ok(())
}

pub(super) async fn a_link_that_is_up_passes_frames(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    assert!(bench.fixture.passes(&request.a, &request.b).await?, "no frame went from a to b");
    assert!(bench.fixture.passes(&request.b, &request.a).await?, "no frame went from b to a");
    Ok(())
}

pub(super) async fn initialize_is_idempotent(bench: &Bench) -> Verdict {
    let (_, identity) = bench.linked(1).await;
    bench.backend().initialize().await.expect("initialize again");
    bench.fixture.reopened().initialize().await.expect("initialize after a restart");
    assert!(bench.is_intact(&identity).await);
    Ok(())
}

pub(super) async fn connect_is_idempotent(bench: &Bench) -> Verdict {
    let (request, first) = bench.linked(1).await;
    let reopened = bench.fixture.reopened();
    reopened.initialize().await.expect("initialize");
    for backend in [bench.backend(), reopened] {
        assert_eq!(backend.connect(&request).await.expect("connect again"), first);
    }
    assert!(bench.is_intact(&first).await);
    Ok(())
}

pub(super) async fn an_older_incarnation_is_replaced(bench: &Bench) -> Verdict {
    let (mut request, first) = bench.linked(1).await;
    request.incarnation = 2;
    let second = bench.connect(&request).await;
    assert_eq!(second.incarnation, 2);
    assert!(bench.is_intact(&second).await, "the new incarnation does not stand");
    assert!(!bench.is_intact(&first).await, "the old incarnation still stands");
    for found in bench.observed(request.link).await {
        assert!(found.incarnation.is_none_or(|incarnation| incarnation == 2), "{found:?}");
    }
    bench.backend().disconnect(&second).await.expect("disconnect");
    bench.assert_gone(&request).await;
    Ok(())
}

pub(super) async fn connect_is_atomic(bench: &Bench) -> Verdict {
    for swapped in [false, true] {
        let mut request = bench.request(1 + u64::from(swapped)).await;
        bench.fixture.make_foreign(&request.b).await;
        if swapped {
            std::mem::swap(&mut request.a, &mut request.b);
        }
        let error = bench.backend().connect(&request).await.expect_err("connect to where something foreign stands");
        assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
        assert_eq!(bench.ends(&request).await, [swapped, !swapped], "half a link is left, or the foreign end is gone");
        assert_eq!(bench.observed(request.link).await, []);

        let in_the_way = if swapped { &request.a } else { &request.b };
        bench.fixture.delete(in_the_way).await;
        let identity = bench.connect(&request).await;
        assert!(bench.is_intact(&identity).await, "once nothing is in the way, the same request succeeds");
    }
    Ok(())
}

pub(super) async fn a_cancelled_connect_is_never_half_visible(bench: &Bench) -> Verdict {
    for (number, cut) in (1..).zip([0, 1, 2, 4, 9, 30].map(Duration::from_millis)) {
        let request = bench.request(number).await;
        drop(timeout(cut, bench.backend().connect(&request)).await);
        let [a, b] = bench.ends(&request).await;
        assert_eq!(a, b, "half a link is visible after a cut at {cut:?}");
        let identity = bench.connect(&request).await;
        assert!(bench.is_intact(&identity).await, "cut at {cut:?}");
        bench.backend().disconnect(&identity).await.expect("disconnect");
        bench.assert_gone(&request).await;
    }
    Ok(())
}

pub(super) async fn a_link_is_marked_from_birth(bench: &Bench) -> Verdict {
    let requests = [bench.request(1).await, bench.request(2).await];
    bench.fixture.make_foreign(&bench.fixture.point().await).await;
    assert_eq!(bench.observe().await, [], "something that is not ours is observed");
    for request in &requests {
        bench.connect(request).await;
    }
    let reopened = bench.fixture.reopened();
    reopened.initialize().await.expect("initialize");
    for backend in [bench.backend(), reopened] {
        let mut found = backend.observe(&bench.fixture.namespaces()).await.expect("observe");
        found.sort_by_key(|found| found.link);
        let links: Vec<_> = found.iter().map(|found| found.link).collect();
        assert_eq!(links, requests.clone().map(|request| request.link), "{found:?}");
        for found in &found {
            assert!(found.incarnation.is_none_or(|incarnation| incarnation == 1), "{found:?}");
            assert!(!found.interfaces.is_empty(), "{found:?}");
        }
    }
    Ok(())
}

pub(super) async fn foreign_interfaces_are_refused_and_left_alone(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    bench.fixture.delete(&request.a).await;
    bench.fixture.make_foreign(&request.a).await;
    let intact = async |after: &str| {
        assert!(bench.fixture.exists(&request.a).await, "{after} removed a foreign interface");
    };
    let tolerated = |result: lifecycle_core::Result<()>, what: &str| {
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Foreign, "{what}: {error:?}");
        }
    };
    let error = bench.backend().connect(&request).await.expect_err("connect over a foreign interface");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    intact("connect").await;
    tolerated(bench.backend().disconnect(&identity).await, "disconnect");
    intact("disconnect").await;
    for found in bench.observed(request.link).await {
        tolerated(bench.backend().remove(&found, &bench.fixture.namespaces()).await, "remove");
    }
    intact("remove").await;
    tolerated(bench.backend().cleanup().await, "cleanup");
    intact("cleanup").await;
    Ok(())
}

pub(super) async fn disconnect_is_idempotent_and_complete(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    let (_, other) = bench.linked(2).await;
    for _ in 0..2 {
        bench.backend().disconnect(&identity).await.expect("disconnect");
        bench.assert_gone(&request).await;
    }
    assert!(!bench.is_intact(&identity).await);
    assert!(bench.is_intact(&other).await, "disconnecting one link touched another");

    let (request, identity) = bench.linked(3).await;
    bench.fixture.delete(&request.b).await;
    bench.backend().disconnect(&identity).await.expect("disconnect of what is half gone");
    bench.assert_gone(&request).await;
    Ok(())
}

pub(super) async fn collection_removes_what_was_forgotten(bench: &Bench) -> Verdict {
    let (forgotten, _) = bench.linked(1).await;
    let (_, kept) = bench.linked(2).await;
    let backend = bench.fixture.reopened();
    backend.initialize().await.expect("initialize");
    let found = bench.observed(forgotten.link).await;
    assert!(!found.is_empty());
    for found in &found {
        backend.remove(found, &bench.fixture.namespaces()).await.expect("remove");
        backend.remove(found, &bench.fixture.namespaces()).await.expect("remove again");
    }
    bench.assert_gone(&forgotten).await;
    assert!(bench.is_intact(&kept).await, "collecting one link touched another");
    Ok(())
}

pub(super) async fn cleanup_leaves_links_alone(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    bench.backend().cleanup().await.expect("cleanup");
    assert_eq!(bench.ends(&request).await, [true, true]);
    bench.backend().initialize().await.expect("initialize");
    assert!(bench.is_intact(&identity).await);
    Ok(())
}
