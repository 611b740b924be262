//! Who is heard: a notification socket per site, and the namespaces that it has numbered.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use lifecycle_core::error::ErrorKind;

use super::news::{News, Reader};
use super::{Failure, Outcome, Place, Site};
use crate::namespace::broker::HOME;
use crate::namespace::{FreshNamespace, NamespaceAccess, SocketKind, Want};
use crate::netlink::RouteSocket;
use crate::notify::NoticeSocket;

/// The notification sockets of all sites that were needed so far.
#[derive(Debug)]
pub(super) struct Ears {
    hubs: Vec<(Site, Option<Hub>)>,
    /// Namespaces that could not be numbered; said once.
    deaf: HashSet<u64>,
    news: Arc<News>,
}

#[derive(Debug)]
struct Hub {
    numbering: RouteSocket,
    cookie: u64,
    /// A number that is likely to be free.
    next: i32,
    _reader: Reader,
}

impl Ears {
    pub(super) fn new(news: Arc<News>) -> Self {
        Self { hubs: Vec::new(), deaf: HashSet::new(), news }
    }

    /// Hears of changes in `place` from now on. Without news, periodic passes find changes later, so that a failure is
    /// only worth a warning.
    pub(super) fn hear(&mut self, access: &NamespaceAccess, place: &Place) {
        let site = place.site();
        let index = self.hubs.iter().position(|(known, _)| known == site).unwrap_or_else(|| {
            let hub = self.open(access, site, self.hubs.len());
            if let Err(failure) = &hub {
                tracing::warn!(?site, ?failure, "changes of links are not heard");
            }
            self.hubs.push((site.clone(), hub.ok()));
            self.hubs.len() - 1
        });
        if self.news.is_heard(index, place.cookie) || self.deaf.contains(&place.cookie) {
            return;
        }
        let Some((_, Some(hub))) = self.hubs.get_mut(index) else { return };
        if hub.cookie == place.cookie {
            return self.news.numbered(index, None, place.cookie);
        }
        match hub.numbering.nsid_as(place.ns.as_fd(), hub.next) {
            Ok(number) => {
                hub.next = hub.next.max(number) + 1;
                self.news.numbered(index, Some(number), place.cookie);
            }
            Err(error) => {
                tracing::warn!(namespace = place.cookie, %error, "changes of links in a namespace are not heard");
                self.deaf.insert(place.cookie);
            }
        }
    }

    /// Opens a hub. On the host it is a namespace of its own, which nobody else hears or fills with noise; an ordinary
    /// user may hear others only from a namespace that belongs to the same user namespace, as the broker's own does.
    fn open(&self, access: &NamespaceAccess, site: &Site, index: usize) -> Outcome<Hub> {
        const TWO: [Want; 2] = [Want::Socket(SocketKind::Route), Want::Socket(SocketKind::Route)];
        let sockets = match site {
            Site::Host => access.open_inside(FreshNamespace::new()?.ns, None, &TWO)?,
            Site::Broker(socket) => access.broker(socket)?.open(HOME, None, &TWO)?,
        };
        let [numbering, hearing] = <[OwnedFd; 2]>::try_from(sockets)
            .map_err(|_| Failure::new(ErrorKind::Failed, "another number of sockets came than asked for"))?;
        let numbering = RouteSocket::new(numbering)?;
        let cookie = numbering.cookie()?;
        let reader = Reader::start(NoticeSocket::new(hearing)?, index, Arc::clone(&self.news))?;
        Ok(Hub { numbering, cookie, next: 0, _reader: reader })
    }
}
