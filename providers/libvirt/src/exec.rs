//! Commands in machines: begun by the guest's agent, and asked for until they have ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifecycle_core::plugin::provider::{Exec, ExecOutput, ExecRequest, InstanceRef};
use lifecycle_core::{ErrorKind, Result};
use virt::domain::Domain;

use crate::agent;
use crate::crew::Crew;
use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::life::Yard;
use crate::provider::LibvirtProvider;

/// Between two questions whether a command has ended, at first and at last.
const ASK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Between two questions whether an agent has come.
const KNOCK: Duration = Duration::from_millis(500);

/// A command in a machine, which is killed when this is dropped before its end was seen.
struct Running {
    crew: Arc<Crew>,
    yard: Arc<Yard>,
    instance: InstanceRef,
    /// The run of the machine that it is in.
    run: Option<u32>,
    pid: i64,
    is_over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (yard, instance, run, pid) = (Arc::clone(&self.yard), self.instance.clone(), self.run, self.pid);
        self.crew.leave_word(self.instance.node, move |daemon| {
            let killed = in_run(&yard, daemon, &instance, run).and_then(|domain| match domain {
                Some(domain) => agent::kill(daemon, &domain, pid),
                None => Ok(()),
            });
            if let Err(failure) = killed {
                tracing::warn!(%instance, pid, reason = failure.message, "a command may still run in a machine");
            }
        });
    }
}

/// The domain of an instance that exists and runs.
fn running(yard: &Yard, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<Domain> {
    yard.existing(instance)?;
    let not_running = || Failure::new(ErrorKind::Conflict, "the node does not run; start it first");
    yard.running(daemon, instance)?.ok_or_else(not_running)
}

/// The domain of an instance, if it is in this run yet: what ran in another ended with that.
fn in_run(yard: &Yard, daemon: &mut Daemon, instance: &InstanceRef, run: Option<u32>) -> Outcome<Option<Domain>> {
    Ok(yard.running(daemon, instance)?.filter(|domain| domain.get_id() == run))
}

impl LibvirtProvider {
    async fn run(&self, instance: &InstanceRef, request: &ExecRequest) -> Outcome<ExecOutput> {
        if request.user.is_some() {
            let text =
                "commands in a machine run as its guest agent does; name the user to `su` or the like in the command";
            return Err(Failure::new(ErrorKind::Unsupported, text));
        }
        let (crew, yard) = (Arc::clone(self.crew()), Arc::clone(self.yard()));
        let (about, wanted) = (instance.clone(), request.clone());
        let begin = move |daemon: &mut Daemon| {
            let domain = running(&yard, daemon, &about)?;
            let run = domain.get_id();
            let pid = agent::begin(daemon, &domain, &wanted)?;
            Ok(Running { crew, yard, instance: about, run, pid, is_over: false })
        };
        let mut command = self.crew().talk(instance.node, begin).await?;
        let (run, pid) = (command.run, command.pid);
        let (mut wait, mut heard) = (ASK.0, Instant::now());
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 3 / 2).min(ASK.1);
            let (yard, about) = (Arc::clone(self.yard()), instance.clone());
            let ask = move |daemon: &mut Daemon| match in_run(&yard, daemon, &about, run)? {
                Some(domain) => Ok(Some(agent::ended(daemon, &domain, pid)?)),
                None => Ok(None),
            };
            match self.crew().talk(instance.node, ask).await {
                Ok(Some(None)) => heard = Instant::now(),
                Ok(Some(Some(status))) => {
                    command.is_over = true;
                    return status.output();
                }
                Ok(None) => {
                    return Err(Failure::new(ErrorKind::Interrupted, "the machine ended while the command ran"));
                }
                // A guest that is busy answers later, and so does a daemon that is restarted.
                Err(failure) if failure.kind.may_pass() && heard.elapsed() < self.settings().deadline() => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn until_agent(&self, instance: &InstanceRef) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let (yard, about) = (Arc::clone(self.yard()), instance.clone());
            let knock = move |daemon: &mut Daemon| {
                let domain = running(&yard, daemon, &about)?;
                Ok(agent::ping(daemon, &domain))
            };
            match self.crew().talk(instance.node, knock).await? {
                Err(failure) if failure.kind.may_pass() && began.elapsed() < self.settings().agent() => {
                    tokio::time::sleep(KNOCK).await;
                }
                answer => return answer,
            }
        }
    }
}

#[async_trait]
impl Exec for LibvirtProvider {
    async fn until_able(&self, instance: &InstanceRef) -> Result<()> {
        self.until_agent(instance).await.map_err(|failure| failure.during("wait for the guest agent", instance))
    }

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
