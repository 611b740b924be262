//! Commands in nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use futures_util::StreamExt;
use lifecycle_core::plugin::provider::{EXEC_OUTPUT_LIMIT, Exec, ExecOutput, ExecRequest, InstanceRef};
use lifecycle_core::{ErrorKind, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::client::Client;
use crate::failure::Failure;
use crate::observe::exit_record;
use crate::provider::ContainerProvider;

/// What daemons write in place of a command's output when it could not be started.
const REFUSALS: [&str; 4] = ["OCI runtime exec failed", "runc: exec failed", "unable to find user", "crun: "];

/// Between two looks whether a command was started.
const LOOK: Duration = Duration::from_millis(50);

/// A command that is killed when this is dropped before its end was seen. Daemons have no call for that.
struct Killed {
    client: Arc<Client>,
    id: Option<String>,
}

impl Drop for Killed {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let client = Arc::clone(&self.client);
        runtime.spawn(async move {
            // Nobody waits for it; what cannot be killed ends with its node.
            let _ = kill(&client, &id).await;
        });
    }
}

async fn inspect(client: &Client, id: &str) -> std::result::Result<ExecInspectResponse, Failure> {
    client.ask(async |docker| docker.inspect_exec(id).await).await
}

/// Kills the process of a command. The descriptor is opened first and the daemon asked again after, so that a number that
/// was given to another process meanwhile does no harm.
async fn kill(client: &Client, id: &str) -> std::result::Result<(), Failure> {
    let number = |found: &ExecInspectResponse| found.pid.filter(|_| found.running == Some(true));
    let began = Instant::now();
    let first = loop {
        let found = inspect(client, id).await?;
        match number(&found) {
            Some(first) => break first,
            // Whoever asked has gone, and the daemon may still be about to start it.
            None if found.exit_code.is_none() && began.elapsed() < client.settings().deadline() => {
                tokio::time::sleep(LOOK).await;
            }
            None => return Ok(()),
        }
    };
    let Some(pid) = i32::try_from(first).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if number(&inspect(client, id).await?) == Some(first) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    Ok(())
}

impl ContainerProvider {
    /// Prepares a command in a node that runs.
    pub(crate) async fn prepare(
        &self,
        instance: &InstanceRef,
        options: CreateExecOptions<String>,
    ) -> std::result::Result<String, Failure> {
        let parts = self.existing(instance).await?;
        let not_running = || Failure::new(ErrorKind::Conflict, "the node does not run; start it first");
        let node = parts.node.filter(|node| node.is_alive()).ok_or_else(not_running)?;
        let made = self.client.act(Duration::ZERO, async |docker| docker.create_exec(node.id(), options).await);
        // Whatever an unknown answer hides, a command that was only prepared does nothing.
        Ok(made.await.map_err(Failure::of_reading)?.id)
    }

    async fn run(&self, instance: &InstanceRef, request: &ExecRequest) -> std::result::Result<ExecOutput, Failure> {
        let env: Vec<String> = request.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(env),
            cmd: Some(request.argv.clone()),
            user: request.user.clone(),
            ..CreateExecOptions::default()
        };
        let id = self.prepare(instance, options).await?;
        let mut guard = Killed { client: Arc::clone(&self.client), id: Some(id.clone()) };
        let attached = self
            .client
            .act(Duration::ZERO, async |docker| docker.start_exec(&id, None::<StartExecOptions>).await)
            .await
            .map_err(refused)?;
        let StartExecResults::Attached { mut output, input: _input } = attached else {
            return Err(Failure::new(ErrorKind::Failed, "the daemon ran the command without its output"));
        };
        let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
        while let Some(piece) = output.next().await {
            let (kept, bytes) = match piece? {
                LogOutput::StdErr { message } => (&mut stderr, message),
                LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                    (&mut stdout, message)
                }
            };
            let room = EXEC_OUTPUT_LIMIT - kept.len();
            truncated |= bytes.len() > room;
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        let ended = self.ended(&id).await?;
        guard.id = None;
        if matches!(ended, Some(126 | 127)) {
            let said = String::from_utf8_lossy(if stdout.is_empty() { &stderr } else { &stdout });
            if let Some(reason) = said.lines().find(|line| REFUSALS.iter().any(|refusal| line.contains(refusal))) {
                return Err(refusal(reason));
            }
        }
        Ok(ExecOutput { exit: exit_record(ended, None), stdout, stderr, truncated })
    }

    /// The code of a command whose output is over.
    pub(crate) async fn ended(&self, id: &str) -> std::result::Result<Option<i64>, Failure> {
        let mut wait = Duration::from_millis(5);
        loop {
            let found = inspect(&self.client, id).await?;
            if found.running != Some(true) {
                return Ok(found.exit_code);
            }
            // The daemon is about to see that it ended; or it closed its output and goes on.
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }
}

/// Why a command could not be started.
fn refusal(reason: &str) -> Failure {
    let missing = ["not found", "no such file"].iter().any(|words| reason.contains(words));
    let kind = if missing { ErrorKind::NotFound } else { ErrorKind::InvalidInput };
    Failure::new(kind, reason.trim().to_owned())
}

fn refused(failure: Failure) -> Failure {
    if REFUSALS.iter().any(|words| failure.message.contains(words)) { refusal(&failure.message) } else { failure }
}

#[async_trait]
impl Exec for ContainerProvider {
    async fn exec(&self, instance: &InstanceRef, request: &ExecRequest) -> Result<ExecOutput> {
        let work = self.run(instance, request);
        let result = match request.timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                let text = format!("the command was killed: it did not end within {limit:?}");
                Err(Failure::new(ErrorKind::Timeout, text))
            }),
        };
        result.map_err(|failure| failure.during("exec", instance))
    }
}
