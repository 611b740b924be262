//! Laws about what is read of links, and about changing them.

use std::time::Duration;

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::network::NetworkEvent;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use tokio::time::timeout;

use super::super::Verdict;
use super::super::runner::eventually;
use super::Bench;

pub(super) async fn verify_changes_nothing(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    let (report, observed) = (bench.verify(&identity).await, bench.observe().await);
    for _ in 0..5 {
        assert_eq!(bench.verify(&identity).await, report);
        assert_eq!(bench.observe().await, observed);
    }
    bench.fixture.delete(&request.a).await;
    let ends = bench.ends(&request).await;
    assert!(!bench.is_intact(&identity).await);
    assert_eq!(bench.ends(&request).await, ends, "verifying a broken link repaired or removed something");
    Ok(())
}

pub(super) async fn an_end_made_again_under_its_old_name_is_not_intact(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    for point in [&request.a, &request.b] {
        if bench.fixture.exists(point).await {
            bench.fixture.delete(point).await;
        }
        bench.fixture.make_foreign(point).await;
        assert!(!bench.is_intact(&identity).await, "an interface of the same name and address passes for the old one");
    }
    Ok(())
}

pub(super) async fn a_missing_end_is_not_intact_and_connect_repairs(bench: &Bench) -> Verdict {
    let (mut request, identity) = bench.linked(1).await;
    bench.fixture.delete(&request.b).await;
    assert!(!bench.is_intact(&identity).await);
    request.incarnation = 2;
    let repaired = bench.connect(&request).await;
    eventually("the link is up again", async || bench.is_up(&repaired).await).await;
    Ok(())
}

pub(super) async fn both_ends_or_none(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    bench.fixture.take_place(&request.a).await?;
    eventually("the far end is gone too", async || !bench.fixture.exists(&request.b).await).await;
    assert!(!bench.is_intact(&identity).await);
    bench.backend().disconnect(&identity).await.expect("disconnect of what is gone");
    assert_eq!(bench.observed(request.link).await, []);
    Ok(())
}

pub(super) async fn attributes_change_in_place(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    for mtu in [1400, 1500] {
        let attrs = LinkAttrs { mtu, ..request.attrs };
        for _ in 0..2 {
            bench.backend().set_params(&identity, &attrs).await.expect("set parameters");
        }
        let report = bench.verify(&identity).await;
        assert!(report.is_intact(), "changing attributes changed the identity: {report:?}");
        assert_eq!((report.a.mtu, report.b.map(|b| b.mtu)), (mtu, Some(mtu)));
    }
    Ok(())
}

pub(super) async fn a_rate_is_set_or_refused_by_name(bench: &Bench) -> Verdict {
    let can = bench.backend().capabilities().rate;
    set_or_refused(bench, can, "rate", |attrs| attrs.rate = Some(100_000_000)).await
}

pub(super) async fn a_delay_is_set_or_refused_by_name(bench: &Bench) -> Verdict {
    let can = bench.backend().capabilities().delay;
    set_or_refused(bench, can, "delay", |attrs| (attrs.delay, attrs.jitter) = (Some(2_000), Some(100))).await
}

pub(super) async fn a_loss_is_set_or_refused_by_name(bench: &Bench) -> Verdict {
    let can = bench.backend().capabilities().loss;
    set_or_refused(bench, can, "loss", |attrs| attrs.loss = Some(0.01)).await
}

async fn set_or_refused(bench: &Bench, can: bool, name: &str, set: impl Fn(&mut LinkAttrs)) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    let mut attrs = request.attrs;
    attrs.mtu = 1400;
    set(&mut attrs);
    let result = bench.backend().set_params(&identity, &attrs).await;
    let report = bench.verify(&identity).await;
    assert!(report.is_intact(), "{report:?}");
    if can {
        result.unwrap_or_else(|error| panic!("capability `{name}` is claimed, but: {error:?}"));
        assert_eq!(report.a.mtu, 1400);
        bench.backend().set_params(&identity, &request.attrs).await.expect("take it back");
    } else {
        let error = result.expect_err("what is not claimed is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.chain().contains(name), "the refusal does not name `{name}`: {error:?}");
        assert_eq!(report.a.mtu, 1500, "a refused change was made in part");
        let mut request = bench.request(2).await;
        set(&mut request.attrs);
        let error = bench.backend().connect(&request).await.expect_err("what is not claimed is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        bench.assert_gone(&request).await;
    }
    Ok(())
}

pub(super) async fn admin_down_is_intact_but_not_up(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    let down = LinkAttrs { admin: Admin::Down, ..request.attrs };
    bench.backend().set_params(&identity, &down).await.expect("set down");
    eventually("the link is down", async || !bench.is_up(&identity).await).await;
    assert!(bench.is_intact(&identity).await);
    bench.backend().set_params(&identity, &request.attrs).await.expect("set up");
    eventually("the link is up again", async || bench.is_up(&identity).await).await;

    let mut born_down = bench.request(2).await;
    born_down.attrs.admin = Admin::Down;
    let identity = bench.connect(&born_down).await;
    assert!(bench.is_intact(&identity).await);
    assert!(!bench.is_up(&identity).await, "a link that is to be down was built up");
    Ok(())
}

pub(super) async fn the_other_end_loses_carrier(bench: &Bench) -> Verdict {
    let (_, identity) = bench.linked(1).await;
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    for side in [Side::A, Side::B] {
        bench.backend().set_carrier(&identity, side, false).await.expect("take carrier");
        eventually("the other end lost carrier", async || {
            let report = bench.verify(&identity).await;
            let other = if side == Side::A { report.b.clone() } else { Some(report.a.clone()) };
            report.is_intact() && other.is_some_and(|end| !end.carrier)
        })
        .await;
        bench.backend().set_carrier(&identity, side, true).await.expect("give carrier");
        eventually("the link is up again", async || bench.is_up(&identity).await).await;
    }
    Ok(())
}

pub(super) async fn news_arrive(bench: &Bench) -> Verdict {
    let (request, identity) = bench.linked(1).await;
    eventually("the link is up", async || bench.is_up(&identity).await).await;
    let mut news = bench.backend().watch();
    bench.fixture.delete(&request.a).await;
    loop {
        let event = timeout(Duration::from_secs(10), news.next()).await.expect("nothing was heard of a deleted end");
        match event {
            Some(NetworkEvent::Changed(link)) if link == request.link => break,
            Some(NetworkEvent::Resync) => break,
            Some(NetworkEvent::Changed(_)) => {}
            None => panic!("the news ended while the backend lives"),
        }
    }
    Ok(())
}
