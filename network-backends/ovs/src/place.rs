//! Open namespaces.
//!
//! An open descriptor keeps its namespace alive, and with it the far ends of links whose node is gone. So descriptors
//! are kept only while there is work, and let go as soon as there is none.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, NsRef};
use lifecycle_core::error::ErrorKind;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{Link, RouteSocket, Which};
use lifecycle_linux::probe::Prober;

use crate::failure::{Failure, Outcome};

/// Namespaces that are open at once; beyond it all are closed, since none is worth more than another.
const MOST: usize = 256;

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) ns: OwnedFd,
    pub(crate) cookie: u64,
    route: RefCell<RouteSocket>,
    prober: OnceCell<Prober>,
}

impl Place {
    fn new(opened: Vec<OwnedFd>) -> Outcome<Self> {
        let [ns, route] = opened.try_into().map_err(|_| miscounted())?;
        let route = RouteSocket::new(route)?;
        let cookie = route.cookie()?;
        Ok(Self { ns, cookie, route: RefCell::new(route), prober: OnceCell::new() })
    }

    /// Does something with the namespace's socket.
    pub(crate) fn route<T>(&self, with: impl FnOnce(&mut RouteSocket) -> T) -> T {
        with(&mut self.route.borrow_mut())
    }

    pub(crate) fn link(&self, which: Which<'_>) -> Outcome<Option<Link>> {
        Ok(self.route(|route| route.link(which))?)
    }

    /// What sends and receives test frames here.
    pub(crate) fn prober(&self, access: &NamespaceAccess) -> Outcome<&Prober> {
        if let Some(prober) = self.prober.get() {
            return Ok(prober);
        }
        let want = [Want::Socket(SocketKind::Packet)];
        let mut opened = access.open_inside(self.ns.try_clone()?, Some(self.cookie), &want)?;
        let prober = Prober::new(opened.pop().ok_or_else(miscounted)?)?;
        Ok(self.prober.get_or_init(|| prober))
    }

    /// One more socket, for another thread.
    pub(crate) fn another_socket(&self, access: &NamespaceAccess) -> Outcome<RouteSocket> {
        let want = [Want::Socket(SocketKind::Route)];
        let mut opened = access.open_inside(self.ns.try_clone()?, Some(self.cookie), &want)?;
        Ok(RouteSocket::new(opened.pop().ok_or_else(miscounted)?)?)
    }
}

/// Whether two interfaces are the two ends of one veth pair, seen from both sides.
pub(crate) fn are_peers(a: &Place, link_a: &Link, b: &Place, link_b: &Link) -> Outcome<bool> {
    if (link_a.lower, link_b.lower) != (Some(link_b.index), Some(link_a.index)) {
        return Ok(false);
    }
    if a.cookie == b.cookie {
        return Ok(link_a.lower_nsid.is_none() && link_b.lower_nsid.is_none());
    }
    // Both sides must say so: an index alone names an interface in every namespace.
    let from_a = a.route(|route| route.nsid(b.ns.as_fd()))?;
    let from_b = b.route(|route| route.nsid(a.ns.as_fd()))?;
    Ok((link_a.lower_nsid, link_b.lower_nsid) == (Some(from_a), Some(from_b)))
}

/// Namespaces that are open at the moment.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) access: NamespaceAccess,
    open: HashMap<u64, Rc<Place>>,
    /// The switch's namespace: its file, and its cookie once it was open.
    switch: PathBuf,
    switch_cookie: Option<u64>,
}

impl Places {
    /// None yet; for the thread that will open them. `switch` is the file of the switch's namespace.
    pub(crate) fn new(switch: Option<PathBuf>) -> Self {
        let switch = switch.unwrap_or_else(|| "/proc/thread-self/ns/net".into());
        Self { access: NamespaceAccess::on_calling_thread(), open: HashMap::new(), switch, switch_cookie: None }
    }

    /// The namespace that `ns` names.
    pub(crate) fn namespace(&mut self, ns: &NsRef) -> Outcome<Rc<Place>> {
        if let Some(place) = self.open.get(&ns.cookie) {
            return Ok(Rc::clone(place));
        }
        let opened = self.access.open_all(ns, &WANT)?;
        Ok(self.keep(Place::new(opened)?))
    }

    /// The namespace of the switch.
    pub(crate) fn switch(&mut self) -> Outcome<Rc<Place>> {
        if let Some(place) = self.switch_cookie.and_then(|cookie| self.open.get(&cookie)) {
            return Ok(Rc::clone(place));
        }
        let file = File::open(&self.switch).map_err(|error| {
            let message = format!("the switch's namespace {} cannot be opened", self.switch.display());
            Failure::from(error).saying(message)
        })?;
        let place = Place::new(self.access.open_inside(file.into(), None, &WANT)?)?;
        self.switch_cookie = Some(place.cookie);
        Ok(self.keep(place))
    }

    /// The namespace in which the interface at a link's end stands.
    pub(crate) fn of(&mut self, point: &AttachKind) -> Outcome<Rc<Place>> {
        match point {
            AttachKind::Namespace(ns) => self.namespace(ns),
            AttachKind::HostNet => self.switch(),
            other => Err(Failure::unsupported(format!("the ovs backend attaches nothing to a {}", other.name()))),
        }
    }

    fn keep(&mut self, place: Place) -> Rc<Place> {
        if self.open.len() >= MOST {
            self.close();
        }
        let place = Rc::new(place);
        self.open.insert(place.cookie, Rc::clone(&place));
        place
    }

    /// Closes everything but what is being worked with; called when there is no more work.
    pub(crate) fn close(&mut self) {
        let places = self.open.drain().filter_map(|(_, place)| Rc::into_inner(place));
        let probers: Vec<Prober> = places.filter_map(|place| place.prober.into_inner()).collect();
        if !probers.is_empty() {
            // Closing one waits some 10 ms for a grace period of the kernel. A failure to start a thread drops them here.
            let _ = std::thread::Builder::new().name("probe-closer".into()).spawn(move || drop(probers));
        }
    }
}

const WANT: [Want; 2] = [Want::Namespace, Want::Socket(SocketKind::Route)];

fn miscounted() -> Failure {
    Failure::new(ErrorKind::Failed, "another number of descriptors came than asked for")
}
