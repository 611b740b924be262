//! What hands and daemons do to machines: what is said stays true, disks stay, and what is foreign is left alone.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{InstanceRef, InstanceState};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::Test;
use crate::bench::{BLANK, Bench, block_on, create, eventually, observed, started, state};
use crate::proxy::{Proxy, Wrong};

pub(crate) const TESTS: &[Test] = &[
    ("hands_on_domains", hands_on_domains),
    ("what_a_dead_controller_left", what_a_dead_controller_left),
    ("a_controller_may_die_at_every_call", a_controller_may_die_at_every_call),
    ("lookalikes_are_left_alone", lookalikes_are_left_alone),
    ("a_daemon_that_hangs_and_dies", a_daemon_that_hangs_and_dies),
];

/// Where a machine's disk is.
fn disk(bench: &Bench, instance: &InstanceRef) -> std::path::PathBuf {
    let mut folders = vec![bench.vms()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.ends_with(format!("{}/disk.qcow2", instance.identifier)) {
                return path;
            }
            folders.extend(path.is_dir().then_some(path));
        }
    }
    panic!("{instance} has no disk");
}

/// The inode of a machine's disk: another one is another disk.
fn disk_id(bench: &Bench, instance: &InstanceRef) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(disk(bench, instance)).unwrap().ino()
}

async fn exited(provider: &Arc<dyn Provider>, node: &InstanceRef) -> bool {
    matches!(state(provider, node).await, InstanceState::Exited(exit) if exit.code.is_none())
}

fn hands_on_domains(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let node = started(&provider, &bench.request(1, BLANK)).await;
        let name = node.identifier.as_str();
        let before = disk_id(bench, &node);
        let mut news = provider.watch();
        let mut heard = async |what: &str| {
            let event = tokio::time::timeout(Duration::from_secs(30), news.next()).await;
            event.unwrap_or_else(|_| panic!("nothing was heard of {what}")).unwrap()
        };
        heard("the beginning").await;

        bench.virsh(&["destroy", name]);
        heard("its end").await;
        assert!(exited(&provider, &node).await, "nobody here stopped it");
        provider.start_node(&node).await.unwrap();
        heard("its start").await;

        bench.virsh(&["suspend", name]);
        assert_eq!(state(&provider, &node).await, InstanceState::Paused);
        bench.virsh(&["resume", name]);

        // Undefined while it runs: it runs on, and ends without a trace on the daemon.
        bench.virsh(&["undefine", name]);
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        bench.virsh(&["destroy", name]);
        assert!(exited(&provider, &node).await, "its disk is there, and so is it");
        assert_eq!(provider.list_nodes().await.unwrap().len(), 1);
        provider.start_node(&node).await.unwrap();
        assert_eq!((state(&provider, &node).await, disk_id(bench, &node)), (InstanceState::Running, before));

        // Its files are gone while it runs: it is destroyed as a whole all the same.
        let folder = disk(bench, &node).parent().unwrap().to_owned();
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(state(&provider, &node).await, InstanceState::Broken { .. }));
        assert_eq!(provider.list_nodes().await.unwrap().len(), 1);
        let error = provider.create_node(&bench.request(1, BLANK)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        provider.destroy_node(&node).await.unwrap();
        assert!(provider.list_nodes().await.unwrap().is_empty());
        assert!(!bench.virsh(&["list", "--all", "--name"]).contains(name));

        // Its disk alone is gone.
        let node = create(&provider, &bench.request(2, BLANK)).await;
        fs::remove_file(disk(bench, &node)).unwrap();
        assert!(matches!(state(&provider, &node).await, InstanceState::Broken { .. }));
        assert_eq!(provider.start_node(&node).await.unwrap_err().kind(), ErrorKind::Conflict);
        provider.destroy_node(&node).await.unwrap();
    });
}

