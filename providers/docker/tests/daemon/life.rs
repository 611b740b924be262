//! What nodes have, what survives what, and what is left.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::name::{IfName, NodeName};
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{ConsoleRequest, InstanceRef, InstanceState, LogRequest};
use lifecycle_core::topology::{Bind, ImagePullPolicy, NetworkMode};
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind};
use lifecycle_linux::netlink::{NewLink, RouteSocket, Veth, Which, create_veth};
use lifecycle_linux::testing::container_daemon::Kind;
use serde_json::json;

use crate::Test;
use crate::bench::{Daemon, IMAGE, LONG, block_on, create, eventually, observed, place, port, sh, started, state};

pub(crate) const TESTS: &[Test] = &[
    ("interfaces_outlive_the_process", interfaces_outlive_the_process),
    ("a_dead_holder_is_broken_wiring", a_dead_holder_is_broken_wiring),
    ("names_and_addresses", names_and_addresses),
    ("fields_of_a_lab_file", fields_of_a_lab_file),
    ("shared_namespaces", shared_namespaces),
    ("what_others_make_of_a_node_is_theirs", what_others_make_of_a_node_is_theirs),
    ("what_is_refused_leaves_nothing", what_is_refused_leaves_nothing),
    ("consoles_and_logs", consoles_and_logs),
];

const GRACE: Duration = Duration::from_secs(5);

/// Makes an interface where links of an instance end.
async fn attach(provider: &Arc<dyn Provider>, instance: &InstanceRef) {
    let ns = place(provider, instance).await;
    let socket = NamespaceAccess::new().open(&ns, SocketKind::Route).unwrap();
    let (ours, other) = (port().ifname, IfName::new("other").unwrap());
    let pair = Veth { a: NewLink::new(&ours), b: NewLink::new(&other) };
    RouteSocket::new(socket).unwrap().run(create_veth(&pair)).unwrap();
}

/// The index of the interface that was made, seen from where links are attached.
async fn index(provider: &Arc<dyn Provider>, instance: &InstanceRef) -> Option<u32> {
    let ns = place(provider, instance).await;
    let socket = NamespaceAccess::new().open(&ns, SocketKind::Route).unwrap();
    RouteSocket::new(socket).unwrap().link(Which::Name(&port().ifname)).unwrap().map(|link| link.index)
}

fn interfaces_outlive_the_process(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let mut request = corner.script(1, "ls /sys/class/net > /seen; exec sleep 1000");
        request.spec.extra.insert("restart-policy".to_owned(), json!("always"));
        let node = create(&provider, &request).await;
        attach(&provider, &node).await;
        let before = index(&provider, &node).await.unwrap();
        provider.start_node(&node).await.unwrap();
        eventually("the process wrote down what it saw when it began", async || {
            sh(&provider, &node, "cat /seen").await.1.contains("eth1")
        })
        .await;

        let same = async |after: &str| {
            eventually("it runs again", async || state(&provider, &node).await == InstanceState::Running).await;
            assert_eq!(index(&provider, &node).await, Some(before), "after {after}");
            let inside = sh(&provider, &node, "cat /sys/class/net/eth1/ifindex").await.1;
            assert_eq!(inside, before.to_string(), "after {after} the node itself sees another one");
        };
        let started_at = async || observed(&provider, &node).await.started_at;
        let restarted = async |earlier| {
            eventually("it was started again", async || started_at().await.is_some_and(|at| Some(at) > earlier)).await;
        };
        let earlier = started_at().await;
        daemon.run(&["restart", "--time", "0", &node.identifier]);
        restarted(earlier).await;
        same("a restart by hand").await;

        // It crashes, and the daemon's own policy starts it again.
        let earlier = started_at().await;
        let pid = daemon.run(&["inspect", "--format", "{{.State.Pid}}", &node.identifier]);
        nix_kill(&pid);
        restarted(earlier).await;
        same("a crash").await;

        provider.stop_node(&node, Duration::ZERO).await.unwrap();
        provider.start_node(&node).await.unwrap();
        same("a stop and a start").await;
        provider.destroy_node(&node).await.unwrap();
    });
}

fn nix_kill(pid: &str) {
    let status = std::process::Command::new("kill").args(["-9", pid]).status().unwrap();
    assert!(status.success());
}

