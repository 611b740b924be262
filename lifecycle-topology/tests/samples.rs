//! What comes out of good files: own samples of every shape.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifecycle_core::machine::NodeIntent;
use lifecycle_core::name::NodeName;
use lifecycle_core::topology::{
    Admin, Endpoint, ImagePullPolicy, LinkSpec, MacvlanMode, Manage, NetworkMode, NodeSpec, OvsMode, StageCommand,
    Topology,
};
use lifecycle_topology::{Loaded, Options, load, load_text};
use serde_json::json;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn options() -> Options {
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]);
    Options { environment, ..Options::default() }
}

fn sample(name: &str) -> Loaded {
    load(&data(name), &options()).unwrap_or_else(|error| panic!("{error}"))
}

fn node<'t>(topology: &'t Topology, name: &str) -> &'t NodeSpec {
    topology.node(&NodeName::new(name).unwrap()).unwrap()
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn every_field_of_a_node() {
    let Loaded { topology, warnings } = sample("nodes.clab.yml");
    assert!(warnings.is_empty(), "{warnings:?}");
    let full = node(&topology, "full");
    let env = |key: &str| full.env.get(key).map(String::as_str);
    assert_eq!([env("LEVEL"), env("FROM_DEFAULTS"), env("EMPTY")], [Some("node"), Some("yes"), Some("")]);
    assert_eq!(full.exec, ["echo defaults", "echo full of clab-nodes"]);
    assert_eq!(full.cmd, words(&["sh", "-c", "serve --port 80"]));
    assert_eq!(full.entrypoint, words(&["/bin/init", "--fast"]));
    assert_eq!(
        (full.kind.as_str(), full.r#type.as_deref(), full.group.as_deref()),
        ("linux", Some("5132"), Some("servers"))
    );
    assert_eq!((full.image.as_deref(), full.image_pull_policy), (Some("alpine:3"), ImagePullPolicy::Never));
    assert_eq!(full.labels, BTreeMap::from([("role".to_owned(), "server".to_owned())]));
    assert_eq!(full.sysctls["net.ipv4.ip_forward"], "1");
    let binds: Vec<_> =
        full.binds.iter().map(|bind| (bind.source.to_str().unwrap(), bind.target.to_str().unwrap())).collect();
    assert_eq!(binds, [("config/full.conf", "/etc/app.conf"), ("/home/u/shared", "/shared")]);
    assert!(full.binds[0].read_only && !full.binds[1].read_only);
    assert_eq!(full.binds[0].options, ["z"]);
    assert_eq!((full.resources.memory, full.resources.cpu), (Some(1_000_000_000), Some(1.5)));
    assert_eq!(full.resources.cpu_set.as_deref(), Some("0-1,3"));
    assert_eq!((full.hostname.as_deref(), full.user.as_deref()), (Some("full.lab.example"), Some("1000:1000")));
    assert_eq!((full.startup_config.as_deref(), full.startup_delay), (Some("hostname full\nend\n"), 3));
    assert_eq!(full.mgmt_ipv4, Some("10.9.0.11".parse().unwrap()));
    assert_eq!(full.aliases, ["full.example"]);
    assert_eq!(full.dns.servers, ["192.0.2.53".parse::<std::net::IpAddr>().unwrap(), "2001:db8::53".parse().unwrap()]);
    assert_eq!(
        (full.dns.search.as_slice(), full.dns.options.as_slice()),
        (&["lab.example".to_owned()][..], &["rotate".to_owned()][..])
    );
    let check = full.healthcheck.as_ref().unwrap();
    assert_eq!(
        (check.test.join(" ").as_str(), check.interval, check.timeout, check.retries),
        ("check --quick", 1, 30, 3)
    );
    assert_eq!(full.tmpfs["/run"], "size=1m");
    let expected = json!({
        "auto-remove": false, "cap-add": ["NET_ADMIN"], "certificate": {"issue": true, "sans": ["full.example"]},
        "cgroup-parent": "labs", "cgroupns-mode": "private", "components": [{"slot": "A"}, {"slot": 1, "type": "card"}],
        "config": {"vars": {"area": 0, "name": "full"}},
        "credentials": {"username": "u", "password": "p", "identity-file": "key"}, "devices": ["/dev/net/tun"],
        "enforce-startup-config": true, "license": "full.lic", "link-apply-mode": "live", "pid-mode": "host",
        "extras": {"ceos-copy-to-flash": [format!("{}/clab-nodes/full/x", data("").to_str().unwrap().trim_end_matches('/'))]},
        "ports": ["8080:80", "5353:53/udp"], "position": "left", "privileged": true, "restart-policy": "on-failure",
        "runtime": "docker", "security-opts": ["seccomp=unconfined"], "shm-size": "64MB",
        "suppress-startup-config": false, "volumes": ["/var/lib/anonymous", "data:/data"],
    });
    assert_eq!(serde_json::to_value(&full.extra).unwrap(), expected);
    assert_eq!(waits(full), ["create: plain create"]);
    assert_eq!(commands(full), ["exit on-exit container: echo|bye"]);
}

#[test]
fn the_lab_and_its_other_nodes() {
    let topology = sample("nodes.clab.yml").topology;
    assert_eq!(topology.long_name(&NodeName::new("full").unwrap()), "full");
    assert_eq!(topology.directory, data("").parent().unwrap().join("data"));
    let management = topology.management.as_ref().unwrap();
    assert_eq!((management.name.as_str(), management.bridge.as_ref().unwrap().as_str()), ("lab-net", "br-lab"));
    assert_eq!(management.ipv4, Some("10.9.0.0/24".parse().unwrap()));
    assert_eq!(management.ipv6, None, "one subnet of its own leaves the other family without");
    assert_eq!(management.ipv4_range, Some("10.9.0.128/25".parse().unwrap()));
    assert_eq!((management.ipv4_gateway, management.mtu), (Some("10.9.0.254".parse().unwrap()), Some(1400)));
    assert_eq!(management.extra["driver-opts"], json!({"com.example.option": "1"}));
    assert_eq!(management.extra["external-access"], json!(false));
    assert_eq!(topology.settings.extra["certificate-authority"], json!({"key-size": 2048, "validity-duration": "5h"}));
    assert_eq!(node(&topology, "quiet").network_mode, NetworkMode::None);
    assert_eq!(node(&topology, "quiet").healthcheck.as_ref().unwrap().test, ["/bin/sh", "-c", "test -e /ready"]);
    assert_eq!(node(&topology, "sidecar").network_mode, NetworkMode::Node(NodeName::new("plain").unwrap()));
    assert_eq!(node(&topology, "sidecar").desired, NodeIntent::Stopped);
    assert_eq!(node(&topology, "outsider").network_mode, NetworkMode::External("not-of-this-lab".to_owned()));
    let order: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(order, ["full", "plain", "quiet", "sidecar", "outsider"]);
}

#[test]
fn every_way_to_write_a_link() {
    let Loaded { topology, warnings } = sample("links.clab.yml");
    let messages: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(messages, ["`udp-port` is an old spelling"]);
    let [core, shaped, inner, rest @ ..] = &topology.links[..] else { panic!() };
    let (Endpoint::Node(a), Endpoint::Node(b)) = (&core.a, &core.b) else { panic!() };
    assert_eq!((a.node.as_str(), a.ifname.as_str(), a.ipv4), ("a", "eth1", Some("192.0.2.1/30".parse().unwrap())));
    assert_eq!((b.port.as_str(), b.ipv4, b.ipv6), ("1/1/c1/1", None, Some("2001:db8::2/64".parse().unwrap())));
    assert!(b.ifname.as_str() != b.port.as_str());
    assert_eq!((core.attrs.mtu, core.explicit_mtu, core.labels["role"].as_str()), (1500, true, "core"));
    assert_eq!(core.extra["vars"], json!({"vlan": 7}));

    assert_eq!(
        (shaped.attrs.rate, shaped.attrs.delay, shaped.attrs.jitter),
        (Some(100_000_000), Some(10_000), Some(500))
    );
    assert_eq!((shaped.attrs.loss, shaped.attrs.admin, shaped.manage), (Some(0.005), Admin::Down, Manage::Strict));
    assert_eq!(
        (shaped.backend.as_ref().unwrap().as_str(), shaped.attrs.mtu, shaped.explicit_mtu),
        ("linux_bridge", 9500, false)
    );
    assert_eq!(inner.b.as_node().unwrap().node.as_str(), "sw2.b");
    assert_eq!(node(&topology, "sw2.b").bridge.as_ref().unwrap().as_str(), "sw2");

    let far: Vec<String> = rest.iter().map(|link| format!("{:?}", link.b).split_whitespace().collect()).collect();
    let expected = [
        "Host{interface:\"veth-a\"}",
        "Management{interface:\"mgmt-a\"}",
        "Macvlan{parent:\"enp3s0\",mode:Bridge}",
        "Host{interface:\"veth-b\"}",
    ];
    assert_eq!(far[..4], expected);
    let port = |link: &LinkSpec| link.a.as_node().map(|end| end.port.to_string());
    let ports: Vec<_> = rest.iter().map(|link| port(link).unwrap()).collect();
    assert_eq!(
        ports,
        ["eth3", "eth4", "eth5", "eth6", "eth7", "eth8", "eth9", "eth10", "eth11", "eth12", "eth13", "dummy0"]
    );
    let veth = rest[4].a.as_node().unwrap();
    assert_eq!(
        (veth.mac.unwrap().to_string().as_str(), veth.ipv4),
        ("02:00:00:00:00:07", Some("198.51.100.1/31".parse().unwrap()))
    );
    assert_eq!(rest[4].extra["endpoint-vars"], json!([{"x": 1}, null]));
    assert_eq!(rest[5].extra["type"], json!("veth-stitch"));
    assert_eq!(rest[6].b, Endpoint::Host { interface: "veth-c".parse().unwrap() });
    assert_eq!(rest[7].b, Endpoint::Management { interface: "mgmt-b".parse().unwrap() });
    assert_eq!(rest[8].b, Endpoint::Macvlan { parent: "enp3s0".parse().unwrap(), mode: MacvlanMode::Private });
    let vxlan = |remote: &str, vni, port, stitch, source_port, parent: Option<&str>| Endpoint::Vxlan {
        remote: remote.to_owned(),
        vni,
        port,
        stitch,
        source_port,
        parent: parent.map(|name| name.parse().unwrap()),
    };
    assert_eq!(rest[9].b, vxlan("vtep.example", 100, 4789, false, None, None));
    assert_eq!(rest[10].b, vxlan("192.0.2.9", 101, 14789, true, Some(5000), Some("enp3s0")));
    assert_eq!(rest[11].b, Endpoint::Dummy);

    let settings = &topology.settings;
    let names = [&settings.provider, &settings.backend].map(|name| name.as_ref().unwrap().as_str());
    assert_eq!((names, settings.ovs_mode), (["netns", "veth"], Some(OvsMode::Dedicated)));
    assert_eq!(settings.host.as_ref().unwrap().as_str(), "h1");
    let a = node(&topology, "a");
    assert_eq!((a.provider.as_ref().unwrap().as_str(), a.host.as_ref().unwrap().as_str()), ("docker", "h2"));
    assert_eq!(topology.management.as_ref().unwrap().extra["ipv4-subnet"], json!("auto"));
    assert_eq!(topology.long_name(&a.name), "clab-links-a");
}

#[test]
fn a_topology_survives_being_stored() {
    for name in ["nodes.clab.yml", "links.clab.yml"] {
        let topology = sample(name).topology;
        let stored = serde_json::to_string(&topology).unwrap();
        assert_eq!(serde_json::from_str::<Topology>(&stored).unwrap(), topology);
    }
}

#[test]
fn templates_with_variables() {
    let count = |loaded: &Loaded| (loaded.topology.nodes.len(), loaded.topology.links.len());
    assert_eq!(count(&sample("template.clab.gotmpl")), (4, 3));
    let vars = vec![data("template.clab_vars.yml"), data("no-spine.yml")];
    let loaded = load(&data("template.clab.gotmpl"), &Options { vars, ..options() }).unwrap();
    assert_eq!(count(&loaded), (2, 0));
    assert_eq!(loaded.topology.nodes[0].name.as_str(), "leaf1");
}

fn lab(text: &str, options: &Options) -> Loaded {
    load_text("lab.clab.yml", text, Path::new("/nonexistent"), options).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_environment() {
    let text = "name: ${LAB:=x}\nprefix: ${PREFIX:=\"\"}\ntopology:\n  defaults: {kind: linux}\n  nodes:\n    a:\n      cmd: ash -c \"echo $UNSET $$HOME\"\n      env: {__IMPORT_ENVS: true, OWN: a, HOME: /own}\n    b: {group: g}\n  groups:\n    g: {env: {__IMPORT_ENVS: true}}\n";
    let topology = lab(text, &options()).topology;
    assert_eq!((topology.name.as_str(), topology.prefix.as_deref()), ("x", Some("")));
    let env = |name: &str| {
        node(&topology, name).env.clone().into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        (env("a"), env("b")),
        (vec!["HOME=/own".to_owned(), "OWN=a".to_owned()], vec!["HOME=/home/u".to_owned()])
    );
    assert_eq!(node(&topology, "a").cmd, words(&["ash", "-c", "echo $UNSET $HOME"]));
}

#[test]
fn files_of_environment_variables_stay_in_the_lab() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.env"), "A=file\nB=file\n").unwrap();
    let text = "name: x\ntopology:\n  nodes:\n    a: {kind: linux, env-files: [a.env], env: {B: node}}\n";
    let loaded = load_text("x.yml", text, directory.path(), &options()).unwrap();
    let env = &loaded.topology.nodes[0].env;
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("file", "node"));
    for (file, why) in [("/etc/hostname", "outside the lab's directory"), ("none.env", "No such file")] {
        let error = load_text("x.yml", &text.replace("a.env", file), directory.path(), &options()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_management_network() {
    let management = |mgmt: &str| {
        let text = format!("name: x\nmgmt: {mgmt}\ntopology:\n  nodes:\n    a: {{kind: linux, network-mode: none}}\n");
        lab(&text, &options()).topology.management
    };
    let subnets = |mgmt: &str| {
        management(mgmt)
            .map(|network| (network.ipv4.map(|net| net.to_string()), network.ipv6.map(|net| net.to_string())))
    };
    let both = (Some("172.20.20.0/24".to_owned()), Some("3fff:172:20:20::/64".to_owned()));
    assert_eq!(subnets(""), Some(both.clone()));
    assert_eq!(subnets("{network: n, ipv4-subnet: ''}"), Some(both));
    assert_eq!(subnets("{ipv6-subnet: 'fd00::/64'}"), Some((None, Some("fd00::/64".to_owned()))));
    assert_eq!(subnets("{ipv6_subnet: 'fd00::/64'}"), Some((None, Some("fd00::/64".to_owned()))));
    assert_eq!(subnets("{ipv4-subnet: auto}"), Some((None, None)));
    assert_eq!(subnets("{skip-when-unused: true}"), None);
}

#[test]
fn an_editors_marks_and_line_ends_do_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.clab.yml");
    std::fs::write(&path, "\u{feff}name: x\r\ntopology:\r\n  nodes:\r\n    a:\r\n      kind: linux\r\n").unwrap();
    let loaded = load(&path, &options()).unwrap();
    assert_eq!(
        (loaded.topology.nodes[0].kind.as_str(), loaded.topology.directory.as_path()),
        ("linux", directory.path())
    );
    let relative = Options { current_directory: Some(directory.path().to_owned()), ..options() };
    assert_eq!(load(Path::new("x.clab.yml"), &relative).unwrap().topology, loaded.topology);
}

#[test]
fn nodes_may_wait_for_each_others_stages() {
    let text = "name: x
topology:
  defaults: {kind: linux}
  nodes:
    a: {stages: {create: {wait-for: [{node: b, stage: create}, {node: b, stage: create}]}}}
    b: {stages: {configure: {wait-for: [{node: a, stage: create-links}]}, exit: {wait-for: [{node: b, stage: create}]}}}
";
    let loaded = lab(text, &options());
    assert_eq!(
        loaded.topology.nodes.iter().map(waits).collect::<Vec<_>>(),
        [["create: b create"], ["configure: a create-links"]]
    );
    assert!(loaded.topology.nodes.iter().all(|node| node.extra.is_empty()));
    assert!(loaded.topology.nodes.iter().all(|node| node.stage_commands.is_empty()));
    assert!(loaded.warnings[0].to_string().contains("nothing of a node follows"), "{}", loaded.warnings[0]);
}

#[test]
fn stages_have_commands() {
    let text = "name: x
topology:
  defaults: {kind: linux, stages: {healthy: {exec: [{command: first}, {command: first, phase: on-enter}]}}}
  nodes:
    a:
      stages:
        create: {exec: {on-enter: [echo 'a b'], on-exit: [echo __clabNodeName__]}}
        healthy: {exec: [{command: last, phase: on-exit}, {command: date, target: host}, {command: first}]}
";
    let lab = lab(text, &options());
    let expected = [
        "healthy on-enter container: first",
        "create on-enter container: echo|a b",
        "create on-exit container: echo|a",
        "healthy on-exit container: last",
        "healthy on-enter host: date",
    ];
    assert_eq!(commands(&lab.topology.nodes[0]), expected);
}

fn commands(node: &NodeSpec) -> Vec<String> {
    let line = |it: &StageCommand| format!("{} {} {}: {}", it.stage, it.phase, it.target, it.argv.join("|"));
    node.stage_commands.iter().map(line).collect()
}

fn waits(node: &NodeSpec) -> Vec<String> {
    node.wait_for.iter().map(|wait| format!("{}: {} {}", wait.stage, wait.node, wait.until)).collect()
}

#[test]
fn warnings_can_be_errors() {
    let text = "name: x\ndebug: true\ntopology: {nodes: {a: {kind: linux, mgmt-ipv4: 10.0.0.1}}}\n";
    assert_eq!(lab(text, &options()).warnings.len(), 2);
    assert!(load_text("x", text, Path::new("/"), &Options { strict: true, ..options() }).is_err());
}
