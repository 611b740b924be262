//! The loop around [`step`](crate::decide::step): gathers what happened, decides, commits, and only then acts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::model::Batch;
use lifecycle_core::name::HostName;
use lifecycle_core::plugin::StateStore;
use lifecycle_core::secret::Secrets;
use lifecycle_core::time::BootInstant;
use lifecycle_crash::{crash_around, crash_point};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use super::clock::Clock;
use super::feed::Feed;
use super::host::Host;
use super::{logs, secrecy};
use crate::decide::{
    Command, CommandError, CommandId, Effect, EffectId, Input, Kinds, Outcome, Reply, Settings, Step, Subject, World,
    step,
};

/// Messages that one step takes in at most, so that commits stay small enough to be quick.
const BATCH: usize = 1024;
/// How long a commit is tried again when the store is merely busy.
const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two tries to read the state after a commit failed.
const RELOAD_WAIT: Duration = Duration::from_millis(500);

/// What the loop is told.
pub(super) enum Message {
    /// Somebody wants something.
    Command { user: String, command: Command, reply: oneshot::Sender<Result<Reply, CommandError>> },
    /// Somebody wants to read.
    Query(Box<dyn FnOnce(&World) + Send>),
    /// A plugin has news, or the loop talks to itself.
    Input(Input),
    /// The loop is to end.
    Stop,
}

/// How the loop fares, for whoever embeds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Running,
    /// The state cannot be saved: nothing is done until it can.
    StoreFailing(String),
    /// It ended as asked.
    Stopped,
    /// A newer controller has taken over.
    Fenced,
}

type Answers = BTreeMap<CommandId, oneshot::Sender<Result<Reply, CommandError>>>;

pub(super) struct Loop {
    pub(super) world: World,
    pub(super) settings: Settings,
    pub(super) kinds: Kinds,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) hosts: BTreeMap<HostName, Arc<dyn Host>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: ChaCha8Rng,
    pub(super) feed: Feed,
    pub(super) status: watch::Sender<Status>,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) effects: JoinSet<(EffectId, Outcome)>,
    /// Tells effects that need not be waited for that the world is read anew.
    pub(super) anew: watch::Sender<()>,
    pub(super) next_command: u64,
}

impl Loop {
    /// Runs until it is told to stop or a newer controller takes over.
    pub(super) async fn run(mut self, loopback: mpsc::Sender<Message>) {
        let watchers = self.watch_hosts(&loopback);
        drop(loopback);
        let end = self.work().await;
        crash_point("stopping");
        drop(watchers);
        self.effects.shutdown().await;
        crash_point("effects-ended");
        if end == Status::Stopped
            && let Err(error) = self.store.release().await
        {
            tracing::warn!(error = error.chain(), "the state could not be released");
        }
        crash_point("released");
        let _ = self.status.send(end);
    }

    fn watch_hosts(&self, loopback: &mpsc::Sender<Message>) -> JoinSet<()> {
        let mut watchers = JoinSet::new();
        for (name, host) in &self.hosts {
            let (name, mut news, loopback) = (name.clone(), host.watch(), loopback.clone());
            watchers.spawn(async move {
                while let Some((plugin, news)) = news.next().await {
                    let input = Input::News { host: name.clone(), plugin, news };
                    if loopback.send(Message::Input(input)).await.is_err() {
                        return;
                    }
                }
            });
        }
        watchers
    }

