//! The thread that does all blocking work, one piece after the other.
//!
//! The kernel changes interfaces under one lock for the whole machine, so more threads would only wait for each other.
//! What comes in while a piece of work is under way is done with the namespaces that are open already.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_channel::oneshot;
use lifecycle_core::attach::{AttachKind, NsRef};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::time::BootId;
use lifecycle_linux::identity::boot_id;
use lifecycle_linux::limits::raise_open_files;

use crate::ears::Ears;
use crate::facts::Facts;
use crate::failure::{Failure, Outcome};
use crate::news::News;
use crate::place::{Place, Places, Site};

/// How long namespaces stay open after the last piece of work, for the next one that usually follows.
const IDLE: Duration = Duration::from_millis(20);

/// How long dropping a future waits for work that was begun. Only a broker that hangs takes longer.
const PATIENCE: Duration = Duration::from_millis(100);

/// A piece of work.
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) controller: ControllerId,
    pub(crate) boot: BootId,
    pub(crate) facts: Facts,
    pub(crate) places: Places,
    pub(crate) news: Arc<News>,
    ears: Ears,
}

impl Worker {
    fn new(controller: ControllerId, news: Arc<News>) -> Outcome<Self> {
        if let Err(error) = raise_open_files() {
            tracing::warn!(%error, "the number of open files stays limited");
        }
        Ok(Self {
            controller,
            boot: boot_id()?,
            facts: Facts::of_user(),
            places: Places::new(),
            ears: Ears::new(Arc::clone(&news)),
            news,
        })
    }

    /// Opens the namespace in which the interface at `point` stands, next to `other`, the link's other end, and hears
    /// of its changes from now on.
    pub(crate) fn place(&mut self, point: &AttachKind, other: Option<&AttachKind>) -> Outcome<Rc<Place>> {
        let place = self.places.of(point, other, self.facts.rootless)?;
        let site = match (point, other) {
            (AttachKind::Namespace(ns), _) | (AttachKind::Bridge { .. }, Some(AttachKind::Namespace(ns))) => {
                Site::of(ns)
            }
            _ => Site::Host,
        };
        self.ears.hear(&mut self.places, &site, &place);
        Ok(place)
    }

    pub(crate) fn namespace(&mut self, ns: &NsRef) -> Outcome<Rc<Place>> {
        let place = self.places.namespace(ns)?;
        self.ears.hear(&mut self.places, &Site::of(ns), &place);
        Ok(place)
    }

    /// Opens the namespaces, besides those of nodes, in which ends of links can stand.
    pub(crate) fn sites(&mut self) -> Outcome<Vec<(Site, Rc<Place>)>> {
        let mut sites: Vec<Site> = self.places.brokers().cloned().map(Site::Broker).collect();
        if !self.facts.rootless {
            sites.push(Site::Host);
        }
        let mut places = Vec::new();
        for site in sites {
            match self.places.site(&site) {
                Ok(place) => {
                    self.ears.hear(&mut self.places, &site, &place);
                    places.push((site, place));
                }
                // A keeper that ended took its own namespace along, unless a node holds it and it is reached again.
                Err(failure) if failure.kind() == ErrorKind::Unreachable && site != Site::Host => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(places)
    }
}

/// The way to the thread. The thread ends with it, after the work that is under way.
#[derive(Debug)]
pub(crate) struct Hand {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    pub(crate) fn start(controller: ControllerId, news: Arc<News>) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("link-worker".into()).spawn(move || {
            match Worker::new(controller, news) {
                Ok(worker) => run(worker, &inbox),
                Err(failure) => tracing::error!(?failure, "the worker for links cannot start"),
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has the thread do `work` and waits for the result.
    ///
    /// # Cancellation
    /// Work that was not begun when the future is dropped is left undone. Work that was begun is finished; dropping waits
    /// for that, a few milliseconds at most, so that afterwards it is done.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let (reply, answer) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let _canceller = Canceller(Arc::clone(&progress));
        let job = move |worker: &mut Worker| {
            if let Some(_running) = progress.begin() {
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(work(worker));
            }
        };
        if let Some(jobs) = &self.jobs {
            // A thread that has ended drops the job and with it the reply.
            let _ = jobs.send(Box::new(job));
        }
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
    Running,
    Over,
}

impl Progress {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, unless it was cancelled.
    fn begin(&self) -> Option<Running<'_>> {
        let mut stage = self.stage();
        (*stage == Stage::Waiting).then(|| {
            *stage = Stage::Running;
            Running(self)
        })
    }
}

/// Held while a piece of work runs, also when it panics.
struct Running<'a>(&'a Progress);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.stage() = Stage::Over;
        self.0.done.notify_all();
    }
}

/// Cancels a piece of work when the future that waits for it is dropped.
struct Canceller(Arc<Progress>);

impl Drop for Canceller {
    fn drop(&mut self) {
        let mut stage = self.0.stage();
        if *stage == Stage::Waiting {
            *stage = Stage::Over;
        } else {
            let wait = self.0.done.wait_timeout_while(stage, PATIENCE, |stage| *stage == Stage::Running);
            drop(wait);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Panics of jobs are caught and logged where they happen.
            let _ = thread.join();
        }
    }
}

fn run(mut worker: Worker, inbox: &Receiver<Job>) {
    loop {
        let job = match inbox.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                worker.places.close();
                match inbox.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
        };
        // One link's bad luck must not end the work on all others.
        if catch_unwind(AssertUnwindSafe(|| job(&mut worker))).is_err() {
            tracing::error!("a piece of work on links panicked");
            worker.places.close();
        }
        worker.places.sweep();
    }
}
