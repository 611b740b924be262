//! What a node sees: files, names, users, limits, networks.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use ipnet::Ipv4Net;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::topology::{Bind, ManagementNetwork};
use lifecycle_provider_netns::NetnsProvider;
use serde_json::json;

use crate::bench::{Corner, create, eventually, is_root, run, sh, started};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] = &[
    ("sight::a_node_sees_the_host_and_writes_to_itself", a_node_sees_the_host_and_writes_to_itself),
    ("sight::binds_appear_where_they_should", binds_appear_where_they_should),
    ("sight::bad_binds_are_refused", bad_binds_are_refused),
    ("sight::names_environment_and_tmpfs", names_environment_and_tmpfs),
    ("sight::sysctls_of_namespaces_only", sysctls_of_namespaces_only),
    ("sight::users_and_groups", users_and_groups),
    ("sight::roots_rights_are_bounded", roots_rights_are_bounded),
    ("sight::limits_hold_or_are_refused", limits_hold_or_are_refused),
    ("sight::directories_and_tarballs_stand_in", directories_and_tarballs_stand_in),
    ("sight::an_unknown_image_is_explained", an_unknown_image_is_explained),
    ("sight::the_management_network_joins_nodes", the_management_network_joins_nodes),
];

async fn end(provider: &NetnsProvider) {
    for node in provider.list_nodes().await.unwrap() {
        provider.destroy_node(&node.instance).await.unwrap();
    }
}

async fn refusal(provider: &NetnsProvider, request: &CreateNode) -> lifecycle_core::Error {
    let error = provider.create_node(request).await.unwrap_err();
    assert!(provider.list_nodes().await.unwrap().is_empty(), "something remains after {error:?}");
    error
}

fn a_node_sees_the_host_and_writes_to_itself() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let script = "for d in / /etc /etc/init.d /var /var/log /root /tmp /run /dev/shm; do
            echo x > $d/lc-test || exit 9; done; test -r /usr/bin/env && test -r /etc/passwd && echo x >> /etc/profile
            [ $(ls /proc | grep -c '^[0-9]') -lt 10 ] && touch /sys/x 2>/dev/null || echo done";
        assert_eq!(sh(&provider, &node, script).await, (Some(0), "done".into()));
        for path in ["/lc-test", "/etc/lc-test", "/var/log/lc-test", "/root/lc-test", "/tmp/lc-test"] {
            assert!(!fs::exists(path).unwrap_or(false), "{path} reached the host");
        }
        // Neither the controller's state nor other nodes' sockets can be seen.
        let hidden = format!("ls -A {} 2>/dev/null | wc -l", corner.context.state_dir.display());
        assert_eq!(sh(&provider, &node, &hidden).await.1, "0");
        provider.stop_node(&node, Duration::from_secs(2)).await.unwrap();
        provider.start_node(&node).await.unwrap();
        let kept = "ls /lc-test /etc/lc-test /var/lc-test /root/lc-test /tmp/lc-test | wc -l; ls /run/lc-test 2>&1 | grep -c 'No such'";
        assert_eq!(sh(&provider, &node, kept).await.1, "5\n1");
        end(&provider).await;
        Ok(())
    })
}

fn bind(source: &str, target: &str, read_only: bool) -> Bind {
    Bind { source: source.into(), target: target.into(), read_only, options: vec![] }
}

fn binds_appear_where_they_should() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        fs::create_dir(corner.lab().join("dir")).unwrap();
        for (file, text) in [("one.txt", "one"), ("dir/two.txt", "two"), ("dir/three.txt", "three")] {
            fs::write(corner.lab().join(file), text).unwrap();
        }
        let mut request = corner.request(1);
        request.spec.binds = vec![
            bind("one.txt", "/new/place/one.txt", false),
            bind("dir", "/etc/some/dir", true),
            bind("dir/three.txt", "/etc/some/dir/two.txt", false),
        ];
        let node = started(&provider, &request).await;
        let script =
            "cat /new/place/one.txt /etc/some/dir/three.txt /etc/some/dir/two.txt; echo more >> /new/place/one.txt
            echo no >> /etc/some/dir/three.txt || echo refused";
        let (_, text) = sh(&provider, &node, script).await;
        assert!(text.starts_with("onethreethree") && text.contains("refused"), "{text}");
        assert_eq!(fs::read_to_string(corner.lab().join("one.txt")).unwrap(), "onemore\n");
        assert_eq!(fs::read_to_string(corner.lab().join("dir/three.txt")).unwrap(), "three");
        end(&provider).await;
        Ok(())
    })
}

