//! What is refused, and how it is told: every rule once, and the text of a whole report.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::interface_for;
use lifecycle_topology::diagnostics::{Position, Severity};
use lifecycle_topology::{InterfaceNames, LoadError, Loaded, Options, load, load_text};

fn read(text: &str) -> Result<Loaded, LoadError> {
    load_text("lab.yml", text, Path::new("/nonexistent"), &Options::default())
}

/// Expects that a lab of nodes `a` and `b` with `more` after it is refused with each of `reasons`.
fn refused(more: &str, reasons: &[&str]) {
    let text = format!("name: x\n{more}");
    let error = read(&text).expect_err(&text).to_string();
    for reason in reasons {
        assert!(error.contains(reason), "{text}\n\n{error}");
    }
}

fn nodes_refused(nodes: &[(&str, &str)]) {
    for (node, reason) in nodes {
        refused(&format!("topology: {{nodes: {{a: {{kind: linux}}, b: {node}}}}}"), &[reason]);
    }
}

fn links_refused(links: &[(&str, &str)]) {
    for (link, reason) in links {
        refused(
            &format!(
                "topology:\n  defaults: {{kind: linux}}\n  nodes: {{a: , b: , sw: {{kind: bridge}}, h: {{kind: host}}, in-a: {{network-mode: 'container:a'}}}}\n  links:\n{link}"
            ),
            &[reason],
        );
    }
}

#[test]
fn the_whole_report() {
    // As people see it: the name of the file as they gave it, everything at once, in the order of the file.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let options = Options { current_directory: Some(data.clone()), ..Options::default() };
    let error = load(Path::new("broken.clab.yml"), &options).unwrap_err();
    let expected = std::fs::read_to_string(data.join("broken.txt")).unwrap();
    assert_eq!(error.to_string().trim_end(), expected.trim_end());
    let LoadError::Invalid(report) = error else { panic!("{error}") };
    let first = &report.diagnostics[0];
    assert_eq!(first.severity, Severity::Error);
    assert_eq!(first.position, Some(Position { line: 1, column: 7, length: 10 }));
    assert_eq!(
        serde_json::to_value(first).unwrap()["position"],
        serde_json::json!({"line": 1, "column": 7, "length": 10})
    );
}

#[test]
fn labs() {
    for (text, reason) in [
        ("topology: {nodes: {a: {kind: linux}}}", "the lab has no name"),
        ("name: ''\ntopology: {}", "the lab has no name"),
        ("name: x", "the lab has no topology"),
        ("name: ../x\ntopology: {}", "is not a valid lab name"),
        ("name: x\nprefix: a/b\ntopology: {}", "cannot start a name"),
        ("name: x\ntopolgy: {}", "did you mean `topology`?"),
        ("name: x\nsettings: {ovs_mode: own}\ntopology: {}", "expected `shared` or `dedicated`"),
        ("name: x\nsettings: {provider: a b}\ntopology: {}", "is not a valid plugin name"),
        ("name: x\ntopology: {nodes: {a: {kind: linux}, 'a b': {kind: linux}}}", "is not a valid node name"),
        ("name: x\ntopology: {nodes: {'../a': {kind: linux}}}", "is not a valid node name"),
        ("name: x\ntopology: {nodes: {Host: {kind: linux}}}", "a node cannot be called `Host`"),
        ("name: x\ntopology: {nodes: {'a|b': {kind: linux}, a.b: {kind: linux}}}", "two nodes are called `a.b`"),
        ("name: x\ntopology: {nodes: {a: {image: y}}}", "the node `a` has no kind"),
        ("name: x\ntopology: {nodes: [a, b]}", "expected a mapping, found a list"),
        ("name: x\ntopology: {nodes: {a-very-long-bridge: {kind: bridge}}}", "is not a valid interface name"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}\n\n{error}");
    }
}

