//! Who waits for a piece of work, and may cancel it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use lifecycle_core::error::ErrorKind;

use super::{Failure, Outcome};

/// How long after it was begun dropping a future still waits for work. What waits for a switch that is not there takes
/// longer, and whoever drops many futures must not wait for each.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the worker holds while somebody waits.
#[derive(Debug)]
pub struct Ticket<T> {
    progress: Arc<Progress>,
    reply: Option<oneshot::Sender<Outcome<T>>>,
}

/// What waits for it. Dropped before the work was begun, it cancels it; later, it waits a moment for its end.
#[derive(Debug)]
pub struct Wait<T> {
    answer: oneshot::Receiver<Outcome<T>>,
    canceller: Canceller,
}

/// A ticket and the wait for it.
pub fn ticket<T>() -> (Ticket<T>, Wait<T>) {
    let (reply, answer) = oneshot::channel();
    let progress = Arc::new(Progress::default());
    let canceller = Canceller(Arc::clone(&progress));
    (Ticket { progress, reply: Some(reply) }, Wait { answer, canceller })
}

impl<T> Ticket<T> {
    /// Begins the work, unless it was cancelled.
    pub fn begin(&self) -> bool {
        let mut stage = self.progress.stage();
        let go = *stage == Stage::Waiting;
        if go {
            *stage = Stage::Running(Instant::now());
        }
        go
    }

    /// Says what came of it.
    pub fn finish(mut self, outcome: Outcome<T>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone meanwhile.
            let _ = reply.send(outcome);
        }
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        *self.progress.stage() = Stage::Over;
        self.progress.done.notify_all();
    }
}

impl<T> Wait<T> {
    /// What came of it.
    ///
    /// # Errors
    /// The work's own failure, or that its worker broke off.
    ///
    /// # Cancellation
    /// Work that was not begun when the future is dropped is left undone. Work that was begun is finished; dropping waits
    /// for that until 100 ms after it began, so that afterwards it is usually done.
    pub async fn outcome(self) -> Outcome<T> {
        let Self { answer, canceller } = self;
        let _canceller = canceller;
        answer.await.unwrap_or_else(|_| {
            Err(Failure::new(ErrorKind::Interrupted, "the worker for links broke off; the log says why"))
        })
    }
}

/// How far a piece of work is, seen by who does it and by who may cancel it.
#[derive(Debug, Default)]
struct Progress {
    stage: Mutex<Stage>,
    done: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    /// Since when.
    Running(Instant),
    Over,
}

impl Progress {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cancels a piece of work when the future that waits for it is dropped.
#[derive(Debug)]
struct Canceller(Arc<Progress>);

impl Drop for Canceller {
    fn drop(&mut self) {
        let mut stage = self.0.stage();
        match *stage {
            Stage::Waiting => *stage = Stage::Over,
            Stage::Running(since) => {
                let left = PATIENCE.saturating_sub(since.elapsed());
                drop(self.0.done.wait_timeout_while(stage, left, |stage| *stage != Stage::Over));
            }
            Stage::Over => {}
        }
    }
}
