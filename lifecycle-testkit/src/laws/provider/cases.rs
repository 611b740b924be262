//! The laws of [`Provider`](lifecycle_core::plugin::Provider) itself.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{InstanceRef, InstanceState, ProviderEvent};
use tokio::time::timeout;

use super::super::Verdict;
use super::super::runner::eventually;
use super::{Bench, port};

/// Moments after its beginning at which an operation is dropped.
const CUTS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(8),
    Duration::from_millis(20),
    Duration::from_millis(60),
];

pub(super) async fn names_are_deterministic(bench: &Bench) -> Verdict {
    let (one, other) = (bench.provider(), bench.fixture.reopened());
    // Names that careless shortening or replacing of characters makes alike.
    let long = "x".repeat(180);
    let mut long_names: Vec<_> = ["a.b", "a-b", "a_b", "A-b", "a--b", "a", "b"].map(str::to_owned).to_vec();
    long_names.extend((0..200).map(|number| format!("{long}{number}")));
    long_names.extend((0..200).map(|number| format!("{number}{long}")));
    let mut seen = BTreeSet::new();
    for (number, long_name) in (1u64..).zip(&long_names) {
        let node = NodeId::from_u64(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let name = one.node_identifier(node, long_name);
        assert_eq!(name, one.node_identifier(node, long_name), "the same call gave two names");
        assert_eq!(name, other.node_identifier(node, long_name), "a restart changed the name");
        assert!(seen.insert(name), "two nodes share the name of {long_name}");
    }
    Ok(())
}

pub(super) async fn capabilities_agree_with_faces(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    let can = provider.capabilities();
    let faces = [
        ("exec", can.exec, provider.exec().is_some()),
        ("logs", can.logs, provider.logs().is_some()),
        ("console", can.console, provider.console().is_some()),
        ("images", can.images, provider.images().is_some()),
        ("carrier", can.carrier, provider.carrier().is_some()),
        ("resources", can.resources, provider.resources().is_some()),
    ];
    for (name, said, there) in faces {
        assert_eq!(said, there, "capability `{name}` and the face of that name disagree");
    }
    Ok(())
}

pub(super) async fn create_is_idempotent(bench: &Bench) -> Verdict {
    let request = bench.sleeper(1);
    let first = bench.provider().create_node(&request).await.expect("create");
    let second = bench.provider().create_node(&request).await.expect("create again");
    let third = bench.fixture.reopened().create_node(&request).await.expect("create after a restart");
    assert_eq!(first, second);
    assert_eq!(first, third);
    assert_eq!((first.instance.node, first.instance.incarnation), (request.node, request.incarnation));
    let name = bench.provider().node_identifier(request.node, &request.long_name);
    assert_eq!(first.instance.identifier, name, "an instance bears the name that the provider said it would");
    assert_eq!(bench.instances().await, [first.instance]);
    Ok(())
}

pub(super) async fn create_runs_nothing_and_prepares_attach_points(bench: &Bench) -> Verdict {
    let instance = bench.created(1).await;
    assert_eq!(bench.state(&instance).await, InstanceState::Created);
    let point = bench.attach_point(&instance).await;
    assert_eq!((point.node, point.incarnation), (Some(instance.node), instance.incarnation));
    assert_eq!((&point.ifname, point.mac, point.mtu), (&port().ifname, port().mac, port().mtu));
    assert_eq!(point.place.name(), bench.provider().capabilities().place, "the provider's places are of another kind");
    assert_eq!(bench.state(&instance).await, InstanceState::Created, "asking for an attach point started something");
    let told = bench.observe(&instance).await.and_then(|seen| seen.namespace);
    match point.place {
        AttachKind::Namespace(place) => assert_eq!(told, Some(place), "links would be looked for elsewhere"),
        _ => assert_eq!(told, None, "it is told of a namespace that it has no links in"),
    }
    Ok(())
}

pub(super) async fn an_instance_is_marked_from_birth(bench: &Bench) -> Verdict {
    let request = bench.sleeper(1);
    let instance = bench.create(&request).await;
    for provider in [bench.provider(), bench.fixture.reopened()] {
        let list = provider.list_nodes().await.expect("list");
        assert_eq!(list.len(), 1, "{list:?}");
        assert_eq!(list[0].instance, instance);
        assert_eq!(list[0].lab, request.lab);
    }
    Ok(())
}

pub(super) async fn a_cancelled_create_is_never_half_visible(bench: &Bench) -> Verdict {
    for (number, cut) in (1..).zip(CUTS) {
        let request = bench.sleeper(number);
        let finished = timeout(cut, bench.provider().create_node(&request)).await.is_ok();
        // What goes on after the drop must end as if the call had been made, or not been made.
        let instance = bench.create(&request).await;
        assert!(bench.instances().await.contains(&instance), "cut at {cut:?} (finished: {finished})");
        assert_eq!(bench.state(&instance).await, InstanceState::Created);
        bench.provider().destroy_node(&instance).await.expect("destroy");
        bench.assert_gone(&instance).await;
    }
    Ok(())
}

pub(super) async fn a_cancelled_start_stop_or_destroy_can_be_repeated(bench: &Bench) -> Verdict {
    for (number, cut) in (1..).zip(CUTS) {
        let provider = bench.provider();
        let instance = bench.created(number).await;
        drop(timeout(cut, provider.start_node(&instance)).await);
        provider.start_node(&instance).await.expect("start again");
        assert_eq!(bench.state(&instance).await, InstanceState::Running, "cut at {cut:?}");
        drop(timeout(cut, bench.stop(&instance)).await);
        bench.stop(&instance).await.expect("stop again");
        assert_rests(bench, &instance).await;
        drop(timeout(cut, provider.destroy_node(&instance)).await);
        provider.destroy_node(&instance).await.expect("destroy again");
        bench.assert_gone(&instance).await;
    }
    Ok(())
}

pub(super) async fn foreign_objects_are_refused(bench: &Bench) -> Verdict {
    let request = bench.sleeper(1);
    let provider = bench.provider();
    let identifier = provider.node_identifier(request.node, &request.long_name);
    bench.fixture.make_foreign(&identifier).await?;
    let intact = async |after: &str| {
        assert!(bench.fixture.foreign_is_intact(&identifier).await, "the foreign object was touched by {after}");
    };
    intact("nothing: the fixture cannot tell").await;

    let error = provider.create_node(&request).await.expect_err("create over a foreign object");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    intact("create").await;

    let instance = InstanceRef { node: request.node, incarnation: 1, identifier: identifier.clone() };
    let kinds = [ErrorKind::Foreign, ErrorKind::NotFound];
    let error = provider.start_node(&instance).await.expect_err("start of a foreign object");
    assert!(kinds.contains(&error.kind()), "{error:?}");
    intact("start").await;
    let error = bench.stop(&instance).await.expect_err("stop of a foreign object");
    assert!(kinds.contains(&error.kind()), "{error:?}");
    intact("stop").await;
    if let Err(error) = provider.destroy_node(&instance).await {
        assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
    }
    intact("destroy").await;
    assert!(bench.instances().await.is_empty(), "a foreign object is listed as ours");
    Ok(())
}

pub(super) async fn another_incarnation_is_a_conflict(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    let first = bench.started(1).await;
    let mut request = bench.sleeper(1);
    request.incarnation = 2;
    let error = provider.create_node(&request).await.expect_err("create while an older incarnation exists");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // The incarnation that is named does not exist, and another one is in its place: either may be said.
    let refused = |result: Result<(), lifecycle_core::Error>, what: &str| {
        let error = result.expect_err(what);
        assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound), "{what}: {error:?}");
    };
    let second = InstanceRef { incarnation: 2, ..first.clone() };
    refused(provider.start_node(&second).await, "start of another incarnation");
    refused(bench.stop(&second).await, "stop of another incarnation");
    if let Err(error) = provider.destroy_node(&second).await {
        assert_eq!(error.kind(), ErrorKind::Conflict, "destroy of another incarnation: {error:?}");
    }
    assert_eq!(bench.state(&first).await, InstanceState::Running, "the older incarnation was touched");

    provider.destroy_node(&first).await.expect("destroy");
    let second = bench.create(&request).await;
    assert_eq!(bench.instances().await, [second]);
    Ok(())
}

