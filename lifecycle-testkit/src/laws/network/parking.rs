//! Laws about ends that go from one link to another.

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::AttachPoint;
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::network::{EndIdentity, EndMark, LinkRequest};
use lifecycle_core::policy::link::Side;

use super::super::Verdict;
use super::super::runner::eventually;
use super::Bench;

/// What tells that an end is the same.
fn same(end: Option<&EndIdentity>) -> Option<(u64, u32)> {
    end.map(|end| (end.namespace, end.ifindex))
}

/// Another link between points that links had before.
fn between(like: &LinkRequest, number: u64, a: &AttachPoint, b: &AttachPoint) -> LinkRequest {
    LinkRequest { link: LinkId::from_u64(like.link.as_u64() + number), a: a.clone(), b: b.clone(), ..like.clone() }
}

pub(super) async fn parked_ends_are_taken_over_in_place(bench: &Bench) -> Verdict {
    let (first, one) = bench.linked(1).await;
    let (second, two) = bench.linked(2).await;
    let (_, bystander) = bench.linked(3).await;
    let parks = bench.backend().capabilities().parks;
    let points = [&first.a, &first.b, &second.a, &second.b];
    let (third, fourth) = (between(&first, 10, &first.a, &second.a), between(&first, 11, &second.b, &first.b));
    let heirs = [Some(third.mark(Side::A)), Some(fourth.mark(Side::B))];
    if !points.iter().all(|point| parks.contains(&point.place.name())) {
        let error = bench.backend().park(&one, heirs).await.expect_err("park what cannot be parked");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(bench.is_intact(&one).await, "what was refused was done");
        return Ok(());
    }
    let reopened = bench.fixture.reopened();
    reopened.initialize().await.expect("initialize");
    for backend in [bench.backend(), reopened] {
        backend.park(&one, heirs).await.expect("park");
        assert_eq!(bench.ends(&first).await, [true, true], "an end went");
        assert!(!bench.is_intact(&one).await, "it is parked and intact");
        assert_eq!(bench.observed(first.link).await, [], "something is left of the link");
        assert_eq!([bench.observed(third.link).await.len(), bench.observed(fourth.link).await.len()], [1, 1]);
    }
    assert!(bench.is_intact(&two).await && bench.is_intact(&bystander).await, "parking one link touched another");
    assert!(!bench.fixture.passes(&first.a, &first.b).await.unwrap_or(false), "parked ends are joined");

    let heirs = [Some(third.mark(Side::B)), Some(fourth.mark(Side::A))];
    bench.backend().park(&two, heirs).await.expect("park");
    let (three, four) = (bench.connect(&third).await, bench.connect(&fourth).await);
    let now = [Some(&three.a), three.b.as_ref(), Some(&four.a), four.b.as_ref()].map(same);
    let before = [Some(&one.a), Some(&two.a), two.b.as_ref(), one.b.as_ref()].map(same);
    assert_eq!(now, before, "an end was made anew");
    for (identity, request) in [(&three, &third), (&four, &fourth)] {
        eventually("the new link is up", async || bench.is_up(identity).await).await;
        assert!(bench.fixture.passes(&request.a, &request.b).await.unwrap_or(true), "no frame arrives");
        assert_eq!(bench.connect(request).await, *identity, "connecting once more changed it");
    }
    bench.backend().disconnect(&four).await.expect("disconnect");
    bench.assert_gone(&fourth).await;
    assert!(bench.is_intact(&three).await && bench.is_intact(&bystander).await);

    // What was taken over is mended, and replaced, as if it had been made for the link.
    bench.fixture.delete(&third.a).await;
    let mended = bench.connect(&third).await;
    assert_eq!(same(mended.b.as_ref()), same(three.b.as_ref()), "the end that stood was made anew");
    eventually("the mended link is up", async || bench.is_up(&mended).await).await;
    let newer = LinkRequest { incarnation: third.incarnation + 1, ..third.clone() };
    let replaced = bench.connect(&newer).await;
    assert_ne!(same(replaced.b.as_ref()), same(mended.b.as_ref()));
    eventually("the newer link is up", async || bench.is_up(&replaced).await).await;
    bench.backend().disconnect(&replaced).await.expect("disconnect");
    bench.assert_gone(&third).await;
    Ok(())
}

pub(super) async fn what_is_parked_can_be_collected(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    if !bench.backend().capabilities().parks.contains(&request.a.place.name()) {
        return Ok(());
    }
    let heir = EndMark { link: LinkId::from_u64(request.link.as_u64() + 10), incarnation: 4, side: Side::B };
    bench.backend().park(&identity, [Some(heir), None]).await.expect("park");
    assert_eq!(bench.ends(&request).await, [true, false], "an end without an heir stayed, or one with an heir went");
    bench.backend().disconnect(&identity).await.expect("disconnect of what is gone");
    assert_eq!(bench.ends(&request).await, [true, false], "what belongs to another link went with this one");
    let found = bench.observed(heir.link).await;
    assert_eq!(found.iter().map(|found| found.incarnation).collect::<Vec<_>>(), [Some(heir.incarnation)]);
    bench.backend().remove(&found[0], &bench.fixture.namespaces()).await.expect("remove");
    bench.assert_gone(&request).await;
    assert_eq!(bench.observed(heir.link).await, []);
    Ok(())
}
