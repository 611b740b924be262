//! Making, starting, stopping and removing nodes, and what outlives whom.

use std::fs;
use std::time::{Duration, Instant};

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, NsAccess};
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{ExitRecord, InstanceState};
use lifecycle_core::topology::NetworkMode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Corner, create, eventually, is_root, port, run, sh, started, state};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] = &[
    ("life::a_node_lives_and_leaves_nothing", a_node_lives_and_leaves_nothing),
    ("life::ends_are_recorded_as_they_were", ends_are_recorded_as_they_were),
    ("life::an_end_that_nobody_saw_is_unknown", an_end_that_nobody_saw_is_unknown),
    ("life::a_stop_is_polite_and_then_not", a_stop_is_polite_and_then_not),
    ("life::a_start_can_be_stopped_or_fail", a_start_can_be_stopped_or_fail),
    ("life::a_restart_keeps_interfaces_and_files", a_restart_keeps_interfaces_and_files),
    ("life::nodes_outlive_controller_and_keeper", nodes_outlive_controller_and_keeper),
    ("life::an_end_without_a_keeper_is_recorded", an_end_without_a_keeper_is_recorded),
    ("life::a_stopped_node_tells_the_truth_after_the_keepers_death", a_stopped_node_after_the_keepers_death),
    ("life::older_epochs_are_refused", older_epochs_are_refused),
    ("life::other_controllers_nodes_are_left_alone", other_controllers_nodes_are_left_alone),
    ("life::deleted_pins_are_put_back", deleted_pins_are_put_back),
    ("life::networks_can_be_shared", networks_can_be_shared),
    ("life::a_state_removed_by_hand_can_be_destroyed", a_state_removed_by_hand_can_be_destroyed),
];

const GRACE: Duration = Duration::from_secs(5);

fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn a_node_lives_and_leaves_nothing() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = create(&provider, &corner.request(1)).await;
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        assert!(corner.init("n1").is_none(), "creating started something");
        provider.start_node(&node).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        assert_eq!(sh(&provider, &node, "hostname; cat /proc/1/comm; ls /sys/class/net").await.1, "n1\nlc:n1\nlo");
        let point = provider.attach_point(&node, &port()).await.unwrap();
        let AttachKind::Namespace(namespace) = point.place else { panic!("{point:?}") };
        assert_eq!(matches!(namespace.access, NsAccess::Path { .. }), is_root());
        let access = lifecycle_linux::namespace::NamespaceAccess::new();
        access.open(&namespace, lifecycle_linux::namespace::SocketKind::Route).unwrap();
        provider.stop_node(&node, GRACE).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        provider.destroy_node(&node).await.unwrap();
        assert!(provider.list_nodes().await.unwrap().is_empty());
        Ok(())
    })
}

fn ends_are_recorded_as_they_were() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let cases = [("exit 7", Some(7), None), ("kill -9 $$", None, Some(9)), ("true", Some(0), None)];
        for (number, (script, code, signal)) in (1..).zip(cases) {
            let node = started(&provider, &corner.script(number, script)).await;
            eventually(script, async || matches!(state(&provider, &node).await, InstanceState::Exited(_))).await;
            let InstanceState::Exited(record) = state(&provider, &node).await else { unreachable!() };
            assert_eq!((record.code, record.signal, record.at.is_some()), (code, signal, true), "{script}");
            // A later controller reads the same.
            let again = corner.provider().observe_node(&node).await.unwrap().unwrap();
            assert_eq!(again.state, InstanceState::Exited(record));
            provider.destroy_node(&node).await.unwrap();
        }
        Ok(())
    })
}

fn an_end_that_nobody_saw_is_unknown() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "sleep 1000")).await;
        kill_hard(corner.init("n1").unwrap());
        let unknown = InstanceState::Exited(ExitRecord { code: None, signal: None, at: None });
        eventually("the end is seen", async || state(&provider, &node).await == unknown).await;
        kill_hard(corner.keeper().unwrap());
        eventually("a new keeper says the same", async || {
            provider.observe_node(&node).await.is_ok_and(|node| node.is_some())
        })
        .await;
        if is_root() {
            assert_eq!(state(&provider, &node).await, unknown);
            provider.start_node(&node).await.unwrap();
            assert_eq!(state(&provider, &node).await, InstanceState::Running);
        }
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn a_stop_is_polite_and_then_not() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        // One that needs a moment, one that does not listen, and one whose whole tree has to go.
        let polite =
            started(&provider, &corner.script(1, "trap 'touch /var/said; exit 3' TERM; while :; do sleep 0.05; done"))
                .await;
        let deaf = started(&provider, &corner.script(2, "trap '' TERM; while :; do sleep 0.05; done")).await;
        let begin = Instant::now();
        provider.stop_node(&polite, Duration::from_secs(60)).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20));
        let begin = Instant::now();
        provider.stop_node(&deaf, Duration::from_millis(300)).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(300) && begin.elapsed() < Duration::from_secs(20));
        provider.start_node(&polite).await.unwrap();
        assert_eq!(sh(&provider, &polite, "ls /var/said").await.1, "/var/said", "the command had no time to end");
        for node in [polite, deaf] {
            provider.destroy_node(&node).await.unwrap();
        }
        Ok(())
    })
}

