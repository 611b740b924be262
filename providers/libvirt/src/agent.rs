//! What the QEMU guest agent inside a machine is asked, through libvirt. It is a program of the guest's own, and may be
//! absent, late or stuck: each call has an end of its own, far below that of a call to libvirt.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::provider::{ExecOutput, ExecRequest, ExitRecord};
use serde::Deserialize;
use serde_json::{Value, json};
use virt::domain::Domain;
use virt::error::{Error as Cause, ErrorNumber};

use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};

/// The channel by which libvirt and the agent find each other.
pub(crate) const CHANNEL: &str = "org.qemu.guest_agent.0";
/// Seconds for an answer. Libvirt waits five more to learn whether the agent listens at all.
const PATIENCE: i32 = 10;
/// How often, and how many times, a command that was killed is asked for.
const LAST_LOOKS: (Duration, u32) = (Duration::from_millis(50), 20);

/// Bytes of each stream of output that are kept. Libvirt passes on four million characters of both in base64, and gives an
/// agent up for good that says much more.
const KEPT: usize = 1_500_000;
/// Sees to it, in the guest, that no more is said; the rest is read and dropped. The command takes the script's place, so
/// that its number and its end are its own.
const BOUNDED: &str = r#"
refuse() { echo "lifecycle: $*" >&2; exit 127; }
bound() { head -c KEPT; cat >/dev/null; }
pipes=$(mktemp -d) && mkfifo "$pipes/out" "$pipes/err" || refuse "no pipes can be made for the output"
( bound <"$pipes/out" & bound <"$pipes/err" >&2 & )
exec >"$pipes/out" 2>"$pipes/err"
rm -r "$pipes"
while [ "$1" != -- ]; do export "$1"; shift; done
shift
command -v "$1" >/dev/null || refuse "MISSING"
exec "$@"
"#;

/// What the script says of a command that is not there.
const MISSING: &str = "the machine has no such program";

/// What the agent says of a command.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Status {
    exited: bool,
    exitcode: Option<i32>,
    signal: Option<i32>,
    out_data: String,
    err_data: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    answer: T,
}

#[derive(Deserialize)]
struct Begun {
    pid: i64,
}

/// Whether the agent listens.
pub(crate) fn ping(daemon: &mut Daemon, domain: &Domain) -> Outcome<()> {
    ask::<Value>(daemon, domain, "guest-ping", json!({})).map(drop)
}

/// Begins a command; its number.
pub(crate) fn begin(daemon: &mut Daemon, domain: &Domain, request: &ExecRequest) -> Outcome<i64> {
    let script = BOUNDED.replace("KEPT", &(KEPT + 1).to_string()).replace("MISSING", MISSING);
    start(daemon, domain, &script, arguments(&request.env, &request.argv))
}

/// What the script is given: variables to set, and the command.
fn arguments(env: &BTreeMap<String, String>, argv: &[String]) -> Vec<String> {
    let set = env.iter().map(|(name, value)| format!("{name}={value}"));
    set.chain(["--".to_owned()]).chain(argv.iter().cloned()).collect()
}

fn start(daemon: &mut Daemon, domain: &Domain, script: &str, arguments: Vec<String>) -> Outcome<i64> {
    let words: Vec<String> = ["-c", script, "sh"].map(str::to_owned).into_iter().chain(arguments).collect();
    let wanted = json!({ "path": "sh", "arg": words, "capture-output": true });
    ask::<Begun>(daemon, domain, "guest-exec", wanted).map(|begun| begun.pid)
}

/// What is known of a command, once it has ended. The agent tells it once.
pub(crate) fn ended(daemon: &mut Daemon, domain: &Domain, pid: i64) -> Outcome<Option<Status>> {
    let status: Status = ask(daemon, domain, "guest-exec-status", json!({ "pid": pid }))?;
    Ok(status.exited.then_some(status))
}

/// Ends a command by force. The agent has no call for that, so the guest's shell does it.
pub(crate) fn kill(daemon: &mut Daemon, domain: &Domain, pid: i64) -> Outcome<()> {
    if ended(daemon, domain, pid)?.is_some() {
        return Ok(());
    }
    let killer = start(daemon, domain, &format!("kill -KILL {pid}"), Vec::new())?;
    // The agent remembers what nobody asked for the end of.
    for about in [killer, pid] {
        for _ in 0..LAST_LOOKS.1 {
            if ended(daemon, domain, about)?.is_some() {
                break;
            }
            std::thread::sleep(LAST_LOOKS.0);
        }
    }
    Ok(())
}

