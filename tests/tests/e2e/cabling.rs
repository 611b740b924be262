//! A running lab that is cabled anew: nodes keep their interfaces where the backend can park them, and are told beforehand
//! where it cannot.

use libtest_mimic::Trial;
use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{enter, fingerprint, init, steadiness, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;
use serde_json::Value;

const LAB: &str = "\
name: desk
mgmt: {skip-when-unused: true}
topology:
  defaults: {kind: linux, network-mode: none}
  nodes:
    a: {exec: [ip address add 10.7.0.1/24 dev eth1]}
    b: {exec: [ip address add 10.7.0.2/24 dev eth1]}
    c: {exec: [ip address add 10.7.0.3/24 dev eth1]}
    d: {exec: [ip address add 10.7.0.4/24 dev eth1]}
";
const BYSTANDER: &str = "    - endpoints: [\"a:eth2\", \"d:eth2\"]\n";
const BEFORE: &str = "  links:
    - endpoints: [\"a:eth1\", \"b:eth1\"]
    - endpoints: [\"c:eth1\", \"d:eth1\"]
";
/// Both links exchange an end; one of them is another sort of link besides.
const EXCHANGED: &str = "  links:
    - {type: veth, mtu: 1400, endpoints: [{node: a, interface: eth1}, {node: c, interface: eth1}]}
    - endpoints: [\"d:eth1\", \"b:eth1\"]
";
/// A new node takes the place of another at the end of a link.
const REPLACED: &str = "    e: {exec: [ip address add 10.7.0.5/24 dev eth1]}
  links:
    - {type: veth, mtu: 1400, endpoints: [{node: a, interface: eth1}, {node: e, interface: eth1}]}
    - endpoints: [\"d:eth1\", \"b:eth1\"]
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("root::cabling::ovs", &[Need::Root, Need::OpenVswitch], || cable_anew(User::Root, "ovs")),
        trial("ordinary::cabling::linux_bridge", &[Need::UserNamespaces], || {
            cable_anew(User::Ordinary, "linux-bridge");
        }),
        trial("ordinary::cabling::veth", &[Need::UserNamespaces], || cable_anew(User::Ordinary, "veth")),
    ]
}

fn cable_anew(user: User, backend: &str) {
    let sandbox = Sandbox::new(user);
    let switch = (backend == "ovs").then(|| OpenVswitch::start_in(sandbox.network()));
    let settings =
        switch.as_ref().map(|switch| format!("ovs: {{ database: \"{}\", datapath: netdev }}", switch.database()));
    let config = sandbox.write("config.yaml", &format!("plugins: {{ {} }}\n", settings.unwrap_or_default()));
    let write = |rest: &str| sandbox.write("desk.clab.yml", &format!("{LAB}{rest}{BYSTANDER}"));
    let apply = |more: &[&str]| sandbox.ok(&[&["apply", "--backend", backend, "-t", "desk.clab.yml"], more].concat());
    write(BEFORE);
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", config.to_str().unwrap())]);
    apply(&[]);
    until_up(&sandbox);
    let addresses =
        |node: &str| enter(init(&sandbox, node), &["--net", "ip", "-o", "-4", "address", "show", "dev", "eth1"]);
    let all = ["a", "b", "c", "d"];
    let are_set = || all.iter().all(|node| addresses(node).contains("10.7.0."));
    eventually("addresses are set", LONG, || are_set().then_some(()));
    let pings =
        |from: &str, to: &str| sandbox.run(&["exec", from, "--", "ping", "-c", "1", "-W", "2", to]).status.success();
    eventually("a reaches b", LONG, || pings("a", "10.7.0.2").then_some(()));
    let state = || all.map(|node| (fingerprint(&sandbox, node), addresses(node)));
    let (before, other) = (state(), bystander(&sandbox.lab()));
    let stays = backend != "veth";

    write(EXCHANGED);
    let plan = apply(&["--dry-run"]);
    let becomes = if stays { "in place" } else { "made anew" };
    let told = format!("~ plug in elsewhere: interface b:eth1, from a:eth1 -- b:eth1 to d:eth1 -- b:eth1: {becomes}");
    assert!(plan.contains(&told), "{plan}");
    assert_eq!(state(), before, "a dry run changes nothing");
    apply(&[]);
    until_up(&sandbox);
    assert_eq!(state() == before, stays, "before: {before:#?}\nnow: {:#?}", state());
    assert_eq!(bystander(&sandbox.lab()), other, "the other link is not touched");
    for node in ["a", "c"] {
        let link = enter(init(&sandbox, node), &["--net", "ip", "-o", "link", "show", "dev", "eth1"]);
        assert!(link.contains("mtu 1400"), "{link}");
    }
    if stays {
        assert!(pings("a", "10.7.0.3") && pings("d", "10.7.0.2"), "the new neighbours reach each other");
        assert!(!pings("a", "10.7.0.2"), "the old ones do not any more");
    }
    sandbox.ok(&["selfcheck"]);

    let a = (fingerprint(&sandbox, "a"), addresses("a"));
    write(REPLACED);
    apply(&[]);
    until_up(&sandbox);
    assert_eq!((fingerprint(&sandbox, "a"), addresses("a")) == a, stays);
    let links = enter(init(&sandbox, "c"), &["--net", "ip", "-o", "link"]);
    assert!(!links.contains("eth1"), "nothing is plugged into c: {links}");
    if stays {
        eventually("a reaches the new node", LONG, || pings("a", "10.7.0.5").then_some(()));
    }
    assert_eq!(bystander(&sandbox.lab()), other, "the other link is not touched");

    sandbox.ok(&["selfcheck"]);
    sandbox.ok(&["destroy", "--all"]);
    if let Some(switch) = &switch {
        assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "", "bridges are left");
    }
    serve.end(Signal::SIGTERM);
    drop(switch);
    sandbox.assert_clean();
}

/// What tells whether the link that stays flapped.
fn bystander(lab: &Value) -> Value {
    let links = lab["links"].as_array().unwrap();
    let at_eth2 = |link: &&Value| link["ends"].as_array().unwrap().iter().any(|end| end["interface"] == "eth2");
    steadiness(links.iter().find(at_eth2).unwrap_or_else(|| panic!("no link at eth2: {lab:#}")))
}