fn a_dead_holder_is_broken_wiring(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let broken = async |node: &InstanceRef| matches!(state(&provider, node).await, InstanceState::Broken { .. });
        // Podman removes no container that another one joined.
        let by: &[&[&str]] = if corner.kind == Kind::Docker { &[&["kill"], &["rm", "--force"]] } else { &[&["kill"]] };
        for (number, words) in (1..).zip(by) {
            let node = started(&provider, &corner.request(number)).await;
            let holder = format!("{}.holder", node.identifier);
            daemon.run(&[*words, &[holder.as_str()]].concat());
            assert!(broken(&node).await, "{words:?}: {:?}", state(&provider, &node).await);
            assert_eq!(provider.attach_point(&node, &port()).await.unwrap_err().kind(), ErrorKind::Conflict);
            provider.stop_node(&node, GRACE).await.unwrap();
            assert_eq!(provider.start_node(&node).await.unwrap_err().kind(), ErrorKind::Conflict);
            provider.destroy_node(&node).await.unwrap();
            assert!(provider.list_nodes().await.unwrap().is_empty());
            // Made anew, it is whole.
            let mut request = corner.request(number);
            request.incarnation = 2;
            let node = started(&provider, &request).await;
            assert_eq!(state(&provider, &node).await, InstanceState::Running);
            provider.destroy_node(&node).await.unwrap();
        }
        // Without its container, an instance is broken too, and not gone: something of it is there.
        let node = started(&provider, &corner.request(3)).await;
        daemon.run(&["rm", "--force", &node.identifier]);
        assert!(broken(&node).await);
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(provider.observe_node(&node).await.unwrap(), None);
    });
}

fn names_and_addresses(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let network = corner.management();
        let fixed = network.ipv4.unwrap().hosts().nth(99).unwrap();
        let mut nodes = Vec::new();
        // At once, so that all of them find no network and make one.
        let requests: Vec<_> = (1..=4)
            .map(|number| {
                let mut request = corner.request(number);
                request.management = Some(network.clone());
                if number == 1 {
                    request.spec.mgmt_ipv4 = Some(fixed);
                    request.spec.aliases = vec!["gateway".to_owned()];
                }
                request
            })
            .collect();
        let made = futures_util::future::join_all(requests.iter().map(|request| provider.create_node(request))).await;
        for made in made {
            let made = made.unwrap();
            assert!(network.ipv4.unwrap().contains(&made.management.ipv4.unwrap()));
            assert!(network.ipv6.unwrap().contains(&made.management.ipv6.unwrap()));
            assert_eq!(observed(&provider, &made.instance).await.management, made.management);
            provider.start_node(&made.instance).await.unwrap();
            nodes.push(made);
        }
        assert_eq!(nodes[0].management.ipv4, Some(fixed));
        let second = &nodes[1].instance;
        let lab = corner.number;
        for name in ["n1".to_owned(), "gateway".to_owned(), format!("clab-lab{lab}-n1"), format!("n1.lab{lab}.io")] {
            let (code, said) =
                sh(&provider, second, &format!("ping -4 -c 1 -W 2 {name} && ping -6 -c 1 -W 2 {name}")).await;
            assert_eq!(code, Some(0), "{name}: {said}");
        }
        // Addresses stay when the process does not.
        provider.stop_node(second, Duration::ZERO).await.unwrap();
        provider.start_node(second).await.unwrap();
        assert_eq!(observed(&provider, second).await.management, nodes[1].management);

        let networks = || daemon.run(&["network", "ls", "--format", "{{.Name}}"]);
        for made in &nodes {
            assert!(networks().contains(&network.name), "it went before its last node");
            provider.destroy_node(&made.instance).await.unwrap();
        }
        assert!(!networks().contains(&network.name), "it outlived its last node");

        // A network of that name that somebody else made is used, and stays.
        daemon.run(&["network", "create", "--subnet", &network.ipv4.unwrap().to_string(), &network.name]);
        let made = provider.create_node(&requests[1]).await.unwrap();
        assert!(made.management.ipv4.is_some());
        provider.destroy_node(&made.instance).await.unwrap();
        assert!(networks().contains(&network.name), "somebody else's network was removed");
        daemon.run(&["network", "rm", &network.name]);
    });
}