#[test]
fn management_networks() {
    for (mgmt, reason) in [
        ("{network: 'a b'}", "cannot be the name of a network"),
        ("{bridge: much-too-long-name}", "is not a valid interface name"),
        ("{ipv4-subnet: fd00::/64}", "expected an IPv4 subnet"),
        ("{ipv6-subnet: 10.0.0.0/8}", "expected an IPv6 subnet"),
        ("{ipv4-subnet: 10.0.0.1/8}", "expected 10.0.0.0/8"),
        ("{ipv4-subnet: 10.0.0.0/24, ipv4-gw: 10.0.1.1}", "is not an address of the subnet"),
        ("{ipv4-subnet: 10.0.0.0/24, ipv4-range: 10.0.1.0/25}", "is not within the subnet"),
        ("{ipv6-subnet: 'fd00::/64', ipv4-gw: 10.0.0.1}", "a gateway needs a subnet"),
        ("{mtu: 20}", "this MTU is out of range"),
        ("{colour: red}", "unknown field `colour`"),
    ] {
        refused(&format!("mgmt: {mgmt}\ntopology: {{}}"), &[reason]);
    }
    nodes_refused(&[
        ("{kind: linux, mgmt-ipv4: 172.20.20}", "invalid IPv4 address"),
        ("{kind: linux, mgmt-ipv4: 172.20.20.0}", "is the network's own"),
        ("{kind: linux, mgmt-ipv4: 172.20.20.1}", "is the network's own"),
        ("{kind: linux, mgmt-ipv4: 172.20.20.255}", "is the network's own"),
        ("{kind: linux, mgmt-ipv6: '3fff:172:20:20::1'}", "is the network's own"),
    ]);
    refused(
        "topology: {nodes: {a: {kind: linux, mgmt-ipv4: 172.20.20.9}, b: {kind: linux, mgmt-ipv4: 172.20.20.9}}}",
        &["the address 172.20.20.9 is given twice", "line 2 has it already"],
    );
}

#[test]
fn fields_of_nodes() {
    nodes_refused(&[
        ("{kind: linux, cmd: \"echo 'x\"}", "cannot be split into words"),
        ("{kind: linux, exec: [\"echo 'x\"]}", "cannot be split into words"),
        ("{kind: linux, memory: lots}", "expected a size"),
        ("{kind: linux, memory: -1G}", "expected a size"),
        ("{kind: linux, shm-size: lots}", "expected a size"),
        ("{kind: linux, cpu: -1}", "less than no processor"),
        ("{kind: linux, cpu-set: a-b}", "expected a list such as 0-1,3"),
        ("{kind: linux, hostname: 'a b'}", "is not a host name"),
        ("{kind: linux, image-pull-policy: sometimes}", "expected `IfNotPresent`"),
        ("{kind: linux, restart-policy: maybe}", "expected one of: no, on-failure"),
        ("{kind: linux, desired: paused}", "expected `running` or `stopped`"),
        ("{kind: linux, network-mode: bridged}", "is no network mode"),
        ("{kind: linux, network-mode: 'container:'}", "is no network mode"),
        ("{kind: linux, binds: ['a:b:c:d']}", "has too many parts"),
        ("{kind: linux, binds: ['a:b']}", "has no absolute path inside the node"),
        ("{kind: linux, binds: [':/b']}", "has no source"),
        ("{kind: linux, binds: ['a:/b:rx']}", "the mount option `rx` is not known"),
        ("{kind: linux, binds: ['~/a:/b']}", "HOME is not set"),
        ("{kind: linux, tmpfs: {run: ''}}", "is not an absolute path"),
        ("{kind: linux, ports: ['x:80']}", "is not a published port"),
        ("{kind: linux, dns: {servers: [dns.example]}}", "invalid IP address"),
        ("{kind: linux, sysctls: {../../etc/passwd: 1}}", "is no kernel parameter"),
        ("{kind: linux, env: {'A=B': 1}}", "cannot be the name of a variable"),
        ("{kind: linux, healthcheck: {test: [check]}}", "expected [CMD, program"),
        ("{kind: linux, healthcheck: {tests: [CMD, check]}}", "did you mean `test`?"),
        ("{kind: linux, certificate: {isue: true}}", "did you mean `issue`?"),
        ("{kind: linux, stages: {create: {wait-for: [{node: c, stage: create}]}}}", "there is no node `c`"),
        ("{kind: linux, stages: {create: {wait-for: [{node: a, stage: begin}]}}}", "expected one of: create,"),
        ("{kind: linux, stages: {exit: {exec: [{command: x, target: moon}]}}}", "expected container or host"),
        ("{kind: linux, stages: {exit: {exec: [{command: x, phase: later}]}}}", "expected on-enter or on-exit"),
        ("{kind: linux, stages: {exit: {exec: [{command: 'echo \"x'}]}}}", "cannot be split into words"),
        ("{kind: linux, stages: {create: {wait-for: [{node: b, stage: exit}]}}}", "in a circle: b → b"),
        (
            "{kind: linux, network-mode: 'container:c'}, c: {kind: linux, network-mode: 'container:b'}",
            "in a circle: b → c → b",
        ),
        ("{kind: linux, network-mode: 'container:b'}", "in a circle: b → b"),
        ("{kind: linux, provider: 'a b'}", "is not a valid plugin name"),
        ("{kind: linux, host: 'a b'}", "is not a valid host name"),
    ]);
}

