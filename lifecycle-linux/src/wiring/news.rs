//! News about links: one notification socket per site, and a thread that reads it.
//!
//! What a backend does itself is no news. So it records how it left each end, and what the kernel tells is compared
//! with that record after a moment in which further notices may arrive. What a switch's database tells of a link that is
//! being worked on is passed over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_core::Stream;
use lifecycle_core::attach::Mac;
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::network::{NetworkEvent, Shaping};

use crate::netlink::{Link, Vxlan};
use crate::notify::{Notice, NoticeSocket};

/// How long notices are collected before they are compared with what was recorded.
const SETTLE: Duration = Duration::from_millis(5);

/// What of an end counts as a change when it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EndState {
    name: String,
    mac: Option<Mac>,
    mtu: u32,
    master: Option<u32>,
    admin_up: bool,
    carrier: bool,
    vxlan: Option<Vxlan>,
    /// What it lets through as a port.
    mask: Option<u16>,
    /// It could forward as a port, and does not.
    blocked: bool,
}

impl From<&Link> for EndState {
    fn from(link: &Link) -> Self {
        // A bridge takes its carrier, its MTU and some more from its ports, which are heard of themselves.
        if link.kind.as_deref() == Some("bridge") {
            let (name, admin_up) = (link.name.clone(), link.admin_up);
            return Self {
                name,
                mac: None,
                mtu: 0,
                master: None,
                admin_up,
                carrier: true,
                vxlan: None,
                mask: None,
                blocked: false,
            };
        }
        Self {
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            master: link.master,
            admin_up: link.admin_up,
            carrier: link.carrier,
            vxlan: link.vxlan,
            mask: link.port.map(|port| port.group_fwd_mask),
            blocked: link.carrier && link.port.is_some_and(|port| !port.forwarding),
        }
    }
}

/// An end by the cookie of its namespace and its index.
pub type EndKey = (u64, u32);

/// Is told of links that lost an interface.
type Mourner = Box<dyn Fn(LinkId) + Send + Sync>;

/// What is known of ends, and who wants to hear when it changes.
#[derive(Default)]
pub struct News {
    state: Mutex<State>,
    mourner: OnceLock<Mourner>,
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    ends: HashMap<EndKey, (LinkId, EndState)>,
    /// What slows down those of them that are slowed down.
    shaped: HashMap<EndKey, Shaping>,
    /// Cookies of namespaces by the site that hears them and its number for them.
    numbers: HashMap<(usize, Option<i32>), u64>,
    heard: HashSet<(usize, u64)>,
    /// Links that are being worked on.
    busy: HashSet<LinkId>,
    readers: Vec<Arc<Mutex<Pending>>>,
    closed: bool,
}

/// News that a reader has not taken yet: at most one per link, so that a slow reader costs no memory.
#[derive(Debug, Default)]
struct Pending {
    links: BTreeSet<LinkId>,
    resync: bool,
    closed: bool,
    waker: Option<Waker>,
}

