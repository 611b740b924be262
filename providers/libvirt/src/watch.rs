//! News of instances.
//!
//! The safe binding to libvirt has no call that asks for its events, so the daemon is asked for the states of all domains,
//! often, and at once after each thing that was done here. The numbers of runs tell of one that ended and began in between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::plugin::provider::{InstanceRef, ProviderEvent};
use tokio::sync::{Notify, watch};

use crate::crew::Crew;
use crate::life::Yard;
use crate::observe::Seen;

struct Watcher {
    crew: Arc<Crew>,
    yard: Arc<Yard>,
    /// Something was done.
    done: Arc<Notify>,
    /// As of the last look; none while the daemon does not answer.
    known: Option<BTreeMap<InstanceRef, Seen>>,
    /// Whether there was a look.
    begun: bool,
    ready: VecDeque<ProviderEvent>,
}

/// News until the provider, which holds the other end of `alive`, is dropped.
pub(crate) fn watch(
    crew: Arc<Crew>,
    yard: Arc<Yard>,
    done: Arc<Notify>,
    mut alive: watch::Receiver<()>,
) -> BoxStream<'static, ProviderEvent> {
    let watcher = Watcher { crew, yard, done, known: None, begun: false, ready: VecDeque::new() };
    let news = stream::unfold(watcher, |mut watcher| async { Some((watcher.next().await, watcher)) });
    // It never changes, so a change is its end.
    news.take_until(async move { alive.changed().await }).boxed()
}

impl Watcher {
    async fn next(&mut self) -> ProviderEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if std::mem::replace(&mut self.begun, true) {
                // A daemon that is not there is looked for less often.
                let wait = self.yard.settings.look() * if self.known.is_some() { 1 } else { 3 };
                let _ = tokio::time::timeout(wait, self.done.notified()).await;
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let yard = Arc::clone(&self.yard);
        let Ok(list) = self.crew.ask(move |daemon| yard.list(daemon)).await else {
            if self.known.take().is_some() {
                self.ready.push_back(ProviderEvent::Resync);
            }
            return;
        };
        let now: BTreeMap<InstanceRef, Seen> = list.into_iter().map(|seen| (seen.0.instance.clone(), seen)).collect();
        match self.known.take() {
            None => self.ready.push_back(ProviderEvent::Resync),
            Some(before) => {
                let changed = now.iter().filter(|(instance, seen)| before.get(instance) != Some(seen));
                let gone = before.keys().filter(|instance| !now.contains_key(instance));
                self.ready
                    .extend(changed.map(|(instance, _)| instance).chain(gone).cloned().map(ProviderEvent::Changed));
            }
        }
        self.known = Some(now);
    }
}