#[test]
fn an_inherited_problem_is_told_once() {
    let text = "name: x\ntopology:\n  defaults: {kind: linux, cpu-set: z}\n  nodes: {a: , b: , c: }\n";
    let LoadError::Invalid(report) = read(text).unwrap_err() else { panic!() };
    assert_eq!(report.count(Severity::Error), 1, "{report}");
}

#[test]
fn links() {
    links_refused(&[
        ("    - endpoints: ['a:eth1']", "a link has two ends, and this one has 1"),
        ("    - endpoints: ['a:eth1', 'b:eth1', 'a:eth2']", "a link has two ends, and this one has 3"),
        ("    - endpoints: [a, 'b:eth1']", "expected `node:interface`"),
        ("    - endpoints: ['a:', 'b:eth1']", "expected `node:interface`"),
        ("    - endpoints: ['a:e th1', 'b:eth1']", "is not a valid port name"),
        ("    - endpoints: ['a:eth1', 'c:eth1']", "there is no node `c`"),
        ("    - endpoints: ['a:eth1', 'vxlan:x']", "there is no node `vxlan`"),
        ("    - endpoints: ['a:eth1', 'host:much-too-long-name']", "is not a valid interface name"),
        ("    - endpoints: ['host:x', 'mgmt-net:y']", "there is no node `mgmt-net`"),
        ("    - endpoints: ['h:x', 'host:y']", "this link has no node at either end"),
        ("    - endpoints: ['a:eth0', 'b:eth1']", "`eth0` of `a` is its management interface"),
        ("    - endpoints: [{node: a, interface: eth1}, {node: b, interface: eth1}]", "add `type: veth`"),
        ("    - {type: veth, endpoints: ['a:eth1', 'b:eth1']}", "is not an end of a `veth` link"),
        ("    - {type: veth, endpoints: [{node: a}, {node: b, interface: eth1}]}", "expected `node` and `interface`"),
        (
            "    - {type: veth, endpoints: [{node: a, interface: x, mac: 02:00}, {node: b, interface: x}]}",
            "is not an Ethernet address",
        ),
        (
            "    - {type: veth, endpoints: [{node: a, interface: x, mac: '03:00:00:00:00:00'}, {node: b, interface: x}]}",
            "is a group address",
        ),
        ("    - {type: bridge, endpoints: ['a:eth1', 'b:eth1']}", "`bridge` is no type of link"),
        ("    - {type: host, endpoint: {node: a, interface: eth1}}", "needs `host-interface`"),
        ("    - {type: host, host-interface: x}", "needs `endpoint`"),
        (
            "    - {type: host, host-interface: x, mode: vepa, endpoint: {node: a, interface: eth1}}",
            "`mode` has no meaning in a `host` link",
        ),
        (
            "    - {type: macvlan, host-interface: x, mode: other, endpoint: {node: a, interface: eth1}}",
            "this is no mode of macvlan",
        ),
        (
            "    - {type: vxlan, remote: 192.0.2.1, endpoint: {node: a, interface: eth1}}",
            "expected `vni` from 1 to 16777215",
        ),
        (
            "    - {type: vxlan, remote: 192.0.2.1, vni: 16777216, endpoint: {node: a, interface: eth1}}",
            "expected `vni`",
        ),
        ("    - {type: vxlan, remote: 'a b', vni: 1, endpoint: {node: a, interface: eth1}}", "expected `remote`"),
        (
            "    - {type: vxlan, remote: x, vni: 1, dst-port: 70000, endpoint: {node: a, interface: eth1}}",
            "this is no UDP port",
        ),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], mtu: 10}", "this MTU is out of range"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], ipv4: [192.0.2.1]}", "`192.0.2.1`: "),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], ipv4: ['', '', '']}", "at most two addresses"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], rate: fast}", "expected bits per second"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], delay: 10}", "expected a duration with its unit"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], loss: 1}", "expected a share in percent"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], jitter: 1ms}", "give `delay` as well"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], admin: half}", "expected `up` or `down`"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], manage: never}", "expected `observe` or `strict`"),
        ("    - {endpoints: ['a:eth1', 'b:eth1'], speed: 1}", "unknown field `speed`"),
    ]);
}

