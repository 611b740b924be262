//! The backend as the engine sees it: each call is handed to the worker's thread.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use lifecycle_core::attach::{NsRef, PlaceKind, Tunnel};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{
    EndMark, LinkIdentity, LinkReport, LinkRequest, NetworkCapabilities, NetworkEvent, ObservedLink,
};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::plugin::{HostContext, NetworkBackend, OverlayBackend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::capability::Missing;
use lifecycle_linux::tap;
use lifecycle_linux::wiring::{News, Outcome, label, shaping, ticket};

use crate::alive::Health;
use crate::name::{lab_bridge, shared_bridge};
use crate::ovsdb::Endpoint;
use crate::settings::Settings;
use crate::worker::{Hand, Job, Released, Worker};

const ROOTLESS: &str = "only root may attach interfaces to Open vSwitch";

/// Wires nodes through Open vSwitch. See [`NetworkBackend`] for its laws.
///
/// Links go to one bridge that all labs of the controller share, on a segment each. A lab that wants a switch of its own
/// has a bridge of its own.
///
/// Making one starts a thread that does all blocking work; dropping it ends that thread after the work under way.
///
/// # Cancellation
///
/// A future that is dropped before its work began leaves it undone; later, the work is done all the same, and dropping
/// waits for that until 100 ms after it began. Both ends of a link appear together, and go together when it cannot be built.
pub struct OvsBackend {
    hand: Hand,
    news: Arc<News>,
    health: Arc<Health>,
    /// What the kernel lacks of what slows links down.
    missing: Mutex<Missing>,
    endpoint: Endpoint,
    /// The bridge of labs that share one.
    shared: IfName,
}

impl Drop for OvsBackend {
    fn drop(&mut self) {
        self.news.close();
    }
}

impl fmt::Debug for OvsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OvsBackend").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl OvsBackend {
    /// A backend that acts for the context's controller, with the context's [`Settings`].
    ///
    /// # Errors
    /// When the settings are wrong or its thread cannot be started.
    pub fn new(context: &HostContext) -> Result<Self> {
        let settings = Settings::read(&context.settings)?;
        let endpoint = settings.endpoint()?;
        let controller = context.controller;
        let start = |source| Error::new(ErrorKind::Exhausted, "make the ovs backend", "no thread").because(source);
        let (hand, news, health) = Hand::start(controller, settings, endpoint.clone()).map_err(start)?;
        Ok(Self { hand, news, health, missing: Mutex::default(), endpoint, shared: shared_bridge(controller) })
    }

    /// The bridge that a new link goes to. What is done to links that stand does not depend on where they are.
    fn bridge_of(&self, request: &LinkRequest) -> IfName {
        match request.lab {
            Some(lab) if lab.own_switch => lab_bridge(lab.id),
            _ => self.shared.clone(),
        }
    }

    /// Has the worker do something.
    async fn about<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&mut Worker) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let (ticket, wait) = ticket();
        self.hand.send(Job::Other(Box::new(move |worker| {
            if ticket.begin() {
                let outcome = work(worker);
                ticket.finish(outcome);
            }
        })));
        wait.outcome().await.map_err(|failure| failure.of(operation, subject))
    }
}

#[async_trait]
impl NetworkBackend for OvsBackend {
    fn capabilities(&self) -> NetworkCapabilities {
        use PlaceKind::{HostNet, Namespace, Tap, Tunnel};
        let mut can = NetworkCapabilities {
            switched: true,
            attaches: label::attaches(),
            parks: [Namespace, Tap].into(),
            ..NetworkCapabilities::default()
        };
        shaping::declare(&self.missing.lock().unwrap_or_else(PoisonError::into_inner), &mut can);
        // It may be started later, so that links through it are tried all the same, and refused with this reason.
        if let Endpoint::Unix(path) = &self.endpoint
            && !path.exists()
        {
            let reason = format!(
                "nobody listens at {}; install Open vSwitch (Debian's package is openvswitch-switch) and start it",
                path.display()
            );
            can.missing.insert("switch".to_owned(), reason);
        }
        if nix::unistd::geteuid().is_root() {
            can.pairs.extend([(Namespace, Namespace), (Namespace, HostNet), (HostNet, HostNet)]);
            can.pairs.extend([Namespace, HostNet].map(|place| (place, Tunnel)));
            match tap::missing() {
                None => can.pairs.extend([(Namespace, Tap), (Tap, Tap), (Tap, HostNet), (Tap, Tunnel)]),
                Some(reason) => drop(can.missing.insert("tap".to_owned(), reason.to_owned())),
            }
        } else {
            can.missing.insert("root".to_owned(), ROOTLESS.to_owned());
        }
        can
    }

