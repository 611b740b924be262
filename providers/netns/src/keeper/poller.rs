//! What the keeper waits for.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::layout::Mark;

/// Who has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A client wants in.
    Clients,
    /// A client of the broker wants in.
    Brokers,
    /// A child of the keeper has ended.
    Children,
    /// A pin was deleted.
    Pins,
    /// The client whose token this is.
    Client,
    /// The client of the broker whose token this is.
    Broker,
    /// The launch of an instance.
    Launch(Mark),
    /// The init of an instance.
    Init(Mark),
}

/// An epoll instance and the meaning of its tokens.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    next: u64,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, sources: HashMap::new(), next: 1 })
    }

    /// Watches a descriptor for input, and returns the token under which it shows.
    pub(super) fn add(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        let token = self.next;
        self.next += 1;
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Says whether the descriptor is to be watched for room to write as well.
    pub(super) fn want_room(&self, fd: impl AsFd, token: u64, wanted: bool) -> io::Result<()> {
        let room = if wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(EpollFlags::EPOLLIN | room, token))?)
    }

    /// Watches a descriptor no more. It must still be open: a copy in a child would keep a closed one on the list.
    pub(super) fn remove(&mut self, fd: impl AsFd, token: u64) {
        self.sources.remove(&token);
        // Fails only for what is not on the list.
        let _ = self.epoll.delete(fd);
    }

    /// Waits until there is something to do, or for `limit`.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<Vec<(u64, Source)>> {
        let mut events = [EpollEvent::empty(); 64];
        // Rounded up, so that a deadline is over when it has been waited for.
        let millis = u16::try_from(limit.as_millis() + 1).unwrap_or(u16::MAX);
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(millis)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let known = |event: &EpollEvent| Some((event.data(), *self.sources.get(&event.data())?));
        Ok(events[..count].iter().filter_map(known).collect())
    }
}