fn a_start_can_be_stopped_or_fail() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut request = corner.request(1);
        request.spec.cmd = Some(vec!["no-such-program".into()]);
        let node = create(&provider, &request).await;
        let error = provider.start_node(&node).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains("`no-such-program`"), "{error}");
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        let other = create(&provider, &corner.request(2)).await;
        let (start, stop) =
            tokio::join!(provider.start_node(&other), provider.stop_node(&other, Duration::from_secs(1)));
        stop.unwrap();
        assert!(start.is_ok() || start.is_err_and(|error| error.kind() == ErrorKind::Conflict));
        assert_eq!(state(&provider, &other).await, InstanceState::Created);
        for node in [node, other] {
            provider.destroy_node(&node).await.unwrap();
        }
        Ok(())
    })
}

fn a_restart_keeps_interfaces_and_files() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "sleep 1000")).await;
        let make = "ip link add br7 type bridge && ip addr add 10.9.8.7/24 dev br7 && echo mine > /etc/mine";
        assert_eq!(sh(&provider, &node, make).await.0, Some(0));
        let look = "cat /sys/class/net/br7/ifindex; readlink /proc/self/ns/net /proc/self/ns/uts; cat /etc/mine";
        let before = sh(&provider, &node, look).await;
        let pids = sh(&provider, &node, "readlink /proc/self/ns/pid /proc/self/ns/mnt").await;
        provider.stop_node(&node, GRACE).await.unwrap();
        provider.start_node(&node).await.unwrap();
        assert_eq!(sh(&provider, &node, look).await, before);
        assert_eq!(sh(&provider, &node, "ip -o -4 addr show br7 | grep -c 10.9.8.7/24").await.1, "1");
        assert_ne!(sh(&provider, &node, "readlink /proc/self/ns/pid /proc/self/ns/mnt").await, pids);
        assert!(!fs::exists("/etc/mine").unwrap(), "the host was written to");
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn nodes_outlive_controller_and_keeper() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "sleep 1000")).await;
        let point = provider.attach_point(&node, &port()).await.unwrap();
        let (init, keeper) = (corner.init("n1").unwrap(), corner.keeper().unwrap());
        drop(provider);
        let provider = corner.newer(2);
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        assert_eq!(corner.keeper(), Some(keeper), "a new controller started another keeper");
        kill_hard(keeper);
        eventually("the node is adopted", async || {
            matches!(provider.observe_node(&node).await, Ok(Some(node)) if node.state == InstanceState::Running)
        })
        .await;
        assert_ne!(corner.keeper(), Some(keeper));
        assert_eq!(corner.init("n1"), Some(init), "the node was started again");
        assert_eq!(provider.attach_point(&node, &port()).await.unwrap(), point);
        assert_eq!(sh(&provider, &node, "echo alive").await.1, "alive");
        // What is made after the adoption stands beside it, in the same user namespace.
        let second = started(&provider, &corner.request(2)).await;
        assert_eq!(sh(&provider, &second, "echo too").await.1, "too");
        let user = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_eq!(user(corner.init("n2").unwrap()), user(init));
        provider.stop_node(&node, GRACE).await.unwrap();
        provider.start_node(&node).await.unwrap();
        assert_eq!(provider.attach_point(&node, &port()).await.unwrap(), point);
        for node in [node, second] {
            provider.destroy_node(&node).await.unwrap();
        }
        Ok(())
    })
}

