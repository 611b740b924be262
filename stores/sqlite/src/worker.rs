//! A thread of its own for what blocks.

use std::fmt;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use lifecycle_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns something and does one job on it after the other.
///
/// Dropping the worker lets the jobs that were accepted end, and waits for them.
pub(crate) struct Worker<S> {
    jobs: Option<mpsc::Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Send + 'static> Worker<S> {
    pub(crate) fn spawn(name: &str, mut owned: S) -> std::io::Result<Self> {
        let (jobs, accepted) = mpsc::channel::<Job<S>>();
        let work = move || accepted.into_iter().for_each(|job| job(&mut owned));
        let thread = Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a job done. Once this was polled the job is done, also when nobody waits for it any longer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |owned: &mut S| drop(answer.send(job(owned))));
        let accepted = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        let ended = |kind| Error::new(kind, operation, "the store's thread has ended; open the store again");
        if accepted {
            answered.await.unwrap_or_else(|_| Err(ended(ErrorKind::Interrupted)))
        } else {
            Err(ended(ErrorKind::Unreachable))
        }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // A panic was the answer to its job already.
            drop(thread.join());
        }
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
