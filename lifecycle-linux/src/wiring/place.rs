//! Open namespaces.
//!
//! An open descriptor keeps its namespace alive, and with it the far ends of links whose node is gone. So descriptors
//! are kept only while there is work, and let go as soon as there is none.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, NsAccess, NsRef};
use lifecycle_core::error::ErrorKind;

use super::ears::Ears;
use super::{Failure, News, Outcome};
use crate::namespace::broker::HOME;
use crate::namespace::{NamespaceAccess, SocketKind, Want};
use crate::netlink::{Link, RouteSocket, Which};
use crate::probe::Prober;

/// How long a namespace that nobody asked for stays open while there is other work.
const KEEP: Duration = Duration::from_millis(200);

/// Namespaces that are open at once; beyond it all are closed, since none is worth more than another.
const MOST: usize = 256;

/// An open namespace.
#[derive(Debug)]
pub struct Place {
    /// The namespace, as the kernel takes it in a message that makes an interface there.
    pub ns: OwnedFd,
    /// The kernel's cookie of it.
    pub cookie: u64,
    site: Site,
    /// How it was reached and is again; none for a site's own.
    named: Option<NsRef>,
    route: RefCell<RouteSocket>,
    prober: OnceCell<Prober>,
    /// Numbers by which it knows others, by their cookies: each holds as long as both live, and no cookie is given twice.
    numbers: RefCell<HashMap<u64, i32>>,
    used: RefCell<Instant>,
}

impl Place {
    fn new(named: Option<NsRef>, site: Site, opened: Vec<OwnedFd>) -> Outcome<Self> {
        let [ns, route] = opened.try_into().map_err(|_| miscounted())?;
        let route = RouteSocket::new(route)?;
        let cookie = route.cookie()?;
        Ok(Self {
            ns,
            cookie,
            site,
            named,
            route: RefCell::new(route),
            prober: OnceCell::new(),
            numbers: RefCell::default(),
            used: RefCell::new(Instant::now()),
        })
    }

    /// The site that it belongs to.
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// Whether it is the host's own namespace.
    pub fn is_host(&self) -> bool {
        self.named.is_none() && self.site == Site::Host
    }

    /// Does something with the namespace's socket.
    pub fn route<T>(&self, with: impl FnOnce(&mut RouteSocket) -> T) -> T {
        with(&mut self.route.borrow_mut())
    }

    /// Reads an interface; none when it does not exist.
    ///
    /// # Errors
    /// Anything but the interface's absence.
    pub fn link(&self, which: Which<'_>) -> Outcome<Option<Link>> {
        Ok(self.route(|route| route.link(which))?)
    }

    /// The number by which it knows another namespace.
    fn number_of(&self, other: &Self) -> Outcome<i32> {
        if let Some(number) = self.numbers.borrow().get(&other.cookie) {
            return Ok(*number);
        }
        let number = self.route(|route| route.nsid(other.ns.as_fd()))?;
        self.numbers.borrow_mut().insert(other.cookie, number);
        Ok(number)
    }

    /// What sends and receives test frames here.
    ///
    /// # Errors
    /// When no socket for it can be opened.
    pub fn prober(&self, places: &Places) -> Outcome<&Prober> {
        if let Some(prober) = self.prober.get() {
            return Ok(prober);
        }
        let prober = Prober::new(places.another(self, Want::Socket(SocketKind::Packet))?)?;
        Ok(self.prober.get_or_init(|| prober))
    }
}

/// Whether two interfaces are the two ends of one veth pair, seen from both sides.
///
/// # Errors
/// When the kernel does not tell.
pub fn are_peers(a: &Place, link_a: &Link, b: &Place, link_b: &Link) -> Outcome<bool> {
    if (link_a.lower, link_b.lower) != (Some(link_b.index), Some(link_a.index)) {
        return Ok(false);
    }
    if a.cookie == b.cookie {
        return Ok(link_a.lower_nsid.is_none() && link_b.lower_nsid.is_none());
    }
    // Both sides must say so: an index alone names an interface in every namespace.
    Ok((link_a.lower_nsid, link_b.lower_nsid) == (Some(a.number_of(b)?), Some(b.number_of(a)?)))
}

/// Whose namespace "the host's" is for an end on the host: the host's own, or the one that a broker lives in, which an
/// ordinary user has instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// The host's own.
    Host,
    /// That of the broker with this socket.
    Broker(PathBuf),
}