fn fields_of_a_lab_file(daemon: &Daemon) {
    block_on(async {
        let mut corner = daemon.corner();
        corner.settings = json!({ "allow_devices": true, "allow_privileged": true });
        let provider = corner.provider();
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("file"), "from the lab").unwrap();
        let mut request = corner.request(1);
        request.directory = lab.path().to_owned();
        request.management = Some(corner.management());
        let spec = &mut request.spec;
        spec.env.insert("WORD".to_owned(), "a  b".to_owned());
        spec.labels.insert("graph-icon".to_owned(), "router".to_owned());
        spec.hostname = Some("another-name".to_owned());
        spec.user = Some("nobody".to_owned());
        spec.tmpfs.insert("/mnt".to_owned(), "size=1m".to_owned());
        spec.dns.servers = vec!["192.0.2.53".parse().unwrap()];
        spec.dns.search = vec!["example.net".to_owned()];
        spec.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        spec.sysctls.insert("kernel.msgmax".to_owned(), "4096".to_owned());
        spec.resources.memory = Some(64 << 20);
        spec.resources.cpu = Some(0.5);
        spec.resources.cpu_set = Some("0".to_owned());
        let bind = |source: &str, target: &str, read_only| Bind {
            source: source.into(),
            target: target.into(),
            read_only,
            options: Vec::new(),
        };
        spec.binds = vec![bind("file", "/file", true)];
        for (field, value) in [
            ("shm-size", json!("32m")),
            ("devices", json!(["/dev/net/tun"])),
            ("cap-add", json!(["SYS_TIME"])),
            ("ports", json!(["127.0.0.1::80", "5353:53/udp"])),
            ("volumes", json!(["/data"])),
        ] {
            spec.extra.insert(field.to_owned(), value);
        }
        let node = started(&provider, &request).await;
        for (command, expected) in [
            ("echo \"$WORD $CLAB_INTFS $CLAB_LABEL_GRAPH_ICON\"", "a  b 1 router"),
            ("hostname", "another-name"),
            ("id -un", "nobody"),
            ("cat /file", "from the lab"),
            ("echo x > /file || echo refused", "refused"),
            ("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "1\n4096"),
            ("grep -c '^tmpfs /mnt tmpfs' /proc/mounts", "1"),
            ("df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2", "32768"),
            ("test -c /dev/net/tun && echo there", "there"),
            ("grep Cpus_allowed_list /proc/self/status | tr -d '[:space:]'", "Cpus_allowed_list:0"),
            ("grep ^search /etc/resolv.conf", &format!("search lab{}.io example.net", corner.number)),
        ] {
            assert_eq!(sh(&provider, &node, command).await.1, expected, "{command}");
        }
        let inspect = |format: &str, name: &str| daemon.run(&["inspect", "--format", format, name]);
        let holder = format!("{}.holder", node.identifier);
        assert_eq!(inspect("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", &node.identifier), "67108864 500000000");
        assert!(inspect("{{.HostConfig.CapAdd}}", &node.identifier).contains("SYS_TIME"));
        assert_eq!(inspect("{{.HostConfig.Dns}}", &holder), "[192.0.2.53]");
        assert!(
            inspect("{{.NetworkSettings.Ports}}", &holder).contains("5353"),
            "{}",
            inspect("{{json .NetworkSettings.Ports}}", &holder)
        );
        let volumes = || daemon.run(&["volume", "ls", "--quiet"]);
        let volume = inspect("{{range .Mounts}}{{.Name}}{{end}}", &node.identifier);
        assert!(!volume.is_empty() && volumes().contains(&volume));
        provider.destroy_node(&node).await.unwrap();
        assert!(!volumes().contains(&volume), "an anonymous volume was left");
    });
}

fn shared_namespaces(daemon: &Daemon) {
    block_on(async {
        let mut corner = daemon.corner();
        corner.settings = json!({ "allow_host_namespaces": true });
        let provider = corner.provider();
        let joining = |mode: NetworkMode| {
            let mut request = corner.request(2);
            request.spec.network_mode = mode;
            request
        };
        let first = NetworkMode::Node(NodeName::new("n1").unwrap());
        let early = provider.create_node(&joining(first.clone())).await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Conflict, "{early:?}");
        let owner = started(&provider, &corner.request(1)).await;
        let node = started(&provider, &joining(first)).await;
        assert_eq!(place(&provider, &node).await, place(&provider, &owner).await);
        let destroyed = provider.destroy_node(&owner).await;
        match corner.kind {
            Kind::Docker => {
                destroyed.unwrap();
                assert!(
                    matches!(state(&provider, &node).await, InstanceState::Broken { .. }),
                    "what it shares is gone"
                );
            }
            Kind::Podman => {
                assert!(destroyed.unwrap_err().to_string().contains("must be removed before"));
                assert_eq!(state(&provider, &node).await, InstanceState::Running, "what it shares stays");
            }
        }
        provider.destroy_node(&node).await.unwrap();
        provider.destroy_node(&owner).await.unwrap();

        let outside = format!("outside{}", corner.number);
        daemon.run(&["run", "--detach", "--network", "none", "--name", &outside, IMAGE, "sleep", "1000"]);
        let node = started(&provider, &joining(NetworkMode::External(outside.clone()))).await;
        attach(&provider, &node).await;
        assert!(daemon.run(&["exec", &outside, "ls", "/sys/class/net"]).contains("eth1"));
        provider.destroy_node(&node).await.unwrap();
        daemon.run(&["rm", "--force", &outside]);

        let node = started(&provider, &joining(NetworkMode::Host)).await;
        let point = provider.attach_point(&node, &port()).await.unwrap();
        assert_eq!(point.place, lifecycle_core::attach::AttachKind::HostNet);
        assert_eq!(observed(&provider, &node).await.namespace, None);
        provider.destroy_node(&node).await.unwrap();
    });
}