fn bad_binds_are_refused() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        symlink("/etc", corner.lab().join("link")).unwrap();
        let mut request = corner.request(1);
        for (source, kind) in [
            ("missing.txt", ErrorKind::InvalidInput),
            ("/etc/passwd", ErrorKind::PermissionDenied),
            ("../../../../etc/passwd", ErrorKind::PermissionDenied),
        ] {
            request.spec.binds = vec![bind(source, "/x", false)];
            let error = refusal(&provider, &request).await;
            assert_eq!(error.kind(), kind, "{source}: {error:?}");
        }
        // A link is found out when the node starts, where nobody can change it meanwhile.
        request.spec.binds = vec![bind("link/passwd", "/x", false)];
        let node = create(&provider, &request).await;
        let error = provider.start_node(&node).await.unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        end(&provider).await;
        Ok(())
    })
}

fn names_environment_and_tmpfs() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut request = corner.request(1);
        request.spec.hostname = Some("r1.example".into());
        request.spec.env.insert("WORD".into(), "a b".into());
        request.spec.labels.insert("my-label".into(), "v".into());
        request.spec.dns.servers = vec!["192.0.2.53".parse().unwrap()];
        request.spec.dns.search = vec!["example.org".into()];
        request.spec.tmpfs.insert("/mem".into(), "size=1m,mode=700".into());
        request.spec.resources.cpu_set = Some("0".into());
        let node = started(&provider, &request).await;
        let script = "hostname; cat /etc/hostname /etc/resolv.conf; echo $WORD $CLAB_INTFS $CLAB_LABEL_MY_LABEL
            grep -c '^tmpfs /mem.*size=1024k' /proc/mounts; grep Cpus_allowed_list /proc/self/status | cut -f2";
        let expected = "r1.example\nr1.example\nnameserver 192.0.2.53\nsearch example.org\na b 1 v\n1\n0";
        assert_eq!(sh(&provider, &node, script).await.1, expected);
        end(&provider).await;
        request.spec.hostname = Some("no good".into());
        assert_eq!(refusal(&provider, &request).await.kind(), ErrorKind::InvalidInput);
        Ok(())
    })
}

fn sysctls_of_namespaces_only() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut request = corner.request(1);
        for (name, value) in [("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.default.rp_filter", "2")] {
            request.spec.sysctls.insert(name.into(), value.into());
        }
        let node = started(&provider, &request).await;
        let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/default/rp_filter";
        assert_eq!(sh(&provider, &node, script).await.1, "1\n2");
        end(&provider).await;
        for (name, kind) in [
            ("kernel.panic", ErrorKind::Unsupported),
            ("net.no.such.thing", ErrorKind::InvalidInput),
            ("net/../kernel/panic", ErrorKind::InvalidInput),
        ] {
            request.spec.sysctls = [(name.to_owned(), "1".to_owned())].into();
            let error = refusal(&provider, &request).await;
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
        Ok(())
    })
}

fn users_and_groups() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut request = corner.script(1, "id -u; id -g; sleep 1000");
        request.spec.user = Some("daemon".into());
        let node = create(&provider, &request).await;
        let result = provider.start_node(&node).await;
        if !provider.capabilities().missing.contains_key("users") {
            result.unwrap();
            assert_eq!(
                sh(&provider, &node, "id -un; id -gn; grep CapEff /proc/self/status | cut -f2").await.1,
                "daemon\ndaemon\n0000000000000000"
            );
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.to_string().contains("daemon") && error.to_string().contains("newuidmap"), "{error}");
        }
        end(&provider).await;
        Ok(())
    })
}

