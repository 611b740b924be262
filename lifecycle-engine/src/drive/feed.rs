//! The feed: committed events in sequence, resumable, with every gap visible.

use std::collections::VecDeque;
use std::sync::Arc;

use lifecycle_core::error::Result;
use lifecycle_core::model::Event;
use lifecycle_core::plugin::StateStore;
use tokio::sync::broadcast;

/// Events that a slow follower may fall behind before it is served from the store.
const BUFFER: usize = 4096;
/// Events that are read from the store at once.
const PAGE: usize = 1024;

/// What followers are told.
#[derive(Debug, Clone)]
enum News {
    Event(Arc<Event>),
    /// There may be events in the store that nobody was told of.
    Reread,
}

/// Hands committed events to whoever follows.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    sender: broadcast::Sender<News>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BUFFER) }
    }

    pub(super) fn publish(&self, events: Vec<Event>) {
        for event in events {
            // An error means that nobody follows, which is fine.
            let _ = self.sender.send(News::Event(Arc::new(event)));
        }
    }

    /// Has followers read the store: a commit that was taken to have failed may have happened.
    pub(super) fn reread(&self) {
        let _ = self.sender.send(News::Reread);
    }

    pub(super) fn follow(&self, store: Arc<dyn StateStore>, after: u64) -> Subscription {
        Subscription { receiver: self.sender.subscribe(), store, last: after, backlog: VecDeque::new(), behind: true }
    }
}

/// What a follower of the feed is given next.
#[derive(Debug, Clone)]
pub enum FeedItem {
    /// The next event; its number is one more than that of the event before.
    Event(Arc<Event>),
    /// Events up to this number are no longer kept: take a snapshot, and go on from here.
    Reset {
        /// Number of the last event that was lost.
        lost_up_to: u64,
    },
}

/// Follows the feed.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<News>,
    store: Arc<dyn StateStore>,
    last: u64,
    backlog: VecDeque<Arc<Event>>,
    /// The store has to be read before live events are of use.
    behind: bool,
}

impl Subscription {
    /// Waits for the next item; nothing when the controller has ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<FeedItem>> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.last = event.seq;
                return Ok(Some(FeedItem::Event(event)));
            }
            if self.behind {
                if let Some(reset) = self.catch_up().await? {
                    return Ok(Some(reset));
                }
                continue;
            }
            match self.receiver.recv().await {
                Ok(News::Event(event)) if event.seq <= self.last => {}
                Ok(News::Event(event)) if event.seq == self.last + 1 => {
                    self.last = event.seq;
                    return Ok(Some(FeedItem::Event(event)));
                }
                Ok(News::Event(_) | News::Reread) | Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Reads from the store what came after the last event that was handed out.
    async fn catch_up(&mut self) -> Result<Option<FeedItem>> {
        let page = self.store.events_since(self.last, PAGE).await?;
        if page.oldest > self.last + 1 {
            self.last = page.oldest - 1;
            return Ok(Some(FeedItem::Reset { lost_up_to: self.last }));
        }
        self.behind = page.events.len() >= PAGE;
        self.backlog.extend(page.events.into_iter().map(Arc::new));
        Ok(None)
    }
}
