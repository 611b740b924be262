//! The backend as the engine sees it: each call is handed to the worker's thread.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::attach::NsRef;
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::plugin::network::{
    LinkIdentity, LinkReport, LinkRequest, NetworkCapabilities, NetworkEvent, ObservedLink,
};
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_crash::crash_point;
use lifecycle_linux::wiring::{Hand, News, Outcome, Reaper};

use crate::facts::Facts;
use crate::worker::Worker;

/// Wires nodes with veth pairs, macvlans and Linux bridges.
///
/// Making one starts a thread that does all blocking work; dropping it ends that thread after the work under way. See
/// [`NetworkBackend`] for its laws.
///
/// # Cancellation
///
/// A future that is dropped before its work began leaves it undone; later, dropping waits until the work is done, a few
/// milliseconds. Only a disconnect has several steps: dropped in between, the interfaces go all the same, and a bridge that
/// they leave empty goes with the next disconnect of the link or the next cleanup.
pub struct VethBackend {
    hand: Hand<Worker>,
    reaper: Reaper,
    news: Arc<News>,
    facts: Mutex<Facts>,
}

impl fmt::Debug for VethBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VethBackend").finish_non_exhaustive()
    }
}

impl VethBackend {
    /// A backend that acts for the context's controller.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn new(context: &HostContext) -> Result<Self> {
        let news = Arc::new(News::default());
        let start = |source| Error::new(ErrorKind::Exhausted, "make the veth backend", "no thread").because(source);
        let (controller, theirs) = (context.controller, Arc::clone(&news));
        let hand = Hand::start(move || Worker::new(controller, theirs)).map_err(start)?;
        Ok(Self { hand, reaper: Reaper::default(), news, facts: Mutex::new(Facts::of_user()) })
    }

    /// Has the worker do something about a link.
    async fn about<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&mut Worker) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        self.hand.run(work).await.map_err(|failure| failure.of(operation, subject))
    }
}

impl Drop for VethBackend {
    fn drop(&mut self) {
        self.news.close();
    }
}

#[async_trait]
impl NetworkBackend for VethBackend {
    fn capabilities(&self) -> NetworkCapabilities {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).capabilities()
    }

    async fn initialize(&self) -> Result<()> {
        let find_out = |worker: &mut Worker| {
            worker.know(Facts::find_out()?);
            Ok(worker.facts.clone())
        };
        let facts = self.about("initialize", "the veth backend", find_out).await?;
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
        Ok(())
    }

    async fn cleanup(&self) -> Result<()> {
        self.about("clean up", "bridges", Worker::drop_empty_bridges).await
    }

    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity> {
        let (link, request) = (request.link, request.clone());
        self.about("connect link", link, move |worker| worker.connect(&request)).await
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        const OPERATION: &str = "disconnect link";
        let (link, identity) = (identity.link, Arc::new(identity.clone()));
        let doom = Arc::clone(&identity);
        let doomed = self.about(OPERATION, link, move |worker| worker.doom(&doom)).await?;
        crash_point("ends-doomed");
        self.reaper.delete(doomed).await.map_err(|failure| failure.of(OPERATION, link))?;
        crash_point("ends-deleted");
        self.about(OPERATION, link, move |worker| worker.drop_bridges_of(&identity)).await
    }

    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        let (link, identity, attrs) = (identity.link, identity.clone(), *attrs);
        self.about("set parameters of link", link, move |worker| worker.set_params(&identity, &attrs)).await
    }

    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        let (link, identity) = (identity.link, identity.clone());
        self.about("set carrier of link", link, move |worker| worker.set_carrier(&identity, side, up)).await
    }

    async fn observe(&self, namespaces: &[NsRef]) -> Result<Vec<ObservedLink>> {
        let namespaces = namespaces.to_vec();
        self.about("observe", "links", move |worker| worker.observe(&namespaces)).await
    }

    async fn remove(&self, observed: &ObservedLink, namespaces: &[NsRef]) -> Result<()> {
        const OPERATION: &str = "remove link";
        let (link, observed, namespaces) = (observed.link, observed.clone(), namespaces.to_vec());
        let doom = move |worker: &mut Worker| worker.doom_observed(&observed, &namespaces);
        let doomed = self.about(OPERATION, link, doom).await?;
        self.reaper.delete(doomed).await.map_err(|failure| failure.of(OPERATION, link))?;
        self.about(OPERATION, link, Worker::drop_empty_bridges).await
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        Box::pin(self.news.subscribe())
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        let (link, identity) = (identity.link, identity.clone());
        self.about("verify link", link, move |worker| worker.verify(&identity)).await
    }
}