fn roots_rights_are_bounded() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let script = "ip link add d1 type bridge || echo no-net
            for f in /proc/sys/kernel/panic /proc/sys/vm/swappiness /sys/kernel/profiling; do
              [ -e $f ] && echo 1 2>/dev/null > $f && echo wrote $f; done
            mknod /tmp/disk b 259 0 2>/dev/null && cat /tmp/disk >/dev/null 2>&1 && echo device
            [ -e /proc/kcore ] && [ $(head -c 9 /proc/kcore 2>/dev/null | wc -c) -gt 0 ] && echo kcore
            ls /dev; true";
        let (_, text) = sh(&provider, &node, &script.replace("2>/dev/null > $f", "> $f 2>/dev/null")).await;
        for bad in ["no-net", "wrote", "device", "kcore", "vda", "kmsg"] {
            assert!(!text.contains(bad), "{bad}: {text}");
        }
        if is_root() {
            assert_ne!(sh(&provider, &node, "mount -t tmpfs x /mnt").await.0, Some(0), "root may mount");
        }
        end(&provider).await;
        Ok(())
    })
}

fn limits_hold_or_are_refused() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut request = corner.script(1, "sleep 1000");
        request.spec.resources.memory = Some(64 << 20);
        request.spec.resources.cpu = Some(0.5);
        if is_root() {
            let node = started(&provider, &request).await;
            // A process that wants more than the limit is killed; the node is not.
            let eat = "head -c 200000000 /dev/zero | tail > /dev/null; echo $?";
            assert_ne!(sh(&provider, &node, eat).await.1, "0");
            assert_eq!(sh(&provider, &node, "echo alive").await.1, "alive");
            provider.stop_node(&node, Duration::from_secs(2)).await.unwrap();
            provider.start_node(&node).await.unwrap();
            end(&provider).await;
        } else {
            let error = match provider.create_node(&request).await {
                Ok(_) => {
                    end(&provider).await;
                    return Ok(());
                }
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.to_string().contains("memory"), "{error}");
            assert!(provider.list_nodes().await.unwrap().is_empty());
        }
        Ok(())
    })
}

/// A root directory with nothing but what the host's shell needs.
fn small_root(at: &std::path::Path) {
    for directory in ["etc", "usr", "tmp"] {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    for link in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{link}"), at.join(link)).unwrap();
    }
    fs::write(at.join("etc/os-release"), "NAME=small\n").unwrap();
    // Names the host's file, if it were followed as the host's.
    symlink("/etc/shadow", at.join("etc/resolv.conf")).unwrap();
    symlink("/etc", at.join("outside")).unwrap();
}

