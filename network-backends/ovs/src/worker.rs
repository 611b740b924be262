//! The thread that does all blocking work.
//!
//! What came in while it was busy is done together: all links that wait to be connected make one transaction, and one
//! wait for the switch, whose work per transaction grows with the number of its ports.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, NsRef};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::time::BootId;
use lifecycle_linux::capability::{Feature, Missing};
use lifecycle_linux::identity::boot_id;
use lifecycle_linux::limits::raise_open_files;
use lifecycle_linux::wiring::{Failure, News, Outcome, Place, Places, TestFrames, Ticket, UnderlayChoice, doomed};

use crate::alive::Health;
use crate::news::listener;
use crate::ovsdb::{Client, Endpoint};
use crate::settings::Settings;
use crate::switch::{DATABASE, LOCK, WATCHED};
use crate::tags::Pools;

/// How long namespaces stay open after the last piece of work, for the next one that usually follows.
const IDLE: Duration = Duration::from_millis(20);
/// Most links in one transaction.
const BATCH: usize = 256;
/// When several came in at once, so long is waited for more of them: each transaction costs the switch a look at all its ports.
const MORE: Duration = Duration::from_micros(500);
/// How long a first one waits for a second: as good as nothing for one that comes alone, and enough for one that was sent with it.
const SECOND: Duration = Duration::from_micros(50);
/// How long a connection to the database may take, before whatever needs it is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The same for what only reads.
const PATIENCE_OF_READERS: Duration = Duration::from_millis(100);

/// A piece of work.
pub(crate) enum Job {
    /// Build a link on a bridge.
    Connect(Box<LinkRequest>, IfName, Ticket<LinkIdentity>),
    /// Remove a link.
    Disconnect(Box<LinkIdentity>, Ticket<()>),
    /// Take a link off the switch, and keep its interfaces.
    Release(Released, Ticket<()>),
    /// An interface of a link went by itself.
    Mourn(LinkId),
    /// Anything else.
    Other(Box<dyn FnOnce(&mut Worker) + Send>),
    /// No more.
    Stop,
}

/// A link that another backend takes over.
pub(crate) struct Released(pub(crate) Box<LinkIdentity>);

/// What the thread works with.
pub(crate) struct Worker {
    pub(crate) controller: ControllerId,
    pub(crate) boot: BootId,
    pub(crate) userspace: bool,
    /// What the kernel lacks of what slows links down.
    pub(crate) missing: Missing,
    pub(crate) places: Places,
    pub(crate) news: Arc<News>,
    pub(crate) health: Arc<Health>,
    /// Tags, by the bridge that they are on.
    pub(crate) pools: Pools,
    /// A removal that the switch was not yet seen to have carried out.
    pub(crate) removal: Option<i64>,
    /// How many ports it has to let go for that.
    pub(crate) leaving: u32,
    /// Interfaces were deleted of which the database may have lost the ports before; the switch may hold them still.
    pub(crate) unsettled: bool,
    /// Links as they were built or last verified.
    pub(crate) known: HashMap<LinkId, LinkIdentity>,
    pub(crate) frames: TestFrames,
    /// Which address tunnels have.
    pub(crate) underlay: Option<UnderlayChoice>,
    /// When the switch was last asked in vain.
    pub(crate) silent: Option<Instant>,
    endpoint: Endpoint,
    client: Option<Rc<Client>>,
    /// When the client was last waited for in vain.
    waited: Cell<Option<Instant>>,
}

impl Worker {
    fn new(
        controller: ControllerId,
        settings: &Settings,
        endpoint: Endpoint,
        (news, health): (Arc<News>, Arc<Health>),
    ) -> Outcome<Self> {
        if let Err(error) = raise_open_files() {
            tracing::warn!(%error, "the number of open files stays limited");
        }
        Ok(Self {
            controller,
            boot: boot_id()?,
            userspace: settings.datapath.is_userspace(),
            missing: Missing::default(),
            places: Places::new(Arc::clone(&news), settings.namespace.clone()),
            news,
            health,
            pools: Pools::default(),
            removal: None,
            leaving: 0,
            // Somebody before may have removed ports that the switch holds still.
            unsettled: true,
            known: HashMap::new(),
            silent: None,
            endpoint,
            client: None,
            waited: Cell::new(None),
            frames: TestFrames::default(),
            underlay: settings.underlay.clone(),
        })
    }

