//! News of containers, from the daemon's stream of events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::plugin::provider::ProviderEvent;
use tokio::sync::watch;

use crate::client::Client;
use crate::mark::{self, Mark, Owner};

/// Waits between attempts to reach a daemon; the last one again and again.
const WAITS: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];
/// How far back a new stream begins, so that nothing falls between it and the look that follows.
const OVERLAP: Duration = Duration::from_secs(2);
/// What happens to a container that says something about its instance. Commands run inside of it do not.
const TELLING: [&str; 10] = ["create", "start", "restart", "stop", "die", "kill", "oom", "pause", "unpause", "destroy"];

type Events = Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>;

struct Listener {
    client: Arc<Client>,
    owner: Owner,
    events: Option<Events>,
    failures: usize,
    ready: VecDeque<ProviderEvent>,
}

/// News until the provider, which holds the other end of `alive`, is dropped.
pub(crate) fn watch(
    client: Arc<Client>,
    owner: Owner,
    mut alive: watch::Receiver<()>,
) -> BoxStream<'static, ProviderEvent> {
    let listener = Listener { client, owner, events: None, failures: 0, ready: VecDeque::new() };
    let news = stream::unfold(listener, |mut listener| async { Some((listener.next().await, listener)) });
    // It never changes, so a change is its end.
    news.take_until(async move { alive.changed().await }).boxed()
}

impl Listener {
    async fn next(&mut self) -> ProviderEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            match &mut self.events {
                None => self.connect().await,
                Some(events) => match events.next().await {
                    Some(Ok(message)) => self.ready.extend(told(&message)),
                    // Whether the daemon went or only the connection, a look will tell.
                    Some(Err(_)) | None => {
                        self.events = None;
                        return ProviderEvent::Resync;
                    }
                },
            }
        }
    }

    async fn connect(&mut self) {
        let wait = self.failures.checked_sub(1).map(|failures| WAITS[failures.min(WAITS.len() - 1)]);
        tokio::time::sleep(wait.unwrap_or_default()).await;
        let Ok(docker) = self.client.docker().await else {
            self.failures += 1;
            return;
        };
        // The handle may be from before the daemon went; a stream from it would end at once, again and again.
        if self.client.ask(async |docker| docker.ping().await).await.is_err() {
            self.failures += 1;
            return;
        }
        self.failures = 1;
        let since =
            SystemTime::now().checked_sub(OVERLAP).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let mut filters = mark::filters(&self.owner, None);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let since = since.map(|since| since.as_secs().to_string());
        self.events = Some(Box::pin(docker.events(Some(EventsOptions { since, until: None, filters: Some(filters) }))));
        self.ready.push_back(ProviderEvent::Resync);
    }
}

/// Which instance an event is about, if it says anything.
fn told(message: &EventMessage) -> Option<ProviderEvent> {
    let action = message.action.as_deref()?;
    // Some daemons tell more behind a colon.
    let word = action.split(':').next().unwrap_or(action);
    let word = if word == "died" {
        "die"
    } else if word == "remove" {
        "destroy"
    } else {
        word
    };
    if !TELLING.contains(&word) {
        return None;
    }
    let (mark, _) = Mark::read(message.actor.as_ref()?.attributes.as_ref()?)?;
    Some(ProviderEvent::Changed(mark.instance))
}
