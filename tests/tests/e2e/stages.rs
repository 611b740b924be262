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
  links:
    - endpoints: ['client:eth1', 'server:eth1']
";

pub(crate) fn a_client_waits_for_its_server(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("stages.clab.yml", LAB);
    let circle = LAB
        .replace("healthcheck:", "stages: {create: {wait-for: [{node: client, stage: create}]}}\n      healthcheck:");
    sandbox.write("circle.clab.yml", &circle);
    let said = sandbox.fails(1, &["validate", "circle.clab.yml"]);
    assert!(said.contains("in a circle") && said.contains("client") && said.contains("server"), "{said}");

    let mut serve = sandbox.serve();
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
    sandbox.ok(&["exec", "server", "--", "touch", "/tmp/up"]);
    until_up(&sandbox);

    // So it is with every start.
    sandbox.ok(&["exec", "server", "--", "rm", "/tmp/up"]);
    sandbox.ok(&["stop", "--all"]);
    sandbox.ok(&["start", "--all", "--no-wait"]);
    eventually("the server runs again, and the client waits again", LONG, waits);
    sandbox.ok(&["exec", "server", "--", "touch", "/tmp/up"]);
    until_up(&sandbox);
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}