impl Site {
    /// The site that goes with a namespace.
    pub fn of(ns: &NsRef) -> Self {
        match &ns.access {
            NsAccess::Path { .. } => Self::Host,
            NsAccess::Broker { socket, .. } => Self::Broker(socket.clone()),
        }
    }
}

/// Namespaces that are open at the moment. Whatever was opened is heard from then on.
#[derive(Debug)]
pub struct Places {
    /// The host's own namespace is out of reach.
    pub rootless: bool,
    access: NamespaceAccess,
    ears: Ears,
    /// File of what is the host's own namespace.
    host: PathBuf,
    open: HashMap<u64, Rc<Place>>,
    /// Cookies of the sites' own namespaces.
    sites: Vec<(Site, u64)>,
    /// Brokers that namespaces were reached through.
    brokers: BTreeSet<PathBuf>,
    swept: Option<Instant>,
}

impl Places {
    /// None yet; for the thread that will open them. `host` is the file of what is the host's own namespace, that of the
    /// thread when absent.
    pub fn new(news: Arc<News>, host: Option<PathBuf>) -> Self {
        Self {
            rootless: false,
            access: NamespaceAccess::on_calling_thread(),
            ears: Ears::new(news),
            host: host.unwrap_or_else(|| "/proc/thread-self/ns/net".into()),
            open: HashMap::new(),
            sites: Vec::new(),
            brokers: BTreeSet::new(),
            swept: None,
        }
    }

    /// The namespace that `ns` names.
    ///
    /// # Errors
    /// When it is gone, which [`Failure::is_gone`] tells, or cannot be reached.
    pub fn namespace(&mut self, ns: &NsRef) -> Outcome<Rc<Place>> {
        if let NsAccess::Broker { socket, .. } = &ns.access
            && !self.brokers.contains(socket)
        {
            self.brokers.insert(socket.clone());
        }
        if let Some(place) = self.opened(ns.cookie) {
            return Ok(place);
        }
        let opened = self.access.open_all(ns, &WANT)?;
        Ok(self.keep(Place::new(Some(ns.clone()), Site::of(ns), opened)?))
    }