fn what_others_make_of_a_node_is_theirs(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let (image, copy) = (format!("copy-of-{}", corner.number), format!("copy{}", corner.number));
        daemon.run(&["commit", &node.identifier, &image]);
        daemon.run(&["create", "--name", &copy, &image]);
        assert_eq!(provider.list_nodes().await.unwrap().len(), 1);
        // A container of ours stays ours under another name.
        daemon.run(&["rename", &node.identifier, &format!("renamed{}", corner.number)]);
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(provider.list_nodes().await.unwrap(), []);
        daemon.run(&["rm", &copy]);
        daemon.run(&["rmi", &image]);
    });
}

fn what_is_refused_leaves_nothing(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let mine = || daemon.run(&["ps", "--all", "--quiet", "--filter", &format!("name=lab{}-", corner.number)]);
        let mut missing = corner.request(1);
        missing.spec.image = Some("lifecycle.invalid/none:1".to_owned());
        let mut outside = corner.request(2);
        outside.management = Some(corner.management());
        outside.spec.mgmt_ipv4 = Some([192, 0, 2, 1].into());
        let mut privileged = corner.request(3);
        privileged.spec.extra.insert("privileged".to_owned(), json!(true));
        for (request, kind) in [
            (missing, ErrorKind::ImageUnavailable),
            (outside, ErrorKind::InvalidInput),
            (privileged, ErrorKind::PermissionDenied),
        ] {
            let error = provider.create_node(&request).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(mine(), "", "{error:?}");
        }
        assert!(!daemon.run(&["network", "ls"]).contains(&corner.management().name));

        // A program that is not there is the start's failure; the instance stays as it was.
        let mut bad = corner.request(4);
        bad.spec.cmd = Some(vec!["/no/such/program".to_owned()]);
        let node = create(&provider, &bad).await;
        let error = provider.start_node(&node).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
        assert!(error.to_string().contains("no such file"), "{error}");
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(mine(), "");

        let images = provider.images().unwrap();
        let mut spec = bad.spec;
        spec.image = Some("lifecycle.invalid/none:1".to_owned());
        for policy in [ImagePullPolicy::Never, ImagePullPolicy::IfNotPresent, ImagePullPolicy::Always] {
            let error = images.ensure(&spec, policy).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ImageUnavailable, "{policy:?}: {error:?}");
            assert!(error.to_string().contains("pull lifecycle.invalid/none:1"), "no advice: {error}");
        }
    });
}

fn consoles_and_logs(daemon: &Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let node =
            started(&provider, &corner.script(1, "echo first; trap 'exit 0' TERM; while :; do sleep 1 & wait; done"))
                .await;
        let follow = LogRequest { tail: None, follow: true };
        let mut lines = provider.logs().unwrap().logs(&node, &follow).await.unwrap();
        let mut next = async || {
            let line = tokio::time::timeout(LONG, lines.next()).await;
            String::from_utf8(line.expect("a line in time").expect("a line").unwrap().line).unwrap()
        };
        assert_eq!(next().await, "first");
        // Who follows goes on through a restart, and hears nothing twice.
        provider.stop_node(&node, GRACE).await.unwrap();
        provider.start_node(&node).await.unwrap();
        assert_eq!(next().await, "first");

        let request = ConsoleRequest { argv: Some(vec!["sh".to_owned()]), columns: 77, rows: 11 };
        let mut session = provider.console().unwrap().open(&node, &request).await.unwrap();
        session.input.write(b"stty size; exit 3\n").await.unwrap();
        let mut shown = Vec::new();
        while let Some(piece) = session.output.next().await {
            shown.extend(piece.unwrap());
        }
        assert!(String::from_utf8_lossy(&shown).contains("11 77"), "{}", String::from_utf8_lossy(&shown));
        assert_eq!(session.input.exit().await.unwrap().code, Some(3));
        provider.destroy_node(&node).await.unwrap();
    });
}
