//! What is heard of the kernel: one notification socket, and the namespaces that it has numbered.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use lifecycle_core::error::ErrorKind;
use lifecycle_linux::namespace::{FreshNamespace, NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::RouteSocket;
use lifecycle_linux::notify::NoticeSocket;

use crate::failure::{Failure, Outcome};
use crate::news::{News, Reader};
use crate::place::Place;

/// The notification socket, opened when the first namespace is to be heard.
#[derive(Debug)]
pub(crate) struct Ears {
    hub: Option<Hub>,
    /// Namespaces that could not be numbered, or all when there is no hub; said once.
    deaf: HashSet<u64>,
    news: Arc<News>,
}

/// A namespace of its own, which nobody else hears or fills with noise.
#[derive(Debug)]
struct Hub {
    numbering: RouteSocket,
    /// A number that is likely to be free.
    next: i32,
    _reader: Reader,
}

impl Ears {
    pub(crate) fn new(news: Arc<News>) -> Self {
        Self { hub: None, deaf: HashSet::new(), news }
    }

    /// Hears of changes in `place` from now on. Without news, periodic passes find changes later, so that a failure is
    /// only worth a warning.
    pub(crate) fn hear(&mut self, access: &NamespaceAccess, place: &Place) {
        if self.news.is_heard(place.cookie) || self.deaf.contains(&place.cookie) {
            return;
        }
        if let Err(failure) = self.number(access, place) {
            tracing::warn!(namespace = place.cookie, ?failure, "changes of links in a namespace are not heard");
            self.deaf.insert(place.cookie);
        }
    }

    fn number(&mut self, access: &NamespaceAccess, place: &Place) -> Outcome<()> {
        let hub = match &mut self.hub {
            Some(hub) => hub,
            none => none.insert(Hub::open(access, &self.news)?),
        };
        let number = hub.numbering.nsid_as(place.ns.as_fd(), hub.next)?;
        hub.next = hub.next.max(number) + 1;
        self.news.numbered(number, place.cookie);
        Ok(())
    }
}

impl Hub {
    fn open(access: &NamespaceAccess, news: &Arc<News>) -> Outcome<Self> {
        const TWO: [Want; 2] = [Want::Socket(SocketKind::Route), Want::Socket(SocketKind::Route)];
        let sockets = access.open_inside(FreshNamespace::new()?.ns, None, &TWO)?;
        let [numbering, hearing] = <[OwnedFd; 2]>::try_from(sockets)
            .map_err(|_| Failure::new(ErrorKind::Failed, "another number of sockets came than asked for"))?;
        let reader = Reader::start(NoticeSocket::new(hearing)?, Arc::clone(news))?;
        Ok(Self { numbering: RouteSocket::new(numbering)?, next: 0, _reader: reader })
    }
}
