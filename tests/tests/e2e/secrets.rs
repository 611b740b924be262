//! Secrets of a lab are in no log, audit row, event, error or answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{is_up, node};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use nix::sys::signal::Signal;

/// What is looked for everywhere.
const MARK: &str = "hunter2-marked";

/// A lab with a secret wherever one can be, whose commands tell the node's on top of it.
fn lab() -> String {
    format!(
        "name: vault
topology:
  nodes:
    a:
      kind: linux
      env: {{ API_TOKEN: {MARK}-token }}
      credentials: {{ username: admin, password: {MARK}-password }}
      startup-config: |
        username admin
        password {MARK}-config
      exec:
        - sh -c 'echo $API_TOKEN'
        - sh -c 'echo it is $API_TOKEN >&2; exit 3'
        - sh -c 'echo {MARK}-password; exit 4'
      healthcheck: {{ test: [CMD-SHELL, 'echo $API_TOKEN; exit 1'], interval: 1, retries: 1 }}
    b:
      kind: linux
      env: {{ DB_PASSWORD: {MARK}-b }}
      cmd: /no/such/{MARK}-b
"
    )
}

/// What the controller answers at an address.
pub(crate) fn get(socket: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

pub(crate) fn no_secret_is_shown(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("vault.clab.yml", &lab());
    let mut serve = sandbox.serve_with(&[("LIFECYCLE_LOG_LEVEL", "trace")]);
    let mut told = Vec::new();
    let mut tell = |what: &str, text: String| told.push((what.to_owned(), text));
    let said = |arguments: &[&str]| {
        let output = sandbox.run(arguments);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    tell("dry run", said(&["deploy", "--dry-run", "-t", "vault.clab.yml"]));
    tell("deploy", said(&["deploy", "-t", "vault.clab.yml", "--timeout", "3s"]));
    eventually("its commands were run, and its check", LONG, || {
        let a = node(&sandbox, "a");
        (a["actual_state"] == "running" && a["is_ready"] == false && !a["note"].is_null()).then_some(())
    });
    eventually("b has failed", LONG, || (!node(&sandbox, "b")["error_message"].is_null()).then_some(()));
    assert!(!is_up(&sandbox.lab()));
    // The node itself has it, of course.
    assert_eq!(sandbox.ok(&["exec", "a", "--", "sh", "-c", "echo $API_TOKEN"]), format!("{MARK}-token\n"));
    for arguments in [
        &["inspect", "-o", "json"][..],
        &["inspect", "-a", "-o", "yaml"],
        &["history", "a", "-o", "json"],
        &["history", "b", "-o", "json"],
        &["events", "-o", "jsonl"],
        &["graph", "vault"],
        &["start", "b", "--no-wait"],
        &["selfcheck"],
        &["deploy", "-t", "vault.clab.yml", "--timeout", "1s"],
    ] {
        tell(&arguments.join(" "), said(arguments));
    }
    let log = sandbox.log();
    let socket = log.lines().find_map(|line| line.split("serving the state directory").nth(1)?.split(" at ").nth(1));
    let socket = socket.unwrap().trim().to_owned();
    for path in [
        "/api/v1/labs",
        "/api/v1/labs/vault",
        "/api/v1/labs/vault/topology",
        "/api/v1/labs/vault/nodes",
        "/api/v1/labs/vault/nodes/a",
        "/api/v1/labs/vault/nodes/b",
        "/api/v1/audit?limit=1000",
        "/api/v1/jobs",
    ] {
        tell(path, get(&socket, path));
    }
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    tell("log", sandbox.log());
    for (what, text) in &told {
        let line = text.lines().find(|line| line.contains(MARK));
        assert!(line.is_none(), "a secret is in `{what}`: {}", line.unwrap_or_default());
    }
    // What was looked at does tell of the secrets, hidden: a variable by its name, a command with its output, an error.
    let all: String = told.iter().map(|(_, text)| text.as_str()).collect();
    for text in ["API_TOKEN", "exit code 4: ***", "cannot run `/no/such/***`"] {
        assert!(all.contains(text), "{text} is not in {all}");
    }
    sandbox.assert_clean();
}