fn what_a_dead_controller_left(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let request = bench.request(1, BLANK);
        let node = create(&provider, &request).await;
        let disk = disk(bench, &node);
        let others = |name: &str| disk.with_file_name(name);
        // It died after the record, after half a disk, after the disk.
        for (left, gone) in [("half", vec![disk.clone(), others("console.log")]), ("whole", vec![])] {
            bench.virsh(&["undefine", &node.identifier]);
            for file in gone {
                drop(fs::remove_file(file));
                fs::write(others("fresh.qcow2"), "half").unwrap();
            }
            let listed = bench.provider().list_nodes().await.unwrap();
            assert_eq!(listed.len(), 1, "{left}: it is listed from the first moment");
            assert_eq!(create(&bench.provider(), &request).await, node);
            assert_eq!(state(&provider, &node).await, InstanceState::Created, "{left}");
            provider.start_node(&node).await.unwrap();
            provider.stop_node(&node, Duration::ZERO).await.unwrap();
        }
        // It died while it removed: the domain is gone, the disk is gone.
        bench.virsh(&["undefine", &node.identifier]);
        fs::remove_file(&disk).unwrap();
        assert_eq!(bench.provider().list_nodes().await.unwrap().len(), 1);
        provider.destroy_node(&node).await.unwrap();
        assert!(!disk.parent().unwrap().exists());
        assert!(provider.list_nodes().await.unwrap().is_empty());
    });
}

/// More calls than the life of a node takes.
const MOST: usize = 50;

fn a_controller_may_die_at_every_call(bench: &mut Bench) {
    block_on(async {
        let bystander = started(&bench.provider(), &bench.request(2, BLANK)).await;
        let before = observed(&bench.provider(), &bystander).await;
        for wrong in [Wrong::Dropped, Wrong::Unanswered] {
            for at in 0..MOST {
                // From that call on, nothing that the first controller asks for reaches the daemon.
                let proxy = Proxy::start(&bench.socket(), wrong, at);
                let request = bench.request(1, BLANK);
                let doomed = bench.provider_at(proxy.socket());
                let lived = async {
                    let node = doomed.create_node(&request).await?.instance;
                    doomed.start_node(&node).await?;
                    doomed.stop_node(&node, Duration::ZERO).await?;
                    doomed.destroy_node(&node).await
                };
                let lived = lived.await;
                drop(doomed);
                assert_eq!(lived.is_err(), proxy.is_broken(), "{wrong:?} at {at}: {lived:?}");

                // The next one finds all that there is, and comes to every end that it wants.
                let provider = bench.provider();
                let listed = provider.list_nodes().await.unwrap();
                assert!(listed.contains(&before), "{wrong:?} at {at}: the bystander was touched: {listed:?}");
                let found: Vec<_> = listed.iter().filter(|it| it.instance.node == request.node).collect();
                assert!(found.len() < 2, "{wrong:?} at {at}: it is there twice: {found:?}");
                if let Some(node) = found.first().filter(|it| matches!(it.state, InstanceState::Broken { .. })) {
                    // What was half removed is removed first.
                    provider.destroy_node(&node.instance).await.unwrap();
                }
                let node = started(&provider, &request).await;
                assert_eq!(state(&provider, &node).await, InstanceState::Running, "{wrong:?} at {at}");
                assert_eq!(bench.virsh(&["list", "--name"]).lines().count(), 2, "{wrong:?} at {at}");
                let folder = disk(bench, &node).parent().unwrap().to_owned();
                provider.destroy_node(&node).await.unwrap();
                assert!(!folder.exists(), "{wrong:?} at {at}: files are left");
                assert_eq!(bench.virsh(&["list", "--all", "--name"]), bystander.identifier, "{wrong:?} at {at}");
                if !proxy.is_broken() {
                    assert!(at > 3, "a life of a node has only {at} calls");
                    break;
                }
            }
        }
        bench.provider().destroy_node(&bystander).await.unwrap();
    });
}