    /// Begins to follow the database, and finishes what another one began to remove.
    pub(crate) fn begin(&mut self) -> Outcome<Missing> {
        self.start_client()?;
        // An ordinary user has nothing to remove there, and may not.
        if nix::unistd::geteuid().is_root() {
            doomed::sweep(&*self.switch()?)?;
            self.missing = Missing::detect_some(&[Feature::Veth, Feature::Tbf, Feature::Netem])?;
        }
        Ok(self.missing.clone())
    }

    /// Connects to the database, unless that was done before. That it is not there yet is no failure.
    fn start_client(&mut self) -> Outcome<()> {
        if self.client.is_none() {
            let heard = listener(Arc::clone(&self.news), Arc::clone(&self.health));
            self.client =
                Some(Rc::new(Client::start_beside(self.endpoint.clone(), DATABASE, WATCHED, Some(LOCK), heard)?));
        }
        Ok(())
    }

    /// The client, with a replica that holds all that was committed before.
    pub(crate) fn current_client(&self) -> Outcome<Rc<Client>> {
        let client = self.client()?;
        client.catch_up(PATIENCE)?;
        Ok(client)
    }

    /// The same for who only reads: what cannot be read at once is not known to be up, and that must not wait.
    pub(crate) fn client_for_reading(&self) -> Outcome<Rc<Client>> {
        let client = self.client_within(PATIENCE_OF_READERS)?;
        client.catch_up(PATIENCE)?;
        Ok(client)
    }

    /// The client, with a replica that follows the database.
    pub(crate) fn client(&self) -> Outcome<Rc<Client>> {
        self.client_within(PATIENCE)
    }

    fn client_within(&self, patience: Duration) -> Outcome<Rc<Client>> {
        let client =
            self.client.as_ref().ok_or_else(|| Failure::new(ErrorKind::Failed, "the backend was not initialized"))?;
        // One wait in vain is enough for all that queue behind it.
        let waited = self.waited.get().is_some_and(|waited| waited.elapsed() < PATIENCE);
        let ready = client.ready(if waited { Duration::ZERO } else { patience });
        self.waited.set(ready.is_err().then(Instant::now));
        ready?;
        Ok(Rc::clone(client))
    }

    /// Whether there is no switch at all, so that nothing can be in it: its socket does not exist.
    pub(crate) fn is_without_switch(&self) -> bool {
        matches!(&self.endpoint, Endpoint::Unix(path) if !path.exists())
    }

    /// Opens the namespace in which the interface at `point` stands.
    pub(crate) fn place(&mut self, point: &AttachKind) -> Outcome<Rc<Place>> {
        self.places.of(point, None)
    }

    pub(crate) fn namespace(&mut self, ns: &NsRef) -> Outcome<Rc<Place>> {
        self.places.namespace(ns)
    }

    /// Opens the switch's namespace.
    pub(crate) fn switch(&mut self) -> Outcome<Rc<Place>> {
        self.places.host()
    }

    /// Removes what is left of a link whose node's namespace has gone: a cable with one end is none.
    fn mourn(&mut self, link: LinkId) {
        let Some(identity) = self.known.get(&link).cloned() else { return };
        let ends = [Some(&identity.a), identity.b.as_ref()];
        let gone = ends.into_iter().flatten().any(|end| match &end.point.place {
            AttachKind::Namespace(ns) => self.places.namespace(ns).is_err_and(|failure| failure.is_gone()),
            _ => false,
        });
        if gone && let Some(Err(failure)) = self.disconnect_all(&[identity]).pop() {
            tracing::warn!(%link, ?failure, "half a link could not be removed at once");
        }
    }
}

/// The way to the thread. The thread ends with it, after the work that is under way.
#[derive(Debug)]
pub(crate) struct Hand {
    jobs: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    pub(crate) fn start(
        controller: ControllerId,
        settings: Settings,
        endpoint: Endpoint,
    ) -> std::io::Result<(Self, Arc<News>, Arc<Health>)> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let mourners = jobs.clone();
        let news = Arc::new(News::default());
        news.mourned_by(move |link| {
            // Once the thread has ended there is nobody to tell.
            let _ = mourners.send(Job::Mourn(link));
        });
        let health = Arc::new(Health::default());
        let theirs = (Arc::clone(&news), Arc::clone(&health));
        let thread = std::thread::Builder::new().name("switch-worker".into()).spawn(move || {
            match Worker::new(controller, &settings, endpoint, theirs) {
                Ok(worker) => run(worker, &inbox),
                Err(failure) => tracing::error!(?failure, "the worker for the switch cannot start"),
            }
        })?;
        Ok((Self { jobs, thread: Some(thread) }, news, health))
    }

    /// Hands a piece of work over. A thread that has ended drops it, and with it whoever waits.
    pub(crate) fn send(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // Panics of jobs are caught and logged where they happen.
            let _ = thread.join();
        }
    }
}