pub(super) async fn start_is_idempotent(bench: &Bench) -> Verdict {
    let instance = bench.started(1).await;
    let before = bench.observe(&instance).await;
    assert_eq!(bench.state(&instance).await, InstanceState::Running);
    bench.provider().start_node(&instance).await.expect("start again");
    bench.fixture.reopened().start_node(&instance).await.expect("start after a restart");
    assert_eq!(bench.observe(&instance).await, before, "a second start changed something");
    Ok(())
}

pub(super) async fn stop_is_idempotent(bench: &Bench) -> Verdict {
    let never_started = bench.created(1).await;
    bench.stop(&never_started).await.expect("stop of what never ran");
    let instance = bench.started(2).await;
    bench.stop(&instance).await.expect("stop");
    assert_rests(bench, &instance).await;
    bench.stop(&instance).await.expect("stop again");
    assert_rests(bench, &instance).await;
    Ok(())
}

pub(super) async fn what_does_not_exist_is_not_found(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    let node = NodeId::from_u64(77);
    let instance = InstanceRef { node, incarnation: 1, identifier: provider.node_identifier(node, "nobody") };
    let not_found = |result: Result<(), lifecycle_core::Error>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error:?}");
    };
    not_found(provider.start_node(&instance).await, "start");
    not_found(bench.stop(&instance).await, "stop");
    not_found(provider.attach_point(&instance, &port()).await.map(drop), "attach point");
    provider.destroy_node(&instance).await.expect("destroy of what does not exist");
    assert_eq!(bench.observe(&instance).await, None);
    Ok(())
}