fn an_end_without_a_keeper_is_recorded() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 4")).await;
        let face = provider.exec().unwrap();
        kill_hard(corner.keeper().unwrap());
        // The init serves commands without a keeper; the provider starts one for the question where it is.
        let end = lifecycle_core::plugin::provider::ExecRequest::new(["touch", "/tmp/end"]);
        eventually("the command is told to end", async || face.exec(&node, &end).await.is_ok()).await;
        kill_hard(corner.keeper().unwrap());
        eventually("the init has ended", async || corner.init("n1").is_none()).await;
        let observed = async || provider.observe_node(&node).await.ok().flatten().map(|node| node.state);
        if is_root() {
            eventually(
                "the code is known",
                async || matches!(observed().await, Some(InstanceState::Exited(record)) if record.code == Some(4)),
            )
            .await;
        } else {
            // Its namespaces went with the last process that held them.
            eventually("it is known to be broken", async || {
                matches!(observed().await, Some(InstanceState::Broken { .. }))
            })
            .await;
        }
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn a_stopped_node_after_the_keepers_death() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let request = corner.request(1);
        let node = create(&provider, &request).await;
        let point = provider.attach_point(&node, &port()).await.unwrap();
        kill_hard(corner.keeper().unwrap());
        eventually("there is a new keeper", async || provider.list_nodes().await.is_ok()).await;
        if is_root() {
            assert_eq!(state(&provider, &node).await, InstanceState::Created);
            assert_eq!(provider.attach_point(&node, &port()).await.unwrap(), point);
        } else {
            let found = state(&provider, &node).await;
            assert!(matches!(&found, InstanceState::Broken { reason } if reason.contains("namespaces")), "{found:?}");
            assert_eq!(provider.start_node(&node).await.unwrap_err().kind(), ErrorKind::Conflict);
            assert_eq!(provider.attach_point(&node, &port()).await.unwrap_err().kind(), ErrorKind::Conflict);
            // Creating it again mends it.
            assert_eq!(create(&provider, &request).await, node);
            assert_ne!(provider.attach_point(&node, &port()).await.unwrap(), point);
        }
        provider.start_node(&node).await.unwrap();
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn older_epochs_are_refused() -> Verdict {
    run(Corner::new(), async |corner| {
        let (old, new) = (corner.newer(7), corner.newer(8));
        let node = started(&old, &corner.request(1)).await;
        assert_eq!(new.list_nodes().await.unwrap().len(), 1);
        for _ in 0..2 {
            let error = old.destroy_node(&node).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Interrupted), "{error:?}");
        }
        assert_eq!(old.stop_node(&node, GRACE).await.unwrap_err().kind(), ErrorKind::Fenced);
        // A new keeper has not forgotten.
        kill_hard(corner.keeper().unwrap());
        eventually("the old one is refused still", async || {
            old.list_nodes().await.is_err_and(|error| error.kind() == ErrorKind::Fenced)
        })
        .await;
        assert_eq!(state(&new, &node).await, InstanceState::Running);
        new.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn other_controllers_nodes_are_left_alone() -> Verdict {
    run(Corner::new(), async |corner| {
        let ours = corner.provider();
        let mut context = corner.context.clone();
        context.controller = lifecycle_core::id::ControllerId::from_u64(0xbad);
        let theirs = lifecycle_provider_netns::NetnsProvider::new(&context).unwrap();
        let node = started(&ours, &corner.request(1)).await;
        assert!(theirs.list_nodes().await.unwrap().is_empty());
        assert_eq!(theirs.observe_node(&node).await.unwrap(), None);
        for error in [
            theirs.create_node(&corner.request(1)).await.map(drop).unwrap_err(),
            theirs.start_node(&node).await.unwrap_err(),
            theirs.stop_node(&node, GRACE).await.unwrap_err(),
            theirs.destroy_node(&node).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Foreign, "{error:?}");
        }
        assert_eq!(state(&ours, &node).await, InstanceState::Running);
        ours.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn deleted_pins_are_put_back() -> Verdict {
    if !is_root() {
        return Err("an ordinary user's namespaces have no pins".into());
    }
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = create(&provider, &corner.request(1)).await;
        let point = provider.attach_point(&node, &port()).await.unwrap();
        let AttachKind::Namespace(namespace) = &point.place else { panic!("{point:?}") };
        let NsAccess::Path { path } = &namespace.access else { panic!("{point:?}") };
        nix::mount::umount(path).unwrap();
        fs::remove_file(path).unwrap();
        let access = lifecycle_linux::namespace::NamespaceAccess::new();
        eventually("the pin is back", async || access.open_ns(namespace).is_ok()).await;
        assert_eq!(provider.attach_point(&node, &port()).await.unwrap(), point);
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn networks_can_be_shared() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut guest = corner.request(2);
        guest.spec.network_mode = NetworkMode::Node("n1".parse().unwrap());
        assert_eq!(provider.create_node(&guest).await.unwrap_err().kind(), ErrorKind::Conflict);
        let host = started(&provider, &corner.request(1)).await;
        let guest = started(&provider, &guest).await;
        let namespaces = "readlink /proc/self/ns/net";
        assert_eq!(sh(&provider, &guest, namespaces).await, sh(&provider, &host, namespaces).await);
        assert_eq!(sh(&provider, &guest, "hostname").await.1, "n2");
        let mut outside = corner.request(3);
        outside.spec.network_mode = NetworkMode::Host;
        if is_root() {
            let outside = started(&provider, &outside).await;
            let ours = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
            assert_eq!(sh(&provider, &outside, namespaces).await.1, ours);
            let point = provider.attach_point(&outside, &port()).await.unwrap();
            assert_eq!(point.place, AttachKind::HostNet);
            provider.destroy_node(&outside).await.unwrap();
        } else {
            let error = provider.create_node(&outside).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        }
        for node in [host, guest] {
            provider.destroy_node(&node).await.unwrap();
        }
        Ok(())
    })
}

fn a_state_removed_by_hand_can_be_destroyed() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "sleep 1000")).await;
        let nodes = corner.context.state_dir.join("netns/nodes");
        // The kernel makes a directory for the overlay that even its owner may not enter.
        assert!(std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&nodes).status().unwrap().success());
        fs::remove_dir_all(nodes).unwrap();
        kill_hard(corner.keeper().unwrap());
        // It is listed by what is left of it, and can be removed.
        eventually("it is broken", async || {
            matches!(provider.observe_node(&node).await, Ok(Some(node)) if matches!(node.state, InstanceState::Broken { .. }))
        })
        .await;
        provider.destroy_node(&node).await.unwrap();
        assert!(provider.list_nodes().await.unwrap().is_empty());
        Ok(())
    })
}