fn lookalikes_are_left_alone(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let node = create(&provider, &bench.request(1, BLANK)).await;
        // Names that end as ours do, with no mark, with somebody else's, and with a torn one.
        let lookalike = |prefix: &str| node.identifier.replace("clab", prefix);
        let mark = |attributes: &str| {
            format!(
                "<metadata><lc:instance xmlns:lc='https://lifecycle-rs.github.io/libvirt/1' {attributes}/></metadata>"
            )
        };
        let theirs = "controller='000000000001' host='local' lab='000000000001' node='000000000001' incarnation='1' \
                      identifier='x'";
        let file = bench.vms().with_extension("xml");
        for (prefix, metadata) in [("a", String::new()), ("b", mark(theirs)), ("c", mark("controller='?'"))] {
            let name = lookalike(prefix);
            let text = format!(
                "<domain type='qemu'><name>{name}</name>{metadata}<memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
            );
            fs::write(&file, text).unwrap();
            bench.virsh(&["define", &file.to_string_lossy()]);
        }
        assert_eq!(provider.list_nodes().await.unwrap().len(), 1);
        provider.start_node(&node).await.unwrap();
        provider.destroy_node(&node).await.unwrap();
        assert!(provider.list_nodes().await.unwrap().is_empty());
        for prefix in ["a", "b", "c"] {
            assert_eq!(bench.virsh(&["domstate", &lookalike(prefix)]), "shut off");
            bench.virsh(&["undefine", &lookalike(prefix)]);
        }

        // Ours is undefined by hand, and somebody else takes its name: it is in the way, and stays as it is.
        let node = create(&provider, &bench.request(2, BLANK)).await;
        let name = node.identifier.as_str();
        bench.virsh(&["undefine", name]);
        let text = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
        );
        fs::write(&file, text).unwrap();
        bench.virsh(&["define", &file.to_string_lossy()]);
        assert_eq!(provider.start_node(&node).await.unwrap_err().kind(), ErrorKind::Foreign);
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(bench.virsh(&["domstate", name]), "shut off");
        bench.virsh(&["undefine", name]);
    });
}

fn a_daemon_that_hangs_and_dies(bench: &mut Bench) {
    block_on(async {
        bench.settings = json!({ "deadline_ms": 3_000 });
        let provider = bench.provider();
        let node = started(&provider, &bench.request(1, BLANK)).await;
        let (before, seen) = (disk_id(bench, &node), observed(&provider, &node).await);

        // Hung: who asks is told that nobody can be reached, who acts that it may have happened.
        bench.daemon().signal(Signal::SIGSTOP);
        let began = Instant::now();
        assert_eq!(provider.list_nodes().await.unwrap_err().kind(), ErrorKind::Unreachable);
        let error = provider.create_node(&bench.request(2, BLANK)).await.unwrap_err();
        assert!(error.kind().is_unknown() || error.kind().is_unreachable(), "{error:?}");
        let error = provider.stop_node(&node, Duration::ZERO).await.unwrap_err();
        assert!(error.kind().is_unknown() || error.kind().is_unreachable(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "deadlines were not kept");
        bench.daemon().signal(Signal::SIGCONT);
        eventually("it answers again", async || provider.list_nodes().await.is_ok()).await;
        eventually("what was late has come or not", async || provider.start_node(&node).await.is_ok()).await;
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        let other = create(&provider, &bench.request(2, BLANK)).await;

        // Killed: nobody says that nodes are gone while nobody knows, and they run on.
        let run = observed(&provider, &node).await;
        bench.daemon().kill();
        for _ in 0..2 {
            assert_eq!(provider.list_nodes().await.unwrap_err().kind(), ErrorKind::Unreachable);
            assert_eq!(provider.observe_node(&node).await.unwrap_err().kind(), ErrorKind::Unreachable);
        }
        let error = provider.start_node(&node).await.unwrap_err();
        assert!(error.kind().is_unknown() || error.kind().is_unreachable(), "{error:?}");
        bench.daemon().up();
        eventually("it is found again", async || provider.list_nodes().await.is_ok()).await;
        assert_eq!(observed(&provider, &node).await, run, "it never stopped");
        assert_eq!((disk_id(bench, &node), seen.instance), (before, node.clone()));
        for node in [node, other] {
            provider.destroy_node(&node).await.unwrap();
        }
        assert!(provider.list_nodes().await.unwrap().is_empty());
    });
}
