//! Vendors that their user wrote down in a file.

use std::fs;
use std::path::Path;

use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::node;
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use nix::sys::signal::Signal;

/// A vendor whose platform prints how far it has come, in colours and with bare carriage returns, and reads its
/// configuration where its image looks for it.
const ACME: &str = r#"
vendor: ACME
kinds:
  - kind: acme_router
    aliases: [acme]
    label: ACME Router
    image: acme/router:1
    interfaces: { ports: [{ template: "slot0/port{n}", start: 10, step: 10 }] }
    env: { ACME_MODE: lab }
    options:
      quick: { about: boots without its tests, env: ACME_QUICK, default: "true" }
    startup-config: { method: bind, path: /etc/acme.cfg }
    readiness: { probe: log, pattern: '^acme> $|System ready', interval: 1, timeout: 60 }
    progress:
      - { pattern: loading, percent: 20 }
      - { pattern: interfaces found, percent: 60 }
    save:
      command: [sh, -c, 'echo Building configuration...; cat /etc/acme.cfg; echo mode $ACME_MODE']
      file: acme.cfg
      drop: ["^Building"]
  # Instead of the one that is built in.
  - kind: vyos
    image: acme/router:1
    readiness: { probe: command, command: [test, -e, /tmp/up], interval: 1 }
"#;

/// What an operator says: where vendor files are, and what stands in for images.
const CONFIG: &str = "
vendors: [vendors]
images: [{ image: 'acme/*', root: host }, { image: 'ios-xr:*', root: host }]
";

const LAB: &str = r#"
name: wide
topology:
  nodes:
    a:
      kind: acme
      startup-config: a.cfg
      cmd: sh -c 'printf "\033[32mloa\033[0mding\n"; until [ -e /tmp/go ]; do sleep 0.1; done; printf "10%%\rinterfaces found\r\n"; until [ -e /tmp/on ]; do sleep 0.1; done; printf "100%%\r\033[1mSystem ready\n"; exec sleep 1000'
    b: { kind: vyos, exec: [touch /tmp/up] }
    c: { kind: linux }
  links:
    - endpoints: ["a:slot0/port10", "b:eth1"]
    - endpoints: ["a:slot0/port20", "c:eth1"]
"#;

pub(crate) fn a_vendor_file_is_used(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("vendors/acme.yml", ACME);
    let config = sandbox.write("config.yaml", CONFIG).to_str().unwrap().to_owned();
    sandbox.write("a.cfg", "hostname a\n");
    sandbox.write("wide.clab.yml", LAB);
    let said = sandbox.fails(1, &["validate", "wide.clab.yml"]);
    assert!(said.contains("unknown kind `acme`") && said.contains("linux"), "{said}");
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", &config)]);
    assert!(sandbox.log().contains("the kind `vyos` of the vendor `ACME`"), "{}", sandbox.log());
    // The controller tells those who come with a lab file what it knows.
    sandbox.ok(&["deploy", "--no-wait", "-t", "wide.clab.yml"]);
    let progress = |percent: u64| {
        eventually(&format!("{percent} percent"), LONG, || (node(&sandbox, "a")["progress"] == percent).then_some(()));
    };
    let sh = |node: &str, script: &str| sandbox.ok(&["exec", node, "--", "sh", "-c", script]);
    progress(20);
    assert_eq!(node(&sandbox, "a")["is_ready"], false);
    sh("a", "touch /tmp/go");
    progress(60);
    sh("a", "touch /tmp/on");
    progress(100);
    sandbox.ok(&["wait", "a", "b", "--for", "ready", "--timeout", "20s"]);
    let events = sandbox.ok(&["events", "-o", "jsonl"]);
    assert!(events.contains("\"progress\":60") && events.contains("\"boot_started_at\":\""), "{events}");

    // Its ports are interfaces, its variables and its configuration are there.
    let seen = sh("a", "ls -d /sys/class/net/eth1 /sys/class/net/eth2; echo $ACME_MODE $ACME_QUICK $CLAB_INTFS");
    assert!(seen.ends_with("lab true 2\n") && seen.contains("eth2"), "{seen}");
    assert_eq!(sh("a", "cat /etc/acme.cfg; echo $CLAB_LABEL_CLAB_NODE_KIND"), "hostname a\nacme\n");

    // What an earlier run printed does not make the next one ready.
    sh("a", "rm /tmp/go /tmp/on");
    sandbox.ok(&["restart", "a", "--no-wait"]);
    progress(20);
    assert_eq!(node(&sandbox, "a")["is_ready"], false);
    sh("a", "touch /tmp/go /tmp/on");
    sandbox.ok(&["wait", "a", "--for", "ready", "--timeout", "20s"]);

    // One node, then all of the lab; the Linux node has nothing to tell.
    let kept = sandbox.labs().join("clab-wide/a/acme.cfg");
    sandbox.ok(&["save", "a"]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "hostname a\nmode lab\n");
    let other = sandbox.labs().join("other");
    fs::create_dir(&other).unwrap();
    give_to(&other, user);
    let all = sandbox.ok(&["save", "-d", "other"]);
    assert!(all.contains("wide/c") && all.contains("nothing says how"), "{all}");
    assert!(other.join("clab-wide/a/acme.cfg").is_file() && !other.join("clab-wide/c").exists());
    assert!(sandbox.fails(1, &["save", "c"]).contains("kind `linux`"));

    sandbox.ok(&["destroy", "--all"]);
    assert_eq!(serve.end(Signal::SIGTERM), Some(0));
    sandbox.assert_clean();
}

/// What root made in a test is for the user that the test is about.
fn give_to(path: &Path, user: User) {
    if user == User::Ordinary && nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::{MetadataExt, chown};
        let owner = fs::metadata(path.parent().unwrap()).unwrap();
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
}

pub(crate) fn bad_vendor_files_are_told(user: User) {
    let sandbox = Sandbox::new(user);
    let vendors = sandbox.write("vendors/bad.yml", "vendor: X\nkinds:\n  - kind: x\n    redyness: {}\n");
    let directory = vendors.parent().unwrap().to_str().unwrap().to_owned();
    sandbox.write("x.clab.yml", "name: x\ntopology:\n  nodes:\n    a: { kind: x }\n");
    let said = sandbox.fails(2, &["--vendor-dir", &directory, "up", "x.clab.yml"]);
    for word in ["bad.yml", "line 4", "redyness", "readiness"] {
        assert!(said.contains(word), "{said}");
    }
    let said = sandbox.fails(2, &["--vendor-dir", "nowhere", "validate", "x.clab.yml"]);
    assert!(said.contains("nowhere"), "{said}");
    // A kind of the catalogue that asks for what its node's provider cannot do is blocked, with what can be done.
    sandbox.write("r.cfg", "hostname r\n");
    sandbox.write(
        "xr.clab.yml",
        "name: xr\ntopology:\n  nodes:\n    r: { kind: cisco_xrv9k, memory: 1G, cpu: 0.1, startup-config: r.cfg }\n",
    );
    let config = sandbox.write("config.yaml", &CONFIG.replace("vendors: [vendors]", "")).to_str().unwrap().to_owned();
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_CONFIG", &config)]);
    sandbox.ok(&["deploy", "--no-wait", "-t", "xr.clab.yml"]);
    eventually("it is blocked", LONG, || {
        node(&sandbox, "r")["blocked"].as_str().filter(|why| why.contains("from a medium")).map(|_| ())
    });
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}
