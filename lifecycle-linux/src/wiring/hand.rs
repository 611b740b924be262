//! The thread that does all blocking work of a backend, one piece after the other.
//!
//! The kernel changes interfaces under one lock for the whole machine, so more threads would only wait for each other.
//! What comes in while a piece of work is under way is done with the namespaces that are open already.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Outcome, Places, ticket};

/// How long namespaces stay open after the last piece of work, for the next one that usually follows.
pub(super) const IDLE: Duration = Duration::from_millis(20);

/// A piece of work; none ends the thread.
type Job<W> = Option<Box<dyn FnOnce(&mut W) + Send>>;

/// The way to the thread. The thread ends with it, after the work that is under way.
#[derive(Debug)]
pub struct Hand<W> {
    jobs: Sender<Job<W>>,
    thread: Option<JoinHandle<()>>,
}

/// Hands work over without waiting for it.
#[derive(Debug)]
pub struct Note<W>(Sender<Job<W>>);

impl<W> Note<W> {
    /// Hands a piece of work over. A thread that has ended drops it.
    pub fn leave(&self, work: impl FnOnce(&mut W) + Send + 'static) {
        let _ = self.0.send(Some(Box::new(work)));
    }
}

impl<W: AsMut<Places> + 'static> Hand<W> {
    /// Starts the thread. Its worker is made on it, by `make`, which gets a way to hand itself work.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(make: impl FnOnce() -> Outcome<W> + Send + 'static) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job<W>>();
        let thread = std::thread::Builder::new().name("link-worker".into()).spawn(move || match make() {
            Ok(worker) => run(worker, &inbox),
            Err(failure) => tracing::error!(?failure, "the worker for links cannot start"),
        })?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// A way to hand work over without waiting for it.
    pub fn note(&self) -> Note<W> {
        Note(self.jobs.clone())
    }

    /// Has the thread do `work` and waits for the result.
    ///
    /// # Errors
    /// The work's own failure, or that the worker broke off.
    ///
    /// # Cancellation
    /// As [`Wait::outcome`](super::Wait::outcome).
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut W) -> Outcome<T> + Send + 'static) -> Outcome<T> {
        let (ticket, wait) = ticket();
        self.note().leave(move |worker| {
            if ticket.begin() {
                let outcome = work(worker);
                ticket.finish(outcome);
            }
        });
        wait.outcome().await
    }
}

impl<W> Drop for Hand<W> {
    fn drop(&mut self) {
        // Notes may keep the channel open.
        let _ = self.jobs.send(None);
        if let Some(thread) = self.thread.take() {
            // Panics of jobs are caught and logged where they happen.
            let _ = thread.join();
        }
    }
}

fn run<W: AsMut<Places>>(mut worker: W, inbox: &Receiver<Job<W>>) {
    loop {
        let job = match inbox.recv_timeout(IDLE) {
            Err(RecvTimeoutError::Timeout) => {
                worker.as_mut().close();
                inbox.recv().ok().flatten()
            }
            job => job.ok().flatten(),
        };
        let Some(job) = job else { return };
        // One link's bad luck must not end the work on all others.
        if catch_unwind(AssertUnwindSafe(|| job(&mut worker))).is_err() {
            tracing::error!("a piece of work on links panicked");
            worker.as_mut().close();
        }
        worker.as_mut().sweep();
    }
}