impl Status {
    /// What the command did, or why it was none.
    pub(crate) fn output(self) -> Outcome<ExecOutput> {
        let decoded = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|error| Failure::new(ErrorKind::Failed, format!("the agent's answer: {error}")))
        };
        let (mut stdout, mut stderr) = (decoded(&self.out_data)?, decoded(&self.err_data)?);
        if let (Some(127), Some(reason)) = (self.exitcode, stderr.strip_prefix(b"lifecycle: ")) {
            let reason = String::from_utf8_lossy(reason).trim().to_owned();
            let kind = if reason == MISSING { ErrorKind::NotFound } else { ErrorKind::Failed };
            return Err(Failure::new(kind, reason));
        }
        let truncated = stdout.len().max(stderr.len()) > KEPT;
        stdout.truncate(KEPT);
        stderr.truncate(KEPT);
        let exit = ExitRecord { code: self.exitcode.filter(|_| self.signal.is_none()), signal: self.signal, at: None };
        Ok(ExecOutput { exit, stdout, stderr, truncated })
    }
}

fn ask<T: for<'a> Deserialize<'a>>(
    daemon: &mut Daemon,
    domain: &Domain,
    command: &str,
    arguments: Value,
) -> Outcome<T> {
    let text = json!({ "execute": command, "arguments": arguments }).to_string();
    let answer = daemon.call(|_| match domain.qemu_agent_command(&text, PATIENCE, 0) {
        Err(cause) if is_agents(&cause) => Ok(Err(cause)),
        answer => answer.map(Ok),
    })?;
    let answer = answer.map_err(refusal)?;
    serde_json::from_str(&answer).map(|Answer { answer }| answer).map_err(|error| {
        Failure::new(ErrorKind::Failed, format!("the guest agent's answer to `{command}` is not understood: {error}"))
    })
}

/// Whether an error is about the agent, or what it says, and not about the daemon, which answers.
fn is_agents(cause: &Cause) -> bool {
    match cause.code() {
        ErrorNumber::AgentUnresponsive
        | ErrorNumber::AgentUnsynced
        | ErrorNumber::AgentCommandFailed
        | ErrorNumber::ArgumentUnsupported => true,
        // A connection that breaks is one of those too.
        ErrorNumber::InternalError => cause.message().contains("agent command"),
        _ => false,
    }
}

/// What it means that an agent does not do what it is asked for, and what to do.
fn refusal(cause: Cause) -> Failure {
    let (code, mut failure) = (cause.code(), Failure::from(cause));
    let says = |words: &str| failure.message.contains(words);
    let (kind, advice) = match code {
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentUnsynced => (
            ErrorKind::Conflict,
            "commands are run by QEMU's guest agent, which does not answer: install qemu-guest-agent in the image, or wait \
             until the machine has booted",
        ),
        ErrorNumber::ArgumentUnsupported => (
            ErrorKind::Unsupported,
            "commands are run by QEMU's guest agent, for which this machine has no port; it gets one, unless `extras: \
             {libvirt: {agent: false}}` says otherwise, when it is destroyed and deployed again",
        ),
        _ if says("been disabled") => (
            ErrorKind::PermissionDenied,
            "the guest agent may run no commands; allow `guest-exec` in its configuration",
        ),
        _ if says("Failed to execute child process") => {
            (ErrorKind::Unsupported, "commands are run by a shell of the machine's, `sh`, which cannot be run")
        }
        _ => return failure,
    };
    failure.message = format!("{advice} ({})", failure.message);
    failure.kind = kind;
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_told_whole() {
        let status = |text: &str| serde_json::from_str::<Status>(text).unwrap();
        assert!(!status(r#"{"exited": false}"#).exited);
        let output = status(r#"{"exited": true, "exitcode": 3, "out-data": "YQo="}"#).output().unwrap();
        assert_eq!((output.exit.code, output.stdout.as_slice(), output.truncated), (Some(3), &b"a\n"[..], false));
        let killed = status(r#"{"exited": true, "signal": 9}"#).output().unwrap();
        assert_eq!((killed.exit.code, killed.exit.signal), (None, Some(9)));
        assert!(status(r#"{"exited": true, "out-data": "?"}"#).output().is_err());
    }
}