pub(super) async fn an_instance_is_found_without_its_identifier(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    let instance = bench.created(1).await;
    let unnamed = InstanceRef { identifier: String::new(), ..instance.clone() };
    assert_eq!(bench.attach_point(&unnamed).await, bench.attach_point(&instance).await);
    provider.start_node(&unnamed).await.expect("start");
    assert_eq!(bench.observe(&unnamed).await, bench.observe(&instance).await);
    assert_eq!(bench.state(&unnamed).await, InstanceState::Running);
    bench.stop(&unnamed).await.expect("stop");
    assert_rests(bench, &instance).await;
    provider.destroy_node(&unnamed).await.expect("destroy");
    bench.assert_gone(&instance).await;
    Ok(())
}

pub(super) async fn stop_keeps_the_instance(bench: &Bench) -> Verdict {
    let instance = bench.created(1).await;
    let point = bench.attach_point(&instance).await;
    for round in 1..=3 {
        bench.provider().start_node(&instance).await.expect("start");
        assert_eq!(bench.state(&instance).await, InstanceState::Running, "round {round}");
        assert_eq!(bench.attach_point(&instance).await, point, "a start moved the attach point in round {round}");
        bench.stop(&instance).await.expect("stop");
        assert_rests(bench, &instance).await;
        assert_eq!(bench.attach_point(&instance).await, point, "a stop moved the attach point in round {round}");
    }
    Ok(())
}

pub(super) async fn destroy_is_idempotent_and_leaves_nothing(bench: &Bench) -> Verdict {
    let stopped = bench.started(1).await;
    bench.stop(&stopped).await.expect("stop");
    for instance in [bench.created(2).await, bench.started(3).await, stopped] {
        bench.attach_point(&instance).await;
        bench.provider().destroy_node(&instance).await.expect("destroy");
        bench.assert_gone(&instance).await;
        bench.provider().destroy_node(&instance).await.expect("destroy again");
    }
    assert!(bench.instances().await.is_empty());
    Ok(())
}

