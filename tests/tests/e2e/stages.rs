//! Nodes that wait for the stages of others.

use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{node, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use nix::sys::signal::Signal;

/// The client starts once the server is healthy, and the server is that once a file is there, which is its own.
const LAB: &str = "
name: stages
topology:
  defaults: {kind: linux, cmd: sleep infinity}
  nodes:
    client:
      stages: {create: {wait-for: [{node: server, stage: healthy}]}}
    server:
      healthcheck: {interval: 1, test: [CMD, test, -e, /tmp/up]}
      exec: [sh -c 'echo exec >>/tmp/order']
      stages:
        create-links: {exec: [{command: sh -c 'ls /sys/class/net | grep eth1 >>/tmp/order'}]}
        configure:
          exec: {on-enter: [sh -c 'echo before >>/tmp/order'], on-exit: [sh -c 'echo after >>/tmp/order']}
        healthy:
          exec:
            - {command: sh -c 'echo probed >>/tmp/order', phase: on-enter}
            - {command: sh -c 'echo healthy >>/tmp/order', phase: on-exit}
  links:
    - endpoints: ['client:eth1', 'server:eth1']
";

pub(crate) fn a_client_waits_for_its_server(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("stages.clab.yml", LAB);
    let circle = LAB.replace("create-links: {", "create-links: {wait-for: [{node: client, stage: create}], ");
    sandbox.write("circle.clab.yml", &circle);
    let said = sandbox.fails(1, &["validate", "circle.clab.yml"]);
    assert!(said.contains("in a circle") && said.contains("client") && said.contains("server"), "{said}");

    // What would be run on the host is not, and says so.
    sandbox.write("host.clab.yml", &LAB.replace("{command: sh -c 'ls", "{target: host, command: sh -c 'ls"));

    let mut serve = sandbox.serve();
    let said = sandbox.fails(1, &["deploy", "-t", "host.clab.yml"]);
    assert!(said.contains("stages.create-links.exec") && said.contains("target: container"), "{said}");
    sandbox.ok(&["deploy", "--no-wait", "-t", "stages.clab.yml"]);
    let waits = || {
        let client = node(&sandbox, "client");
        let says_so = client["note"].as_str().is_some_and(|note| note.contains("waits for server to reach `healthy`"));
        (says_so && client["actual_state"] != "running" && node(&sandbox, "server")["actual_state"] == "running")
            .then_some(())
    };
    eventually("the server runs, and the client waits for it", LONG, waits);
    // The server has its link although the client does not run.
    sandbox.ok(&["exec", "server", "--", "ls", "/sys/class/net/eth1"]);
    // The file is not there before the first of them.
    let order = || {
        let read = sandbox.run(&["exec", "server", "--", "cat", "/tmp/order"]);
        String::from_utf8_lossy(&read.stdout).into_owned()
    };
    let once = "eth1\nbefore\nexec\nafter\nprobed\n";
    eventually("its commands were run up to its health check", LONG, || (order() == once).then_some(()));
    sandbox.ok(&["exec", "server", "--", "touch", "/tmp/up"]);
    until_up(&sandbox);
    // The client does not start before they have ended.
    assert_eq!(order(), format!("{once}healthy\n"));

    // So it is with every start.
    sandbox.ok(&["exec", "server", "--", "rm", "/tmp/up"]);
    sandbox.ok(&["stop", "--all"]);
    sandbox.ok(&["start", "--all", "--no-wait"]);
    eventually("the server runs again, and the client waits again", LONG, waits);
    sandbox.ok(&["exec", "server", "--", "touch", "/tmp/up"]);
    until_up(&sandbox);
    assert_eq!(order(), format!("{once}healthy\n").repeat(2));
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}
