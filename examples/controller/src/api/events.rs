//! The live feed: server-sent events whose ids are `epoch-seq`, so that a client that comes back misses nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use lifecycle_engine::drive::{FeedItem, Subscription};
use serde::{Deserialize, Serialize};

use super::Api;
use super::extract::Query;
use super::problem::Problem;
use super::wire::{Event, Hello, Reset};

/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Begin after this event; `Last-Event-ID` wins. Without either, only what is new is sent.
    since: Option<u64>,
}

pub(super) async fn events(
    State(api): State<Api>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let epoch = api.controller.epoch();
    let (controller, seq) = api.controller.read(|world| (world.controller(), world.head.event)).await?;
    let wanted = last_event_id(&headers).or(query.since).unwrap_or(seq);
    let hello = message("hello", None, &Hello { controller, epoch, seq });
    // Whoever saw more than there is followed another state: nothing of what they know counts any more.
    let ahead = (wanted > seq).then(|| reset(epoch, seq));
    let feed = api.controller.follow(wanted.min(seq));
    let opening = stream::iter(std::iter::once(hello).chain(ahead));
    let ended = api.controller.clone();
    let feed = stream::unfold(feed, move |feed| next(feed, epoch));
    // Whoever comes back with the number of their last event misses nothing.
    let feed = feed.take_until(async move { ended.ended().await });
    let events = opening.chain(feed);
    Ok(Sse::new(events.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The number of the last event that a client saw. The epoch before it only says who numbered it: numbers go on.
fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    let (_, seq) = headers.get("last-event-id")?.to_str().ok()?.split_once('-')?;
    seq.parse().ok()
}

async fn next(mut feed: Subscription, epoch: u64) -> Option<(SseEvent, Subscription)> {
    match feed.next().await {
        Ok(Some(FeedItem::Event(event))) => {
            let event = Event::from(event.as_ref());
            Some((message(event.body.name(), Some((epoch, event.seq)), &event), feed))
        }
        Ok(Some(FeedItem::Reset { lost_up_to })) => Some((reset(epoch, lost_up_to), feed)),
        Ok(None) => None,
        Err(error) => {
            // The client comes back with the number of its last event.
            tracing::warn!(error = error.chain(), "the feed cannot be read");
            None
        }
    }
}

fn reset(epoch: u64, lost_up_to: u64) -> SseEvent {
    message("reset", Some((epoch, lost_up_to)), &Reset { lost_up_to })
}

fn message(kind: &str, id: Option<(u64, u64)>, body: &impl Serialize) -> SseEvent {
    let text = serde_json::to_string(body).unwrap_or_default();
    let event = SseEvent::default().event(kind).data(text);
    match id {
        Some((epoch, seq)) => event.id(format!("{epoch}-{seq}")),
        None => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_what_it_saw_last() {
        let seen = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", text.parse().unwrap());
            last_event_id(&headers)
        };
        assert_eq!(seen("3-17"), Some(17));
        for bad in ["", "17", "3-", "3-x", "-"] {
            assert_eq!(seen(bad), None, "{bad}");
        }
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }
}