#[test]
fn ends_are_used_once() {
    links_refused(&[
        ("    - endpoints: ['a:eth1', 'b:eth1']\n    - endpoints: ['b:eth2', 'a:eth1']", "end `a:eth1` is used twice"),
        ("    - endpoints: ['a:eth1', 'a:eth1']", "end `a:eth1` is used twice"),
        (
            "    - endpoints: ['a:eth1', 'sw:p1']\n    - endpoints: ['a:eth2', 'host:p1']",
            "exists once in the host's network namespace",
        ),
        (
            "    - endpoints: ['a:eth1', 'sw:p1']\n    - endpoints: ['a:eth2', 'mgmt-net:p1']",
            "interface `p1` of the host is used twice",
        ),
        ("    - endpoints: ['a:eth1', 'h:p1']\n    - endpoints: ['a:eth2', 'sw:p1']", "end `sw:p1` is used twice"),
        ("    - endpoints: ['a:eth1', 'host:sw']", "interface `sw` of the host is used twice"),
        (
            "    - endpoints: ['a:eth1', 'b:eth1']\n    - endpoints: ['in-a:eth1', 'b:eth2']",
            "exists once in the network namespace of `a`",
        ),
        ("    - endpoints: ['a:eth1', 'c:eth1']\n    - endpoints: ['a:eth1', 'b:eth2']", "end `a:eth1` is used twice"),
    ]);
}

#[test]
fn two_spellings_of_one_interface_are_one_end() {
    let interfaces = InterfaceNames::new(|kind, port| match port.as_str().strip_prefix("Ethernet") {
        Some(number) if kind == "switch" => IfName::new(format!("eth{number}")).unwrap(),
        _ => interface_for(port),
    });
    let text = "name: x\ntopology:\n  nodes: {s: {kind: switch}, t: {kind: other}}\n  links:\n    - endpoints: ['s:Ethernet1', 't:Ethernet1']\n    - endpoints: ['s:eth1', 't:eth1']\n";
    assert!(read(text).is_ok());
    let options = Options { interfaces, ..Options::default() };
    let error = load_text("x", text, Path::new("/"), &options).unwrap_err().to_string();
    assert!(error.contains("end `s:eth1` is used twice") && error.contains("line 5 uses it already"), "{error}");
    assert!(!error.contains("`t:eth1`"), "{error}");
}

#[test]
fn a_link_that_is_there_already_is_left_out() {
    let interfaces = InterfaceNames::new(|_, port| match port.as_str().strip_prefix("Ethernet") {
        Some(number) => IfName::new(format!("eth{number}")).unwrap(),
        None => interface_for(port),
    });
    let links = "    - {type: veth, mtu: 1400, endpoints: [{node: s, interface: eth1}, {node: t, interface: eth1}]}
    - endpoints: ['t:Ethernet1', 's:eth1']
    - endpoints: ['s:eth2', 'host:p1']
    - endpoints: ['host:p1', 's:Ethernet2']\n";
    let text = format!("name: x\ntopology:\n  nodes: {{s: {{kind: linux}}, t: {{kind: linux}}}}\n  links:\n{links}");
    let options = Options { interfaces, ..Options::default() };
    let loaded = load_text("x", &text, Path::new("/"), &options).unwrap();
    assert_eq!(loaded.topology.links.len(), 2);
    assert_eq!(loaded.topology.links[0].attrs.mtu, 1400, "the first one stands");
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings[0].contains("the link `t:Ethernet1 -- s:eth1` is left out"), "{warnings:?}");
    assert!(warnings[0].contains("line 5 has it already"), "{warnings:?}");
    assert!(warnings[1].contains("`s:Ethernet2 -- host:p1`") && warnings.len() == 2, "{warnings:?}");
    assert!(load_text("x", &text, Path::new("/"), &Options { strict: true, ..options }).is_err());
}

#[test]
fn problems_in_values_of_variables_point_at_the_variable() {
    let options = Options { environment: [("KIND".to_owned(), "{x".to_owned())].into(), ..Options::default() };
    let text = "name: x\ntopology:\n  nodes:\n    a: {kind: $KIND}\n";
    let LoadError::Invalid(report) = load_text("lab.yml", text, Path::new("/"), &options).unwrap_err() else {
        panic!()
    };
    assert!(report.to_string().contains("a: {kind: $KIND}"), "{report}");
    let text = "name: ${NAME:-a b}\ntopology: {}\n";
    let LoadError::Invalid(report) = load_text("lab.yml", text, Path::new("/"), &options).unwrap_err() else {
        panic!()
    };
    assert_eq!(report.diagnostics[0].position, Some(Position { line: 1, column: 7, length: 12 }), "{report}");
}

#[test]
fn lines_that_a_template_made_say_so() {
    let text = "name: x\ntopology:\n  nodes:\n{{- range seq 2 }}\n    n{{ . }}: {knd: linux}\n{{- end }}\n";
    let error = read(text).unwrap_err().to_string();
    assert!(error.contains("lab.yml:5:10") && error.contains("not of the file"), "{error}");
    assert!(error.contains("    n2: {knd: linux}"), "{error}");
}