    async fn work(&mut self) -> Status {
        let mut wake: Option<BootInstant> = None;
        let mut first = true;
        loop {
            let mut inputs = Vec::new();
            let mut answers = Answers::new();
            if !std::mem::take(&mut first) && !self.gather(wake, &mut inputs, &mut answers).await {
                return Status::Stopped;
            }
            let now = self.clock.now();
            let is_answered = inputs.iter().any(|input| matches!(input, Input::Outcome { .. }));
            let decided = step(&mut self.world, inputs, now, &mut self.rng);
            if is_answered {
                crash_point("answer-decided");
            }
            wake = decided.wake;
            if self.world.step == 1 {
                crash_point("recovered");
            }
            match self.commit(&decided.batch).await {
                Ok(()) => self.carry_out(decided, answers),
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    refuse(answers, &error);
                    tracing::error!(error = error.chain(), "a newer controller has taken over; this one stops");
                    return Status::Fenced;
                }
                Err(error) => {
                    refuse(answers, &error);
                    if !self.rebuild(&error).await {
                        return Status::Stopped;
                    }
                    (wake, first) = (None, true);
                }
            }
        }
    }

    /// Waits until something happens or is due, and takes all that has happened. False means that the loop is to end.
    async fn gather(&mut self, wake: Option<BootInstant>, inputs: &mut Vec<Input>, answers: &mut Answers) -> bool {
        let wait = wake.map(|at| Duration::from_millis(at.millis.saturating_sub(self.clock.now().boot.millis)));
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            Some(ended) = self.effects.join_next() => {
                crash_point("answer-taken");
                inputs.extend(outcome(ended));
            }
            count = self.messages.recv_many(&mut messages, BATCH) => if count == 0 { return false },
            () = sleep(wait) => {}
        }
        while inputs.len() < BATCH {
            match self.effects.try_join_next() {
                Some(ended) => inputs.extend(outcome(ended)),
                None => break,
            }
        }
        while messages.len() + inputs.len() < BATCH {
            match self.messages.try_recv() {
                Ok(message) => messages.push(message),
                Err(_) => break,
            }
        }
        for message in messages {
            match message {
                Message::Stop => return false,
                Message::Query(query) => query(&self.world),
                Message::Input(input) => inputs.push(input),
                Message::Command { user, command, reply } => {
                    self.next_command += 1;
                    let id = CommandId(self.next_command);
                    answers.insert(id, reply);
                    inputs.push(Input::Command { id, user, command });
                }
            }
        }
        true
    }

    /// Commits a batch, and once more while the store is merely busy: a batch is committed once however often it is
    /// sent.
    async fn commit(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        crash_point("before-commit");
        loop {
            match self.store.commit(batch).await {
                Ok(()) => {
                    crash_point("committed");
                    return Ok(());
                }
                Err(error) if error.kind().may_pass() && began.elapsed() < COMMIT_PATIENCE => {
                    tracing::warn!(error = error.chain(), "the state could not be saved; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                ended => return ended,
            }
        }
    }

    /// Tells of what was decided, answers, and starts the effects.
    fn carry_out(&mut self, decided: Step, mut answers: Answers) {
        if *self.status.borrow() != Status::Running {
            let _ = self.status.send(Status::Running);
        }
        logs::audited(&self.world, &decided.batch.audit);
        let (is_news, is_reply) = (!decided.batch.events.is_empty(), !decided.replies.is_empty());
        self.feed.publish(decided.batch.events);
        if is_news {
            crash_point("published");
        }
        for (id, reply) in decided.replies {
            if let Some(answer) = answers.remove(&id) {
                // Whoever asked may have gone; what was asked is recorded all the same.
                let _ = answer.send(reply);
            }
        }
        if is_reply {
            crash_point("replied");
        }
        for effect in decided.effects {
            self.start(effect);
        }
    }

    fn start(&mut self, effect: Effect) {
        let Some(host) = self.hosts.get(&effect.host).map(Arc::clone) else {
            let error = Error::new(ErrorKind::Unreachable, effect.action.name(), "the host is not known");
            let id = effect.id;
            self.effects.spawn(async move { (id, Err(error)) });
            return;
        };
        logs::requested(&effect);
        let secrets = match effect.subject {
            Subject::Node(node) => self.world.spec(node).map(Secrets::of).unwrap_or_default(),
            Subject::Link(_) | Subject::Host => Secrets::default(),
        };
        let mut anew = (!effect.action.is_at_subject()).then(|| self.anew.subscribe());
        self.effects.spawn(async move {
            let began = Instant::now();
            // A task of its own, so that a panic in a plugin is the end of one effect and not of its number.
            let task = tokio::spawn({
                let effect = effect.clone();
                async move {
                    crash_around("before", effect.action.name());
                    let ended = tokio::time::timeout(effect.timeout, host.perform(&effect)).await;
                    crash_around("after", effect.action.name());
                    ended
                }
            });
            let task = AbortOnDrop(task);
            let ended = tokio::select! {
                ended = task => ended,
                () = changed(anew.as_mut()) => {
                    let message = "the world is read anew, and nobody waits for it";
                    Ok(Ok(Err(Error::new(ErrorKind::Interrupted, effect.action.name(), message))))
                }
            };
            let outcome = match ended {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => {
                    let message = format!("no answer within {:?}", effect.timeout);
                    Err(Error::new(ErrorKind::Timeout, effect.action.name(), message))
                }
                Err(error) => Err(panicked(effect.action.name(), &error)),
            };
            let outcome = secrecy::masked(&secrets, outcome);
            logs::answered(&effect, &outcome, began.elapsed());
            (effect.id, outcome)
        });
    }

    /// The state could not be saved, so the world is no longer true. Lets what is under way end, and builds the world
    /// anew from the store. False means that the loop is to end.
    async fn rebuild(&mut self, error: &Error) -> bool {
        tracing::error!(error = error.chain(), "the state could not be saved; nothing is done until it can");
        let _ = self.status.send(Status::StoreFailing(error.chain()));
        let mut cause = error.clone();
        // What is being done to nodes and links would otherwise run beside what the new world decides; each effect has a
        // time limit. The rest is not waited for.
        self.anew.send_replace(());
        while self.effects.join_next().await.is_some() {}
        loop {
            match self.store.load().await {
                Ok(snapshot) => {
                    let hosts = self.hosts.values().map(|host| host.describe()).collect();
                    let old = &self.world;
                    let mut world = World::new(snapshot, self.settings.clone(), self.kinds.clone(), hosts);
                    world.continue_numbering(old);
                    self.world = world;
                    // The last commit may have happened although it was not said.
                    self.feed.reread();
                    tokio::time::sleep(RELOAD_WAIT).await;
                    return self.refuse_waiting(&cause);
                }
                Err(error) => {
                    tracing::error!(error = error.chain(), "the state cannot be read");
                    cause = error;
                    if !self.refuse_waiting(&cause) {
                        return false;
                    }
                    tokio::time::sleep(RELOAD_WAIT).await;
                }
            }
        }
    }

    /// Answers those who asked meanwhile. False means that the loop is to end.
    fn refuse_waiting(&mut self, error: &Error) -> bool {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Stop => return false,
                Message::Query(query) => query(&self.world),
                Message::Command { reply, .. } => {
                    let _ = reply.send(Err(CommandError::Store { message: error.chain() }));
                }
                // The new world reads everything anyway.
                Message::Input(_) => {}
            }
        }
        true
    }
}

/// When the world is read anew, for an effect that is not waited for then.
async fn changed(anew: Option<&mut watch::Receiver<()>>) {
    let told = match anew {
        Some(anew) => anew.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn outcome(ended: Result<(EffectId, Outcome), JoinError>) -> Option<Input> {
    // The outer task cannot panic and is aborted only when the loop ends.
    let (effect, outcome) = ended.ok()?;
    Some(Input::Outcome { effect, outcome: Box::new(outcome) })
}

fn panicked(operation: &'static str, error: &JoinError) -> Error {
    Error::new(ErrorKind::Interrupted, operation, format!("the plugin broke off: {error}"))
}

fn refuse(answers: Answers, error: &Error) {
    for (_, answer) in answers {
        let _ = answer.send(Err(CommandError::Store { message: error.chain() }));
    }
}

/// Ends a task when whoever waits for it is dropped.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}