impl News {
    /// Has `mourner` told of links that lose an interface. It must not block; a second one is not heard.
    pub fn mourned_by(&self, mourner: impl Fn(LinkId) + Send + Sync + 'static) {
        let _ = self.mourner.set(Box::new(mourner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how an end was left, or found; or the bridge of a link, to which nobody else has anything to plug in.
    pub fn settle(&self, link: LinkId, key: EndKey, state: &Link) {
        self.lock().ends.insert(key, (link, state.into()));
    }

    /// Records by what an end was slowed down when it was left, or found.
    pub fn settle_shaping(&self, key: EndKey, shaping: Shaping) {
        let mut state = self.lock();
        if shaping == Shaping::default() {
            state.shaped.remove(&key);
        } else {
            state.shaped.insert(key, shaping);
        }
    }

    /// Forgets an end that is about to be removed.
    pub fn forget(&self, key: EndKey) {
        let mut state = self.lock();
        state.ends.remove(&key);
        state.shaped.remove(&key);
    }

    /// Marks links as being worked on, until [`News::done`].
    pub fn busy(&self, links: impl IntoIterator<Item = LinkId>) {
        self.lock().busy.extend(links);
    }

    /// No link is being worked on any more.
    pub fn done(&self) {
        self.lock().busy.clear();
    }

    /// Takes in that something was heard of links from elsewhere, such as a database.
    pub fn heard(&self, links: impl IntoIterator<Item = LinkId>) {
        let mut state = self.lock();
        let mut links: BTreeSet<LinkId> = links.into_iter().collect();
        links.retain(|link| !state.busy.contains(link));
        if !links.is_empty() {
            tell(&mut state, |pending| pending.links.extend(&links));
        }
    }

    /// Records that a site knows the namespace `cookie` under a number; none for the site's own.
    pub(super) fn numbered(&self, site: usize, number: Option<i32>, cookie: u64) {
        let mut state = self.lock();
        state.numbers.insert((site, number), cookie);
        state.heard.insert((site, cookie));
    }

    /// Whether a site has a number for a namespace, or is it.
    pub(super) fn is_heard(&self, site: usize, cookie: u64) -> bool {
        self.lock().heard.contains(&(site, cookie))
    }

    /// A stream of news from now on; it ends when the backend does.
    pub fn subscribe(self: &Arc<Self>) -> NewsStream {
        let pending = Arc::new(Mutex::new(Pending::default()));
        let mut state = self.lock();
        pending.lock().unwrap_or_else(PoisonError::into_inner).closed = state.closed;
        state.readers.push(Arc::clone(&pending));
        NewsStream { pending }
    }

    /// Ends all streams.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        tell(&mut state, |pending| pending.closed = true);
    }

    /// Takes what a site heard into account.
    fn take(&self, site: usize, notices: Vec<Notice>) {
        let mut state = self.lock();
        // Only the last notice of an end counts: what was in between is over.
        let mut last: HashMap<EndKey, Option<Link>> = HashMap::new();
        let mut shaped: HashMap<EndKey, Shaping> = HashMap::new();
        let (mut changed, mut lost, mut resync) = (BTreeSet::new(), BTreeSet::new(), false);
        for notice in notices {
            let (number, link, there) = match notice {
                Notice::Changed { nsid, link } => (nsid, link, true),
                Notice::Gone { nsid, link } => (nsid, link, false),
                Notice::Shaped { nsid, index, shaping } => {
                    let Some(cookie) = state.numbers.get(&(site, nsid)) else { continue };
                    let key = (*cookie, index);
                    let known = state.shaped.get(&key).copied().unwrap_or_default();
                    let now = shaped.entry(key).or_insert(known);
                    *now = shaping.map_or_else(Shaping::default, |part| with(*now, part));
                    continue;
                }
                Notice::NamespaceGone { nsid } => {
                    if let Some(cookie) = state.numbers.remove(&(site, Some(nsid))) {
                        state.heard.remove(&(site, cookie));
                        let gone = state.ends.extract_if(|(namespace, _), _| *namespace == cookie);
                        lost.extend(gone.map(|(_, (link, _))| link));
                        state.shaped.retain(|(namespace, _), _| *namespace != cookie);
                    }
                    continue;
                }
                Notice::Overrun => {
                    resync = true;
                    continue;
                }
            };
            let Some(cookie) = state.numbers.get(&(site, number)) else { continue };
            last.insert((*cookie, link.index), there.then_some(link));
        }
        for (key, link) in last {
            // An end that is not recorded is being made or removed here, or is none of ours, which has no business on the
            // bridge of a link.
            if !state.ends.contains_key(&key) {
                let master = link.as_ref().and_then(|link| link.master);
                changed.extend(master.and_then(|master| Some(state.ends.get(&(key.0, master))?.0)));
                continue;
            }
            let Some((whose, known)) = state.ends.get_mut(&key) else { continue };
            let now = link.as_ref().map(EndState::from);
            if now.as_ref() == Some(known) {
                continue;
            }
            changed.insert(*whose);
            match now {
                Some(now) => *known = now,
                None => {
                    lost.insert(*whose);
                    state.ends.remove(&key);
                    state.shaped.remove(&key);
                }
            }
        }
        for (key, now) in shaped {
            let known = state.shaped.get(&key).copied().unwrap_or_default();
            if let Some((whose, _)) = state.ends.get(&key)
                && !now.is_like(&known)
            {
                changed.insert(*whose);
                state.shaped.insert(key, now);
            }
        }
        changed.extend(&lost);
        if resync || !changed.is_empty() {
            tell(&mut state, |pending| {
                pending.resync |= resync;
                pending.links.extend(&changed);
            });
        }
        drop(state);
        if let Some(mourner) = self.mourner.get() {
            lost.into_iter().for_each(mourner);
        }
    }

    /// News may have been lost: everything has to be looked at.
    pub fn resync(&self) {
        tell(&mut self.lock(), |pending| pending.resync = true);
    }
}

/// What slows an interface down once a further discipline was put there: each does a part of it.
fn with(now: Shaping, part: Shaping) -> Shaping {
    match part.rate {
        Some(_) => Shaping { rate: part.rate, ..now },
        None => Shaping { rate: now.rate, ..part },
    }
}

fn tell(state: &mut State, mut what: impl FnMut(&mut Pending)) {
    // A reader that dropped its stream leaves this as the last reference.
    state.readers.retain(|reader| Arc::strong_count(reader) > 1);
    for reader in &state.readers {
        let mut pending = reader.lock().unwrap_or_else(PoisonError::into_inner);
        what(&mut pending);
        if let Some(waker) = pending.waker.take() {
            waker.wake();
        }
    }
}

/// News about links; see [`News::subscribe`].
#[derive(Debug)]
pub struct NewsStream {
    pending: Arc<Mutex<Pending>>,
}

impl Stream for NewsStream {
    type Item = NetworkEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<NetworkEvent>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut pending.resync) {
            // Looking at everything includes whatever else is pending.
            pending.links.clear();
            return Poll::Ready(Some(NetworkEvent::Resync));
        }
        if let Some(link) = pending.links.pop_first() {
            return Poll::Ready(Some(NetworkEvent::Changed(link)));
        }
        if pending.closed {
            return Poll::Ready(None);
        }
        pending.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A thread that reads one notification socket until this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(socket: NoticeSocket, site: usize, news: Arc<News>) -> std::io::Result<Self> {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let read = move || {
            loop {
                match socket.receive(stopped.as_fd()) {
                    Ok(Some(mut notices)) => {
                        std::thread::sleep(SETTLE);
                        match socket.receive_now() {
                            Ok(more) => notices.extend(more),
                            Err(error) => tracing::warn!(%error, "notices were lost"),
                        }
                        news.take(site, notices);
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%error, "no more notices of changed links; periodic passes go on");
                        return news.resync();
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("link-news".into()).spawn(read)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only if something here is wrong, and then it has said so already.
            let _ = thread.join();
        }
    }
}