    /// The namespace of the host's own ends.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn site(&mut self, site: &Site) -> Outcome<Rc<Place>> {
        let known = self.sites.iter().find(|(known, _)| known == site).map(|(_, cookie)| *cookie);
        if let Some(place) = known.and_then(|cookie| self.opened(cookie)) {
            return Ok(place);
        }
        let place = Place::new(None, site.clone(), self.open_site(site, &WANT)?)?;
        // A broker that was started anew may live in another namespace than the one before.
        self.sites.retain(|(known, _)| known != site);
        self.sites.push((site.clone(), place.cookie));
        Ok(self.keep(place))
    }

    /// Learns of the brokers through which namespaces are reached, without opening any.
    pub fn learn(&mut self, namespaces: &[NsRef]) {
        let brokers = namespaces.iter().filter_map(|ns| match &ns.access {
            NsAccess::Broker { socket, .. } => Some(socket),
            NsAccess::Path { .. } => None,
        });
        for socket in brokers {
            if !self.brokers.contains(socket) {
                self.brokers.insert(socket.clone());
            }
        }
    }

    /// The host's own namespace.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn host(&mut self) -> Outcome<Rc<Place>> {
        self.site(&Site::Host)
    }

    fn open_site(&self, site: &Site, want: &[Want]) -> Outcome<Vec<OwnedFd>> {
        Ok(match site {
            Site::Host => {
                let file = File::open(&self.host).map_err(|error| {
                    let message = format!("the network namespace {} cannot be opened", self.host.display());
                    Failure::from(error).saying(message)
                })?;
                self.access.open_inside(file.into(), None, want)?
            }
            Site::Broker(socket) => self.access.broker(socket)?.open(HOME, None, want)?,
        })
    }

    fn another(&self, place: &Place, want: Want) -> Outcome<OwnedFd> {
        let want = [want];
        let mut opened = match (&place.site, &place.named) {
            (Site::Host, _) => self.access.open_inside(place.ns.try_clone()?, Some(place.cookie), &want)?,
            (Site::Broker(_), Some(ns)) => self.access.open_all(ns, &want)?,
            (Site::Broker(_), None) => self.open_site(&place.site, &want)?,
        };
        opened.pop().ok_or_else(miscounted)
    }

    /// One more socket of an open namespace, for another thread.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn another_socket(&self, place: &Place) -> Outcome<RouteSocket> {
        Ok(RouteSocket::new(self.another(place, Want::Socket(SocketKind::Route))?)?)
    }

    /// A fresh descriptor of `/dev/net/tun`, which makes taps in an open namespace.
    ///
    /// # Errors
    /// When there is none.
    pub fn tun(&self, place: &Place) -> Outcome<OwnedFd> {
        self.another(place, Want::Tun)
    }

    /// The namespace in which the interface at `point` stands, next to `other`, the point at the link's other end.
    ///
    /// # Errors
    /// When it cannot be reached, or nothing stands at such a point.
    pub fn of(&mut self, point: &AttachKind, other: Option<&AttachKind>) -> Outcome<Rc<Place>> {
        match point {
            AttachKind::Namespace(ns) => self.namespace(ns),
            AttachKind::HostNet | AttachKind::Tap { .. } | AttachKind::Tunnel(_) if self.rootless => Err(Failure::new(
                ErrorKind::PermissionDenied,
                "only root may attach something to the host's own network namespace",
            )),
            AttachKind::HostNet | AttachKind::Tap { .. } | AttachKind::Tunnel(_) => self.host(),
            AttachKind::Bridge { .. } => self.switch_of(other),
            AttachKind::Macvlan { .. } | AttachKind::Dummy => {
                Err(Failure::unsupported(format!("no interface stands at a {}", point.name())))
            }
        }
    }

    /// Where bridges are: with the namespace at the other end, else at the only site there is.
    ///
    /// # Errors
    /// When there is no such site, or it cannot be reached.
    pub fn switch_of(&mut self, other: Option<&AttachKind>) -> Outcome<Rc<Place>> {
        let site = match other {
            Some(AttachKind::Namespace(ns)) => Site::of(ns),
            _ if !self.rootless => Site::Host,
            _ => self.brokers.first().cloned().map(Site::Broker).ok_or_else(|| {
                Failure::new(ErrorKind::PermissionDenied, "only root may make a bridge where no node is")
            })?,
        };
        if let Site::Broker(socket) = &site {
            self.brokers.insert(socket.clone());
        }
        self.site(&site)
    }

    /// Opens the namespaces, besides those of nodes, in which ends of links can stand.
    ///
    /// # Errors
    /// When one that is there cannot be reached.
    pub fn sites(&mut self) -> Outcome<Vec<Rc<Place>>> {
        let mut sites: Vec<Site> = self.brokers.iter().cloned().map(Site::Broker).collect();
        if !self.rootless {
            sites.push(Site::Host);
        }
        let mut places = Vec::new();
        for site in sites {
            match self.site(&site) {
                Ok(place) => places.push(place),
                // A keeper that ended took its own namespace along, unless a node holds it and it is reached again.
                Err(failure) if failure.kind() == ErrorKind::Unreachable && site != Site::Host => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(places)
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
        self.ears.hear(&self.access, &place);
        place
    }

    /// Closes what has not been used for a while; called now and then while there is work.
    pub fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= KEEP) {
            self.swept = Some(now);
            let stale = |place: &Rc<Place>| now.duration_since(*place.used.borrow()) >= KEEP;
            close(self.open.extract_if(|_, place| stale(place)).map(|(_, place)| place));
        }
    }

    /// Closes everything but what is being worked with; called when there is no more work.
    pub fn close(&mut self) {
        close(self.open.drain().map(|(_, place)| place));
    }
}

fn close(places: impl Iterator<Item = Rc<Place>>) {
    let places = places.filter_map(Rc::into_inner);
    let probers: Vec<Prober> = places.filter_map(|place| place.prober.into_inner()).collect();
    if !probers.is_empty() {
        // Closing one waits some 10 ms for a grace period of the kernel. A failure to start a thread drops them here.
        let _ = std::thread::Builder::new().name("probe-closer".into()).spawn(move || drop(probers));
    }
}

const WANT: [Want; 2] = [Want::Namespace, Want::Socket(SocketKind::Route)];

fn miscounted() -> Failure {
    Failure::new(ErrorKind::Failed, "another number of descriptors came than asked for")
}
