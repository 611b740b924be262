//! The backend as the engine sees it: each call is handed to the worker's thread.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::attach::{NsRef, PlaceKind, Tunnel};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::plugin::network::{
    EndMark, LinkIdentity, LinkReport, LinkRequest, NetworkCapabilities, NetworkEvent, ObservedLink,
};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::plugin::{HostContext, NetworkBackend, OverlayBackend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_crash::crash_point;
use lifecycle_linux::wiring::{Hand, News, Outcome};

use crate::facts::Facts;
use crate::settings::Settings;
use crate::worker::Worker;

/// Joins nodes and taps by a Linux bridge per link.
///
/// Making one starts a thread that does all blocking work; dropping it ends that thread after the work under way. See
/// [`NetworkBackend`] for its laws.
///
/// # Cancellation
///
/// A future that is dropped before its work began leaves it undone; later, the work is done all the same, and dropping
/// waits for that until 100 ms after it began. A removal has two steps, and what was marked in the first goes with the next
/// removal, or with the next start.
pub struct BridgeBackend {
    hand: Hand<Worker>,
    news: Arc<News>,
    facts: Mutex<Facts>,
}

impl fmt::Debug for BridgeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeBackend").finish_non_exhaustive()
    }
}

impl BridgeBackend {
    /// A backend that acts for the context's controller.
    ///
    /// # Errors
    /// When the settings are wrong or its thread cannot be started.
    pub fn new(context: &HostContext) -> Result<Self> {
        let settings = Settings::read(&context.settings)?;
        let news = Arc::new(News::default());
        let (controller, theirs) = (context.controller, Arc::clone(&news));
        let start = |source| Error::new(ErrorKind::Exhausted, "make the bridge backend", "no thread").because(source);
        let hand = Hand::start(move || Worker::new(controller, settings, theirs)).map_err(start)?;
        let note = Mutex::new(hand.note());
        news.mourned_by(move |link| {
            note.lock().unwrap_or_else(PoisonError::into_inner).leave(move |worker: &mut Worker| worker.mourn(link));
        });
        Ok(Self { hand, news, facts: Mutex::new(Facts::of_user()) })
    }

    /// Has the worker do something.
    async fn about<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&mut Worker) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        self.hand.run(work).await.map_err(|failure| failure.of(operation, subject))
    }

    /// Removes a link but for ends that have an heir.
    async fn take_down(
        &self,
        operation: &'static str,
        identity: &LinkIdentity,
        heirs: [Option<EndMark>; 2],
    ) -> Result<()> {
        let (link, identity) = (identity.link, identity.clone());
        // Removals that were asked for at the same time are all marked before the first of them is swept, with all.
        let doomed = self.about(operation, link, move |worker| worker.doom(&identity, heirs)).await?;
        self.about(operation, link, move |worker| worker.sweep(doomed)).await?;
        crash_point("link-swept");
        Ok(())
    }
}

impl Drop for BridgeBackend {
    fn drop(&mut self) {
        self.news.close();
    }
}

#[async_trait]
impl NetworkBackend for BridgeBackend {
    fn capabilities(&self) -> NetworkCapabilities {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).capabilities()
    }

    async fn initialize(&self) -> Result<()> {
        let find_out = |worker: &mut Worker| {
            worker.know(Facts::find_out()?);
            worker.sweep_all()?;
            Ok(worker.facts.clone())
        };
        let facts = self.about("initialize", "the bridge backend", find_out).await?;
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
        Ok(())
    }

    async fn cleanup(&self) -> Result<()> {
        self.about("clean up", "what was to be removed", Worker::sweep_all).await
    }

    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity> {
        let (link, request) = (request.link, request.clone());
        self.about("connect link", link, move |worker| worker.connect(&request)).await
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        self.take_down("disconnect link", identity, [None; 2]).await
    }

    async fn park(&self, identity: &LinkIdentity, heirs: [Option<EndMark>; 2]) -> Result<()> {
        self.take_down("park link", identity, heirs).await
    }

    async fn release(&self, identity: &LinkIdentity) -> Result<()> {
        const OPERATION: &str = "release link";
        let (link, identity) = (identity.link, identity.clone());
        let doomed = self.about(OPERATION, link, move |worker| worker.release(&identity)).await?;
        self.about(OPERATION, link, move |worker| worker.sweep(doomed)).await
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
        let (link, observed, namespaces) = (observed.link, observed.clone(), namespaces.to_vec());
        self.about("remove link", link, move |worker| worker.remove(&observed, &namespaces)).await
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        Box::pin(self.news.subscribe())
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        let (link, identity) = (identity.link, identity.clone());
        self.about("verify link", link, move |worker| worker.verify(&identity)).await
    }

    fn overlay(&self) -> Option<&dyn OverlayBackend> {
        self.capabilities().can_connect(PlaceKind::Namespace, PlaceKind::Tunnel).then_some(self)
    }
}

#[async_trait]
impl OverlayBackend for BridgeBackend {
    async fn underlay(&self) -> Result<Underlay> {
        self.about("read", "the underlay", Worker::underlay).await
    }

    async fn redirect(&self, identity: &LinkIdentity, to: &Tunnel) -> Result<LinkIdentity> {
        let (link, identity, to) = (identity.link, identity.clone(), to.clone());
        self.about("redirect link", link, move |worker| worker.redirect(&identity, &to)).await
    }
}
