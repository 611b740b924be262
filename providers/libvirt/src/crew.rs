//! The threads that speak to libvirt's daemon, since its calls block and a daemon that hangs blocks them for long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use lifecycle_core::id::NodeId;
use lifecycle_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome, late};
use crate::settings::Settings;

type Job = Box<dyn FnOnce(&mut Daemon) + Send>;

/// Threads that only ask, so that what is true is told while others act.
const READERS: usize = 2;

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The threads. They end with it, each after the work that it has.
#[derive(Debug)]
pub(crate) struct Crew {
    /// Work about one node is always the same thread's, so that it is done one piece after the other.
    writers: Vec<Sender<Job>>,
    readers: Vec<Sender<Job>>,
    /// Threads that speak to programs in machines, which may be slow to answer, so that nothing else waits for those.
    talkers: Vec<Sender<Job>>,
    deadline: Duration,
}

/// A piece of work that whoever waits for it can take back until it is begun, and takes back when it waits no longer.
struct Ticket(Arc<AtomicU8>);

impl Ticket {
    fn change(state: &AtomicU8, to: u8) -> bool {
        state.compare_exchange(WAITING, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        Self::change(&self.0, GIVEN_UP);
    }
}

/// The thread for a node.
fn of(threads: &[Sender<Job>], node: NodeId) -> &Sender<Job> {
    let turn = node.as_u64() % threads.len() as u64;
    &threads[usize::try_from(turn).unwrap_or_default()]
}

impl Crew {
    /// Starts the threads; each connects when it first has something to do.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let start = |name: &str| {
            let mut daemon = Daemon::new(&settings.uri, settings.deadline());
            let (jobs, inbox) = mpsc::channel::<Job>();
            let work = move || {
                for job in inbox {
                    if catch_unwind(AssertUnwindSafe(|| job(&mut daemon))).is_err() {
                        tracing::error!("a piece of work with libvirt panicked");
                    }
                }
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map(|_| jobs)
        };
        let all = |name, count| (0..count).map(|_| start(name)).collect::<std::io::Result<Vec<_>>>();
        let failed = |error| Error::new(ErrorKind::Exhausted, "start", "no thread can be started").because(error);
        Ok(Self {
            writers: all("libvirt-writer", settings.concurrency.max(1)).map_err(failed)?,
            readers: all("libvirt-reader", READERS).map_err(failed)?,
            talkers: all("libvirt-talker", settings.concurrency.max(1)).map_err(failed)?,
            deadline: settings.deadline(),
        })
    }

    /// Does something about a node, after what is being done about it. Dropped before it is begun it is never done, and
    /// afterwards it goes on.
    ///
    /// # Errors
    /// The work's own, `Unreachable` when it was not begun in time, `Timeout` when it has not ended in time.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        node: NodeId,
        work: impl FnOnce(&mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.run(of(&self.writers, node), work).await
    }

    /// Speaks to a program in a machine, after what is being spoken to it or to others on this thread. Dropped before it is
    /// begun it is never done, and afterwards it goes on; its result is then dropped on the thread.
    ///
    /// # Errors
    /// As those of [`act`](Self::act).
    pub(crate) async fn talk<T: Send + 'static>(
        &self,
        node: NodeId,
        work: impl FnOnce(&mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.run(of(&self.talkers, node), work).await
    }

    /// Has something spoken to a program in a machine, when it is its turn. Nobody waits for it.
    pub(crate) fn leave_word(&self, node: NodeId, work: impl FnOnce(&mut Daemon) + Send + 'static) {
        // Without threads the crew is at its end.
        let _ = of(&self.talkers, node).send(Box::new(work));
    }

    /// Looks at something.
    ///
    /// # Errors
    /// The work's own, and `Unreachable` when there was no answer in time.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        static TURN: AtomicU8 = AtomicU8::new(0);
        let turn = usize::from(TURN.fetch_add(1, Ordering::Relaxed)) % self.readers.len();
        self.run(&self.readers[turn], work).await.map_err(Failure::of_reading)
    }

    async fn run<T: Send + 'static>(
        &self,
        thread: &Sender<Job>,
        work: impl FnOnce(&mut Daemon) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let ticket = Ticket(Arc::clone(&state));
        let (answer, wait) = oneshot::channel();
        let job = Box::new(move |daemon: &mut Daemon| {
            if Ticket::change(&state, BEGUN) {
                let _ = answer.send(work(daemon));
            }
        });
        let broke_off = || Failure::new(ErrorKind::Interrupted, "the thread that does this broke off");
        thread.send(job).map_err(|_| broke_off())?;
        match tokio::time::timeout(self.deadline, wait).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(broke_off())),
            Err(_) if Ticket::change(&ticket.0, GIVEN_UP) => Err(Failure::new(
                ErrorKind::Unreachable,
                "libvirt's daemon is still busy with what it was asked before",
            )),
            Err(_) => Err(late()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(deadline_ms: u64) -> Crew {
        let settings = Settings { concurrency: 1, deadline_ms, ..Settings::default() };
        Crew::new(&settings).unwrap()
    }

    #[tokio::test]
    async fn what_was_begun_is_unknown_and_what_was_not_is_never_done() {
        let crew = crew(200);
        let node = NodeId::from_u64(1);
        let (release, held) = mpsc::channel::<()>();
        let hang = move |_: &mut Daemon| {
            let _ = held.recv();
            Ok(())
        };
        assert_eq!(crew.act(node, hang).await.unwrap_err().kind, ErrorKind::Timeout);
        let (told, done) = mpsc::channel::<()>();
        let behind = crew.act(node, move |_| {
            let _ = told.send(());
            Ok(())
        });
        assert_eq!(behind.await.unwrap_err().kind, ErrorKind::Unreachable);
        // Looking is done by others.
        assert_eq!(crew.ask(|_| Ok(1)).await.unwrap(), 1);
        drop(release);
        crew.act(node, |_| Ok(())).await.unwrap();
        assert!(done.try_recv().is_err(), "it was given up");
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_work_only() {
        let crew = crew(60_000);
        let node = NodeId::from_u64(1);
        let panics = |_: &mut Daemon| -> Outcome<()> { panic!("as a test") };
        assert_eq!(crew.act(node, panics).await.unwrap_err().kind, ErrorKind::Interrupted);
        crew.act(node, |_| Ok(())).await.unwrap();
    }
}