    /// Begins to connect to the database. A machine without Open vSwitch is no error here: links are refused later.
    async fn initialize(&self) -> Result<()> {
        let missing = self.about("initialize", "the ovs backend", Worker::begin).await?;
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        Ok(())
    }

    async fn cleanup(&self) -> Result<()> {
        self.about("clean up", "bridges", Worker::remove_empty_bridges).await
    }

    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity> {
        const OPERATION: &str = "connect link";
        if !self.capabilities().can_connect(request.a.place.name(), request.b.place.name()) {
            let (a, b) = (request.a.place.name(), request.b.place.name());
            let can = self.capabilities();
            let why = [a, b].iter().find_map(|place| can.missing.get(&place.to_string()).map(String::as_str));
            let why = if can.pairs.is_empty() { Some(ROOTLESS) } else { why };
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let message = format!("the ovs backend cannot connect a {a} and a {b} here{why}");
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, message).about(request.link));
        }
        let (ticket, wait) = ticket();
        self.hand.send(Job::Connect(Box::new(request.clone()), self.bridge_of(request), ticket));
        wait.outcome().await.map_err(|failure| failure.of(OPERATION, request.link))
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        let (ticket, wait) = ticket();
        self.hand.send(Job::Disconnect(Box::new(identity.clone()), ticket));
        wait.outcome().await.map_err(|failure| failure.of("disconnect link", identity.link))
    }

    async fn release(&self, identity: &LinkIdentity) -> Result<()> {
        let (ticket, wait) = ticket();
        self.hand.send(Job::Release(Released(Box::new(identity.clone())), ticket));
        wait.outcome().await.map_err(|failure| failure.of("release link", identity.link))
    }

    async fn park(&self, identity: &LinkIdentity, heirs: [Option<EndMark>; 2]) -> Result<()> {
        let (link, identity) = (identity.link, identity.clone());
        self.about("park link", link, move |worker| worker.park(&identity, heirs)).await
    }

    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        let (link, identity, attrs) = (identity.link, identity.clone(), *attrs);
        self.about("set parameters of link", link, move |worker| worker.set_params(&identity, &attrs)).await
    }

    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        let (link, identity) = (identity.link, identity.clone());
        self.about("set carrier of link", link, move |worker| worker.set_carrier(&identity, side, up)).await
    }

    async fn observe(&self, _namespaces: &[NsRef]) -> Result<Vec<ObservedLink>> {
        self.health.check().map_err(|failure| failure.of("observe", "links"))?;
        self.about("observe", "links", Worker::observe).await
    }

    async fn remove(&self, observed: &ObservedLink, namespaces: &[NsRef]) -> Result<()> {
        let (link, observed, namespaces) = (observed.link, observed.clone(), namespaces.to_vec());
        self.about("remove link", link, move |worker| worker.remove(&observed, &namespaces)).await
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        Box::pin(self.news.subscribe())
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        self.health.check().map_err(|failure| failure.of("verify link", identity.link))?;
        let (link, identity) = (identity.link, identity.clone());
        self.about("verify link", link, move |worker| worker.verify(&identity)).await
    }

    fn overlay(&self) -> Option<&dyn OverlayBackend> {
        Some(self)
    }
}

#[async_trait]
impl OverlayBackend for OvsBackend {
    async fn underlay(&self) -> Result<Underlay> {
        self.about("read", "the underlay", Worker::underlay).await
    }

    async fn redirect(&self, identity: &LinkIdentity, to: &Tunnel) -> Result<LinkIdentity> {
        let (link, identity, to) = (identity.link, identity.clone(), to.clone());
        self.about("redirect link", link, move |worker| worker.redirect(&identity, &to)).await
    }
}
