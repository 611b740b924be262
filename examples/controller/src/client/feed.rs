//! Following the feed.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request};
use serde::de::DeserializeOwned;

use super::Client;
use super::request::Lines;
use crate::api::wire::{Event, Hello, Reset};
use crate::failure::{Failure, Result};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// With what happens from now on.
    Now,
    /// After an event; 0 for everything that is kept.
    After(u64),
}

/// What a follower is given next.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedItem {
    /// The next event.
    Event(Box<Event>),
    /// Events were lost: what is known has to be read anew.
    Reset(Reset),
}

/// A feed that is being followed.
#[derive(Debug)]
pub struct Feed {
    messages: Messages,
    /// Where the feed stood when it began.
    pub hello: Hello,
}

impl Client {
    /// Follows the feed.
    ///
    /// # Errors
    /// As every request.
    pub async fn feed(&self, from: Position) -> Result<Feed> {
        let path = match from {
            Position::Now => "/api/v1/events".to_owned(),
            Position::After(seq) => format!("/api/v1/events?since={seq}"),
        };
        let request = Request::builder().method(Method::GET).uri(path).header(HOST, "localhost");
        let request = request.header(ACCEPT, "text/event-stream").body(Full::new(Bytes::new()));
        let request = request.map_err(|error| Failure::plain(format!("the request cannot be written: {error}")))?;
        let mut messages =
            Messages { lines: Lines::new(self.carry(request).await?), kind: String::new(), data: String::new() };
        match messages.next().await? {
            Some((kind, data)) if kind == "hello" => Ok(Feed { messages, hello: parse(&data)? }),
            _ => Err(Failure::plain("the controller's feed does not begin as it should; is it of another version?")),
        }
    }
}

impl Feed {
    /// Waits for the next item; nothing when the controller has ended.
    ///
    /// # Errors
    /// When the connection breaks.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<FeedItem>> {
        let Some((kind, data)) = self.messages.next().await? else { return Ok(None) };
        Ok(Some(match kind.as_str() {
            "reset" => FeedItem::Reset(parse(&data)?),
            _ => FeedItem::Event(Box::new(parse(&data)?)),
        }))
    }
}

/// Cuts what arrives into messages.
#[derive(Debug)]
struct Messages {
    lines: Lines,
    kind: String,
    data: String,
}

impl Messages {
    /// The next message: its kind and its data.
    async fn next(&mut self) -> Result<Option<(String, String)>> {
        while let Some(line) = self.lines.next().await? {
            let line = String::from_utf8_lossy(&line);
            let value = |text: &str| text.strip_prefix(' ').unwrap_or(text).to_owned();
            match line.split_once(':') {
                Some(("event", text)) => self.kind = value(text),
                Some(("data", text)) => self.data.push_str(&value(text)),
                // An empty line ends a message; one without data is a sign of life.
                None if line.is_empty() && !self.data.is_empty() => {
                    return Ok(Some((std::mem::take(&mut self.kind), std::mem::take(&mut self.data))));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Failure::plain(format!("the controller's feed is not understood: {error}")))
}