fn run(mut worker: Worker, inbox: &Receiver<Job>) {
    let mut waiting = None;
    loop {
        let job = match waiting.take().map_or_else(|| inbox.recv_timeout(IDLE), Ok) {
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
        let work = AssertUnwindSafe(|| {
            match job {
                Job::Connect(request, bridge, ticket) => {
                    let first = ((*request, bridge), ticket);
                    let link = |job: &(LinkRequest, IfName)| job.0.link;
                    let (batch, next) = gather(inbox, first, link, |job| match job {
                        Job::Connect(request, bridge, ticket) => Ok(((*request, bridge), ticket)),
                        other => Err(other),
                    });
                    waiting = next;
                    let (requests, tickets): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                    answer(tickets, worker.connect_all(&requests));
                }
                Job::Disconnect(identity, ticket) => {
                    let (batch, next) = gather(
                        inbox,
                        (*identity, ticket),
                        |identity: &LinkIdentity| identity.link,
                        |job| match job {
                            Job::Disconnect(identity, ticket) => Ok((*identity, ticket)),
                            other => Err(other),
                        },
                    );
                    waiting = next;
                    let (identities, tickets): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                    answer(tickets, worker.disconnect_all(&identities));
                }
                Job::Release(released, ticket) => {
                    let link = |job: &Released| job.0.link;
                    let (batch, next) = gather(inbox, (released, ticket), link, |job| match job {
                        Job::Release(released, ticket) => Ok((released, ticket)),
                        other => Err(other),
                    });
                    waiting = next;
                    let (released, tickets): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                    let identities: Vec<LinkIdentity> = released.into_iter().map(|it| *it.0).collect();
                    answer(tickets, worker.release_all(&identities));
                }
                Job::Mourn(link) => worker.mourn(link),
                Job::Other(work) => work(&mut worker),
                Job::Stop => return true,
            }
            false
        });
        match catch_unwind(work) {
            Ok(true) => return,
            Ok(false) => {}
            Err(_) => {
                tracing::error!("a piece of work on the switch panicked");
                worker.places.close();
            }
        }
        worker.news.done();
    }
}

fn answer<T>(tickets: Vec<Ticket<T>>, outcomes: Vec<Outcome<T>>) {
    tickets.into_iter().zip(outcomes).for_each(|(ticket, outcome)| ticket.finish(outcome));
}

/// Takes further jobs of the same kind out of the inbox, about other links each, up to a bound. Returns those that
/// nobody has cancelled, and the job that ended the row.
fn gather<J, T>(
    inbox: &Receiver<Job>,
    first: (J, Ticket<T>),
    link: impl Fn(&J) -> LinkId,
    same: impl Fn(Job) -> Result<(J, Ticket<T>), Job>,
) -> (Vec<(J, Ticket<T>)>, Option<Job>)
where
    (J, Ticket<T>): Into<Job>,
{
    let mut links = HashSet::new();
    let mut batch = Vec::new();
    let mut next = Some(first);
    let mut last = None;
    while let Some((job, ticket)) = next.take() {
        if !links.insert(link(&job)) || batch.len() >= BATCH {
            last = Some((job, ticket).into());
            break;
        }
        if ticket.begin() {
            batch.push((job, ticket));
        }
        let more = inbox.recv_timeout(if batch.len() > 1 { MORE } else { SECOND }).ok();
        match more.map(&same) {
            Some(Ok(job)) => next = Some(job),
            Some(Err(other)) => last = Some(other),
            None => {}
        }
    }
    (batch, last)
}

impl From<((LinkRequest, IfName), Ticket<LinkIdentity>)> for Job {
    fn from(((request, bridge), ticket): ((LinkRequest, IfName), Ticket<LinkIdentity>)) -> Self {
        Self::Connect(Box::new(request), bridge, ticket)
    }
}

impl From<(LinkIdentity, Ticket<()>)> for Job {
    fn from((identity, ticket): (LinkIdentity, Ticket<()>)) -> Self {
        Self::Disconnect(Box::new(identity), ticket)
    }
}

impl From<(Released, Ticket<()>)> for Job {
    fn from((released, ticket): (Released, Ticket<()>)) -> Self {
        Self::Release(released, ticket)
    }
}
