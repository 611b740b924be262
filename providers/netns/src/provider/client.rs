//! The controller's side of the keeper's protocol: finds the keeper, starts it, and carries calls to it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::mpsc;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::{InstanceRef, ProviderEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::{Doing, Failure};
use crate::keeper;
use crate::layout::Layout;
use crate::settings::Settings;
use crate::wire::{Answer, Call, Frames, FromKeeper, ToKeeper, VERSION, message, parse};

/// Set for the keeper's process, so that a program which does not call the hook is found out.
pub(super) const HELPER_VARIABLE: &str = "LIFECYCLE_NETNS_HELPER";
/// How long a keeper may take to start, or to greet.
const GREETING: Duration = Duration::from_secs(15);
/// How long a call may take beyond what it asks for itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// News that may wait for a slow listener.
const NEWS: usize = 1024;

type Pending = Mutex<HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>>;

/// Calls the keeper.
#[derive(Debug)]
pub(super) struct Client {
    context: HostContext,
    layout: Layout,
    settings: Arc<Settings>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    watchers: Arc<Watchers>,
    next: AtomicU64,
}

/// One connection to the keeper.
#[derive(Debug)]
struct Link {
    outgoing: UnboundedSender<Vec<u8>>,
    pending: Arc<Pending>,
    closed: Arc<AtomicBool>,
    direct: bool,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Those that listen for news.
#[derive(Debug, Default)]
struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    sender: mpsc::Sender<ProviderEvent>,
    /// Whether it was told that it missed something, since it last had room.
    told: bool,
}

impl Watchers {
    fn tell(&self, event: &ProviderEvent) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain_mut(|watcher| match watcher.sender.try_send(event.clone()) {
            Ok(()) => {
                watcher.told = false;
                true
            }
            Err(error) if error.is_full() => {
                // A new sender always has room for one message.
                if !watcher.told {
                    watcher.told = watcher.sender.clone().try_send(ProviderEvent::Resync).is_ok();
                }
                true
            }
            Err(_) => false,
        });
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    pub(super) fn new(context: &HostContext, layout: Layout, settings: Arc<Settings>) -> Self {
        Self {
            context: context.clone(),
            layout,
            settings,
            link: tokio::sync::Mutex::new(None),
            watchers: Arc::default(),
            next: AtomicU64::new(1),
        }
    }

