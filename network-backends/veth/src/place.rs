//! Open namespaces.
//!
//! An open descriptor keeps its namespace alive, and with it the far ends of links whose node is gone. So descriptors
//! are kept only while there is work, and let go as soon as there is none.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, NsAccess, NsRef};
use lifecycle_core::error::ErrorKind;
use lifecycle_linux::namespace::broker::HOME;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{Link, RouteSocket, Which};

use crate::failure::{Failure, Outcome};

/// How long a namespace that nobody asked for stays open while there is other work.
const KEEP: Duration = Duration::from_millis(200);

/// Namespaces that are open at once; beyond it all are closed, since none is worth more than another.
const MOST: usize = 256;

/// How a namespace was reached, and is again.
#[derive(Debug, Clone)]
enum Origin {
    Namespace(NsRef),
    Site(Site),
}

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Place {
    origin: Origin,
    pub(crate) ns: OwnedFd,
    pub(crate) cookie: u64,
    route: RefCell<RouteSocket>,
    used: RefCell<Instant>,
}

impl Place {
    fn new(origin: Origin, opened: Vec<OwnedFd>) -> Outcome<Self> {
        let [ns, route] = opened.try_into().map_err(|_| miscounted())?;
        let route = RouteSocket::new(route)?;
        let cookie = route.cookie()?;
        Ok(Self { origin, ns, cookie, route: RefCell::new(route), used: RefCell::new(Instant::now()) })
    }

    /// Does something with the namespace's socket.
    pub(crate) fn route<T>(&self, with: impl FnOnce(&mut RouteSocket) -> T) -> T {
        with(&mut self.route.borrow_mut())
    }

    pub(crate) fn link(&self, which: Which<'_>) -> Outcome<Option<Link>> {
        Ok(self.route(|route| route.link(which))?)
    }
}

/// Whose namespace "the host's" is for an end on the host: the host's own, or the one that a broker lives in, which an
/// ordinary user has instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    Host,
    Broker(PathBuf),
}

impl Site {
    /// The site that goes with a namespace.
    pub(crate) fn of(ns: &NsRef) -> Self {
        match &ns.access {
            NsAccess::Path { .. } => Self::Host,
            NsAccess::Broker { socket, .. } => Self::Broker(socket.clone()),
        }
    }
}

/// Namespaces that are open at the moment.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) access: NamespaceAccess,
    open: HashMap<u64, Rc<Place>>,
    /// Cookies of the sites' own namespaces.
    sites: Vec<(Site, u64)>,
    /// Brokers that namespaces were reached through.
    brokers: BTreeSet<PathBuf>,
    swept: Option<Instant>,
}

impl Places {
    /// None yet; for the thread that will open them.
    pub(crate) fn new() -> Self {
        Self {
            access: NamespaceAccess::on_calling_thread(),
            open: HashMap::new(),
            sites: Vec::new(),
            brokers: BTreeSet::new(),
            swept: None,
        }
    }

    /// The namespace that `ns` names.
    pub(crate) fn namespace(&mut self, ns: &NsRef) -> Outcome<Rc<Place>> {
        if let NsAccess::Broker { socket, .. } = &ns.access
            && !self.brokers.contains(socket)
        {
            self.brokers.insert(socket.clone());
        }
        if let Some(place) = self.opened(ns.cookie) {
            return Ok(place);
        }
        let opened = self.access.open_all(ns, &WANT)?;
        Ok(self.keep(Place::new(Origin::Namespace(ns.clone()), opened)?))
    }

    /// The namespace of the host's own ends.
    pub(crate) fn site(&mut self, site: &Site) -> Outcome<Rc<Place>> {
        let known = self.sites.iter().find(|(known, _)| known == site).map(|(_, cookie)| *cookie);
        if let Some(place) = known.and_then(|cookie| self.opened(cookie)) {
            return Ok(place);
        }
        let place = Place::new(Origin::Site(site.clone()), self.open_site(site, &WANT)?)?;
        // A broker that was started anew may live in another namespace than the one before.
        self.sites.retain(|(known, _)| known != site);
        self.sites.push((site.clone(), place.cookie));
        Ok(self.keep(place))
    }

    fn open_site(&self, site: &Site, want: &[Want]) -> Outcome<Vec<OwnedFd>> {
        Ok(match site {
            Site::Host => self.access.open_inside(File::open("/proc/thread-self/ns/net")?.into(), None, want)?,
            Site::Broker(socket) => self.access.broker(socket)?.open(HOME, None, want)?,
        })
    }

    /// One more socket of an open namespace, for another thread.
    pub(crate) fn another_socket(&self, place: &Place) -> Outcome<RouteSocket> {
        let want = [Want::Socket(SocketKind::Route)];
        let mut opened = match &place.origin {
            Origin::Namespace(ns) => self.access.open_all(ns, &want)?,
            Origin::Site(site) => self.open_site(site, &want)?,
        };
        Ok(RouteSocket::new(opened.pop().ok_or_else(miscounted)?)?)
    }

    /// The namespace in which the interface at `point` stands, next to `other`, the point at the link's other end.
    pub(crate) fn of(&mut self, point: &AttachKind, other: Option<&AttachKind>, rootless: bool) -> Outcome<Rc<Place>> {
        match point {
            AttachKind::Namespace(ns) => self.namespace(ns),
            AttachKind::HostNet if rootless => Err(Failure::new(
                ErrorKind::PermissionDenied,
                "only root may attach something to the host's own network namespace",
            )),
            AttachKind::HostNet => self.site(&Site::Host),
            AttachKind::Bridge { .. } => {
                let site = self.bridge_site(other, rootless)?;
                self.site(&site)
            }
            AttachKind::Tap { .. } | AttachKind::Macvlan { .. } | AttachKind::Dummy => {
                Err(Failure::unsupported(format!("no veth can end at a {}", point.name())))
            }
        }
    }

    /// Where bridges are: with the namespace at the other end, else at the only site there is.
    fn bridge_site(&self, other: Option<&AttachKind>, rootless: bool) -> Outcome<Site> {
        match other {
            Some(AttachKind::Namespace(ns)) => Ok(Site::of(ns)),
            _ if !rootless => Ok(Site::Host),
            _ => self.brokers.first().cloned().map(Site::Broker).ok_or_else(|| {
                Failure::new(ErrorKind::PermissionDenied, "only root may make a bridge where no node is")
            }),
        }
    }

    /// Brokers that namespaces were reached through so far.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = &PathBuf> {
        self.brokers.iter()
    }

    fn opened(&self, cookie: u64) -> Option<Rc<Place>> {
        let place = self.open.get(&cookie)?;
        *place.used.borrow_mut() = Instant::now();
        Some(Rc::clone(place))
    }

    fn keep(&mut self, place: Place) -> Rc<Place> {
        if self.open.len() >= MOST {
            self.close();
        }
        let place = Rc::new(place);
        self.open.insert(place.cookie, Rc::clone(&place));
        place
    }

    /// Closes what has not been used for a while; called now and then while there is work.
    pub(crate) fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= KEEP) {
            self.swept = Some(now);
            self.open.retain(|_, place| now.duration_since(*place.used.borrow()) < KEEP);
        }
    }

    /// Closes everything but what is being worked with; called when there is no more work.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }
}

const WANT: [Want; 2] = [Want::Namespace, Want::Socket(SocketKind::Route)];

fn miscounted() -> Failure {
    Failure::new(ErrorKind::Failed, "another number of descriptors came than asked for")
}
