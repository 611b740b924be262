//! Descriptors in namespaces, whichever way they are reached.

use lifecycle_core::attach::NsAccess;
use lifecycle_core::time::BootId;
use lifecycle_linux::identity::{boot_id, boot_time, netns_cookie};
use lifecycle_linux::namespace::broker::{Broker, RefusalKind, Reply, VERSION};
use lifecycle_linux::namespace::{NamespaceAccess, NamespaceError, SocketKind, Want, own_cookie};
use lifecycle_linux::testing::Ground;

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("namespaces::descriptors_are_inside", descriptors_are_inside),
    ("namespaces::the_caller_stays_where_it_is", the_caller_stays),
    ("namespaces::another_namespace_is_not_taken_for_the_old_one", another_namespace_is_refused),
    ("namespaces::another_boot_voids_everything", another_boot_is_refused),
    ("namespaces::a_forgotten_namespace_is_gone", a_forgotten_namespace_is_gone),
    ("namespaces::a_file_that_is_no_namespace_is_gone", a_file_that_is_no_namespace_is_gone),
    ("namespaces::a_missing_broker_is_unreachable", a_missing_broker_is_unreachable),
    ("namespaces::many_threads_share_a_broker", many_threads_share_a_broker),
    ("namespaces::what_a_later_version_refuses_is_understood", later_refusals_are_understood),
    ("namespaces::the_boot_clock_runs", the_boot_clock_runs),
];

fn descriptors_are_inside(ground: &Ground) {
    let access = NamespaceAccess::new();
    let (a, b) = (ground.namespace("a").unwrap(), ground.namespace("b").unwrap());
    assert_ne!(a.cookie, b.cookie);
    for ns in [&a, &b] {
        for kind in [SocketKind::Route, SocketKind::Packet] {
            assert_eq!(netns_cookie(access.open(ns, kind).unwrap()).unwrap(), ns.cookie);
        }
        let all = access.open_all(ns, &[Want::Namespace, Want::Socket(SocketKind::Route)]).unwrap();
        assert_eq!(all.len(), 2);
        // The first is no socket, so it must be the namespace; that it is the right one shows where links are made.
        assert!(netns_cookie(&all[0]).is_err());
        assert_eq!(netns_cookie(&all[1]).unwrap(), ns.cookie);
    }
}

fn the_caller_stays(ground: &Ground) {
    let before = own_cookie().unwrap();
    let ns = ground.namespace("a").unwrap();
    NamespaceAccess::new().open(&ns, SocketKind::Route).unwrap();
    assert_eq!(own_cookie().unwrap(), before);
    assert_ne!(before, ns.cookie);
}

fn another_namespace_is_refused(ground: &Ground) {
    let mut ns = ground.namespace("a").unwrap();
    ns.cookie += 1_000_000;
    let error = NamespaceAccess::new().open_ns(&ns).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

fn another_boot_is_refused(ground: &Ground) {
    let mut ns = ground.namespace("a").unwrap();
    ns.boot = BootId(ns.boot.0 ^ 1);
    let error = NamespaceAccess::new().open_ns(&ns).unwrap_err();
    assert!(matches!(error, NamespaceError::Gone { .. }), "{error}");
}

fn a_forgotten_namespace_is_gone(ground: &Ground) {
    let ns = ground.namespace("a").unwrap();
    ground.forget("a").unwrap();
    // The test's broker makes a new one under the old name, which is just what must not be mistaken.
    let error = NamespaceAccess::new().open_ns(&ns).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

/// What a pin leaves when it is unmounted is an ordinary file.
fn a_file_that_is_no_namespace_is_gone(ground: &Ground) {
    let mut ns = ground.namespace("a").unwrap();
    ns.access = NsAccess::Path { path: "/proc/self/status".into() };
    let error = NamespaceAccess::new().open_ns(&ns).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

fn a_missing_broker_is_unreachable(ground: &Ground) {
    let mut ns = ground.namespace("a").unwrap();
    ns.access = NsAccess::Broker { socket: "/nonexistent/broker".into(), name: "a".into() };
    let error = NamespaceAccess::new().open_ns(&ns).unwrap_err();
    assert!(matches!(error, NamespaceError::Unreachable { .. }) && !error.is_gone(), "{error}");
}

fn many_threads_share_a_broker(ground: &Ground) {
    let access = NamespaceAccess::new();
    let all: Vec<_> = (0..4).map(|n| ground.namespace(&n.to_string()).unwrap()).collect();
    std::thread::scope(|scope| {
        for ns in &all {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(netns_cookie(access.open(ns, SocketKind::Route).unwrap()).unwrap(), ns.cookie);
                }
            });
        }
    });
}

fn later_refusals_are_understood(_: &Ground) {
    let text = r#"{"version":9,"refusal":{"kind":"fenced","errno":1,"message":"m","new":true},"more":[]}"#;
    let reply: Reply = serde_json::from_str(text).unwrap();
    assert_eq!(reply.refusal.unwrap().kind, RefusalKind::Failed);
    assert_eq!(VERSION, 1);
    assert!(matches!(Broker::connect("/nonexistent".as_ref()), Err(NamespaceError::Unreachable { .. })));
}

fn the_boot_clock_runs(_: &Ground) {
    let (first, second) = (boot_time().unwrap(), boot_time().unwrap());
    assert_eq!(first.boot, boot_id().unwrap());
    assert!(second.millis >= first.millis && first.millis > 0);
}