fn directories_and_tarballs_stand_in() -> Verdict {
    let mut corner = Corner::new();
    let (root, tarball) = (corner.directory.path().join("root"), corner.directory.path().join("root.tar"));
    small_root(&root);
    let mut builder = tar::Builder::new(fs::File::create(&tarball).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", &root).unwrap();
    builder.into_inner().unwrap();
    corner.context.settings = json!({
        "images": [
            { "image": "dir:*", "root": { "directory": root }, "env": { "FROM": "table" }, "console": ["sh"] },
            { "image": "tar:*", "root": { "tarball": tarball }, "cmd": ["sh", "-c", "sleep 1000"], "terminal": false },
        ],
        "allow_binds": ["/usr"],
    });
    run(corner, async |corner| {
        let provider = corner.provider();
        for (number, image) in [(1, "dir:1"), (2, "tar:1")] {
            let mut request = corner.request(number);
            request.spec.image = Some(image.into());
            request.spec.binds = vec![bind("/usr", "/usr", true)];
            let images = provider.images().unwrap();
            assert_eq!(images.is_present(&request.spec).await.unwrap(), image == "dir:1");
            let node = started(&provider, &request).await;
            assert!(images.is_present(&request.spec).await.unwrap());
            let script = "cat /etc/os-release; echo changed > /etc/os-release; cat /etc/os-release; echo x > /outside/made; ls /etc/made; echo $FROM";
            let from = if number == 1 { "\ntable" } else { "" };
            let (_, text) = sh(&provider, &node, script).await;
            assert_eq!(text, format!("NAME=small\nchanged\n/etc/made{from}"));
            provider.stop_node(&node, Duration::from_secs(2)).await.unwrap();
            provider.start_node(&node).await.unwrap();
            assert_eq!(sh(&provider, &node, "cat /etc/os-release").await.1, "changed");
        }
        end(&provider).await;
        let root = corner.directory.path().join("root");
        assert_eq!(fs::read_to_string(root.join("etc/os-release")).unwrap(), "NAME=small\n");
        assert!(!fs::exists(root.join("usr/bin")).unwrap() && !fs::exists("/etc/made").unwrap());
        Ok(())
    })
}

fn an_unknown_image_is_explained() -> Verdict {
    run(Corner::with(json!({ "images_file": "/etc/lifecycle/config.yaml" })), async |corner| {
        let provider = corner.provider();
        let mut request = corner.request(1);
        request.spec.image = Some("ceos:4.32".into());
        let error = refusal(&provider, &request).await;
        assert_eq!(error.kind(), ErrorKind::ImageUnavailable);
        assert!(error.to_string().contains("/etc/lifecycle/config.yaml"), "{error}");
        Ok(())
    })
}

fn the_management_network_joins_nodes() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let network = ManagementNetwork {
            name: corner.network(),
            bridge: None,
            ipv4: Some("10.213.77.0/28".parse::<Ipv4Net>().unwrap()),
            ipv6: Some("fd00:213:77::/64".parse().unwrap()),
            ipv4_range: None,
            ipv6_range: None,
            ipv4_gateway: None,
            ipv6_gateway: None,
            mtu: Some(1400),
            extra: Default::default(),
        };
        let request = |number| CreateNode { management: Some(network.clone()), ..corner.request(number) };
        let mut fixed = request(2);
        fixed.spec.mgmt_ipv4 = Some("10.213.77.9".parse().unwrap());
        fixed.spec.aliases = vec!["l2.mydomain.com".into()];
        let first = provider.create_node(&request(1)).await.unwrap();
        assert_eq!(first.management.ipv4, Some("10.213.77.2".parse().unwrap()));
        let second = provider.create_node(&fixed).await.unwrap();
        assert_eq!(second.management.ipv4, Some("10.213.77.9".parse().unwrap()));
        assert_eq!(provider.create_node(&fixed).await.unwrap(), second);
        let mut clash = request(3);
        clash.spec.mgmt_ipv4 = fixed.spec.mgmt_ipv4;
        assert_eq!(provider.create_node(&clash).await.unwrap_err().kind(), ErrorKind::Conflict);
        for node in [&first, &second] {
            provider.start_node(&node.instance).await.unwrap();
        }
        let look = "ip -o addr show eth0 | grep -o '10.213.77.2/28'; cat /sys/class/net/eth0/mtu; getent hosts n2 l2.mydomain.com clab-test-n2 n2.test.io | grep -c '10.213.77.9\\|fd00:213:77:'";
        assert_eq!(sh(&provider, &first.instance, look).await.1, "10.213.77.2/28\n1400\n4");
        // A refused connection has been there and back.
        let reach = "bash -c 'echo > /dev/tcp/n2/9' 2>&1 | grep -o 'Connection refused' | head -n1";
        eventually("the nodes reach each other", async || {
            sh(&provider, &first.instance, reach).await.1 == "Connection refused"
        })
        .await;
        // A controller that lost its memory knows who holds what, and nodes come and go in the hosts file.
        let later = corner.newer(2);
        let third = later.create_node(&request(3)).await.unwrap();
        assert_eq!(third.management.ipv4, Some("10.213.77.3".parse().unwrap()));
        assert_eq!(sh(&later, &first.instance, "grep -c ' n3 ' /etc/hosts").await.1, "2");
        later.destroy_node(&third.instance).await.unwrap();
        assert_eq!(sh(&later, &first.instance, "grep -c ' n3 ' /etc/hosts; grep -c ' n2 ' /etc/hosts").await.1, "0\n2");
        end(&later).await;
        if is_root() {
            let bridge = lifecycle_core::policy::naming::OurName::management_bridge(&network.name).ifname();
            assert!(!fs::exists(format!("/sys/class/net/{bridge}")).unwrap(), "the bridge is left");
        }
        Ok(())
    })
}