    /// News from now on.
    pub(super) fn watch(&self) -> mpsc::Receiver<ProviderEvent> {
        let (sender, receiver) = mpsc::channel(NEWS);
        let mut all = self.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Watcher { sender, told: false });
        receiver
    }

    /// Whether no keeper runs and there is nothing that one could know of.
    pub(super) fn is_idle(&self) -> bool {
        !self.layout.keeper_socket().exists() && self.layout.marks().is_ok_and(|(marks, _)| marks.is_empty())
    }

    /// Whether the keeper acts as root of the host.
    pub(super) async fn is_direct(&self) -> Result<bool, Failure> {
        Ok(self.link().await?.direct)
    }

    /// Makes a call, and waits for its answer, for as long as `allowance` on top of what any call may take.
    ///
    /// A dropped future leaves the call to the keeper, which carries it out as a whole.
    pub(super) async fn call(&self, call: Call, allowance: Duration) -> Result<Answer, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let text = message(&ToKeeper::Call { id, call }).doing("write a request")?;
        let (sender, receiver) = oneshot::channel();
        let link = self.link().await?;
        lock(&link.pending).insert(id, sender);
        // Looked at after the entry was made: whoever closes sets it before answering all entries.
        if link.closed.load(Ordering::Acquire) || link.outgoing.send(text).is_err() {
            lock(&link.pending).remove(&id);
            return Err(Failure::new(ErrorKind::Unreachable, "the keeper has just ended; try again"));
        }
        match tokio::time::timeout(PATIENCE + allowance, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Failure::new(ErrorKind::Interrupted, "the keeper ended, or served a newer controller, meanwhile"))
            }
            Err(_) => {
                lock(&link.pending).remove(&id);
                let text = format!("the keeper did not answer within {:?}", PATIENCE + allowance);
                Err(Failure::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// The connection, made anew if there is none.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.closed.load(Ordering::Acquire)) {
            return Ok(Arc::clone(link));
        }
        let greeted = tokio::time::timeout(GREETING, self.connect()).await.unwrap_or_else(|_| {
            let text = format!("the keeper did not answer within {GREETING:?}");
            Err(Failure::new(ErrorKind::Unreachable, text))
        });
        let link = Arc::new(greeted?);
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let path = self.layout.keeper_socket();
        let mut tries = 0;
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => match self.greet(stream).await {
                    // A keeper that was about to end has closed without a word; there will be another.
                    Err(failure) if failure.kind == ErrorKind::Unreachable && tries < 3 => {}
                    other => return other,
                },
                Err(error) if tries < 3 && is_absent(&error) => self.start_keeper().await?,
                Err(error) => {
                    let text = format!("cannot reach the keeper at {}: {error}", path.display());
                    return Err(Failure::new(ErrorKind::Unreachable, text));
                }
            }
            tries += 1;
        }
    }

    async fn greet(&self, stream: UnixStream) -> Result<Link, Failure> {
        let closed_early = || Failure::new(ErrorKind::Unreachable, "the keeper closed without a greeting");
        let (mut reader, mut writer) = stream.into_split();
        let (controller, epoch) = (self.context.controller, self.context.epoch);
        let hello = message(&ToKeeper::Hello { version: VERSION, controller, epoch }).doing("write a greeting")?;
        writer.write_all(&hello).await.map_err(|_| closed_early())?;
        let mut frames = Frames::default();
        let first = read_message(&mut reader, &mut frames).await.map_err(|_| closed_early())?;
        let direct = match first {
            FromKeeper::Welcome { direct, .. } => direct,
            FromKeeper::Refused(failure) => return Err(failure),
            FromKeeper::Reply { .. } | FromKeeper::Changed { .. } => return Err(closed_early()),
        };
        let (outgoing, mut queue) = unbounded_channel::<Vec<u8>>();
        let (pending, closed) = (Arc::new(Pending::default()), Arc::new(AtomicBool::new(false)));
        let writing = tokio::spawn(async move {
            // Whole frames only, whatever becomes of the callers.
            while let Some(bytes) = queue.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let (answers, over, watchers) = (Arc::clone(&pending), Arc::clone(&closed), Arc::clone(&self.watchers));
        let reading = tokio::spawn(async move {
            while let Ok(message) = read_message(&mut reader, &mut frames).await {
                match message {
                    FromKeeper::Reply { id, result } => {
                        // Nobody waits any more for a call that was given up.
                        let _ = lock(&answers).remove(&id).map(|waiting| waiting.send(result));
                    }
                    FromKeeper::Changed { key, identifier } => {
                        let instance = InstanceRef { node: key.node, incarnation: key.incarnation, identifier };
                        watchers.tell(&ProviderEvent::Changed(instance));
                    }
                    FromKeeper::Welcome { .. } | FromKeeper::Refused(_) => {}
                }
            }
            over.store(true, Ordering::Release);
            lock(&answers).clear();
            watchers.tell(&ProviderEvent::Resync);
        });
        Ok(Link { outgoing, pending, closed, direct, tasks: [writing, reading] })
    }

    async fn start_keeper(&self) -> Result<(), Failure> {
        let helper = self.context.helper.clone().unwrap_or_else(|| "/proc/self/exe".into());
        let mut command = Command::new(&helper);
        command.arg(keeper::ARGUMENT).arg(&self.layout.state).arg(&self.layout.runtime);
        command.env(HELPER_VARIABLE, "1").envs(self.settings.keeper_env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let run = tokio::task::spawn_blocking(move || command.output()).await;
        let output = run.map_err(io::Error::other).and_then(|output| output);
        let output = output.map_err(|error| start_failed(&helper, &error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        Err(serde_json::from_str(last).unwrap_or_else(|_| {
            start_failed(&helper, &format!("{}: {last}; does its `main` begin with `helper_main()`?", output.status))
        }))
    }
}

fn start_failed(helper: &Path, why: &str) -> Failure {
    Failure::new(ErrorKind::Failed, format!("cannot start the keeper ({}): {why}", helper.display()))
}

/// Whether nobody listens there, or whoever did has just ended.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

/// The next whole message of a stream.
async fn read_message<T: serde::de::DeserializeOwned>(
    reader: &mut (impl AsyncReadExt + Unpin),
    frames: &mut Frames,
) -> io::Result<T> {
    loop {
        let (_, payload) = read_frame(reader, frames).await?;
        match parse(&payload) {
            Ok(message) => return Ok(message),
            // A newer keeper may say what we do not know; what we wait for is among what we do.
            Err(_) => continue,
        }
    }
}

/// The next whole frame of a stream.
pub(super) async fn read_frame(
    reader: &mut (impl AsyncReadExt + Unpin),
    frames: &mut Frames,
) -> io::Result<(u8, Vec<u8>)> {
    let mut chunk = vec![0; 16 << 10];
    loop {
        if let Some(frame) = frames.next()? {
            return Ok(frame);
        }
        match reader.read(&mut chunk).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => frames.push(&chunk[..n]),
        }
    }
}