pub(super) async fn observation_changes_nothing(bench: &Bench) -> Verdict {
    let instances = [bench.created(1).await, bench.started(2).await];
    let before = bench.list().await;
    for _ in 0..5 {
        for (instance, known) in instances.iter().zip(&before) {
            assert_eq!(bench.observe(instance).await.as_ref(), Some(known), "a list and an observation disagree");
            bench.attach_point(instance).await;
        }
        assert_eq!(bench.list().await, before);
    }
    Ok(())
}

pub(super) async fn a_list_tells_the_whole_truth(bench: &Bench) -> Verdict {
    let mut expected = vec![bench.created(1).await, bench.started(2).await, bench.started(3).await];
    bench.stop(&expected[2]).await.expect("stop");
    expected.sort();
    assert_eq!(bench.instances().await, expected);
    let mut after: Vec<_> = bench.fixture.reopened().list_nodes().await.expect("list after a restart");
    after.sort_by(|a, b| a.instance.cmp(&b.instance));
    assert_eq!(after, bench.list().await, "a restart changed the list");
    Ok(())
}

pub(super) async fn nodes_are_independent(bench: &Bench) -> Verdict {
    let requests: Vec<_> = (1..=4).map(|number| bench.sleeper(number)).collect();
    let instances = join_all(requests.iter().map(|request| bench.create(request))).await;
    let provider = bench.provider();
    for result in join_all(instances.iter().map(|instance| provider.start_node(instance))).await {
        result.expect("start beside others");
    }
    let others = async || {
        let list = bench.list().await;
        list.into_iter().filter(|node| node.instance != instances[0]).collect::<Vec<_>>()
    };
    let before = others().await;
    bench.stop(&instances[0]).await.expect("stop");
    assert_eq!(others().await, before, "stopping one node changed another");
    provider.start_node(&instances[0]).await.expect("start");
    provider.destroy_node(&instances[0]).await.expect("destroy");
    assert_eq!(others().await, before, "destroying one node changed another");
    Ok(())
}

pub(super) async fn news_arrive(bench: &Bench) -> Verdict {
    let mut news = bench.provider().watch();
    let instance = bench.started(1).await;
    let mut heard = async |what: &str| loop {
        let event = timeout(Duration::from_secs(10), news.next()).await;
        match event.unwrap_or_else(|_| panic!("nothing was heard of {what}")) {
            Some(ProviderEvent::Changed(about)) if about == instance => break,
            Some(ProviderEvent::Changed(_)) => {}
            Some(ProviderEvent::Resync) => break,
            None => panic!("the news ended while the provider lives"),
        }
    };
    heard("a start").await;
    bench.provider().destroy_node(&instance).await.expect("destroy");
    heard("a destroy").await;
    Ok(())
}

pub(super) async fn an_exit_is_recorded(bench: &Bench) -> Verdict {
    let spec = bench.fixture.script("exit 7")?;
    let instance = bench.create(&bench.request(1, spec)).await;
    for _ in 0..2 {
        bench.provider().start_node(&instance).await.expect("start of a process that ends at once");
        eventually("the process ended", async || matches!(bench.state(&instance).await, InstanceState::Exited(_)))
            .await;
        let InstanceState::Exited(exit) = bench.state(&instance).await else { panic!("it came back by itself") };
        assert_eq!((exit.code, exit.signal), (Some(7), None), "{exit:?}");
    }
    Ok(())
}

async fn assert_rests(bench: &Bench, instance: &InstanceRef) {
    let state = bench.state(instance).await;
    assert!(matches!(state, InstanceState::Created | InstanceState::Exited(_)), "after a stop: {state:?}");
}
