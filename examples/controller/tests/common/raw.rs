//! Requests as they go over the wire, so that the tests do not depend on the client that they come with.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem with a code that the answer has to be.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status, json["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        for (field, value) in
            [("status", Value::from(status)), ("type", format!("urn:lifecycle:problem:{code}").into())]
        {
            assert_eq!(json[field], value, "{self:?}");
        }
        assert!(json["title"].is_string() && json["detail"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        json
    }
}

/// Sends a request and reads the whole answer, whose connection is closed after it.
pub(crate) async fn send(socket: &Path, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Answer {
    let mut stream = begin(socket, method, path, headers, body).await;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn begin(socket: &Path, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> UnixStream {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if !body.is_empty() {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    stream
}

/// Follows a stream of server-sent events until `enough` messages came: their ids, kinds and data.
pub(crate) async fn events(
    socket: &Path,
    path: &str,
    headers: &[&str],
    enough: usize,
) -> Vec<(Option<String>, String, Value)> {
    let mut stream = begin(socket, "GET", path, headers, None).await;
    let mut text = String::new();
    let mut buffer = vec![0; 65_536];
    let limit = tokio::time::Instant::now() + super::PATIENCE;
    loop {
        let messages = parse(&text);
        if messages.len() >= enough {
            return messages;
        }
        let read = tokio::time::timeout_at(limit, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("only {} messages came: {text}", messages.len())).unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

/// Whole messages, without the sizes of the chunks that they came in.
fn parse(text: &str) -> Vec<(Option<String>, String, Value)> {
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let mut found = Vec::new();
    let (mut id, mut kind, mut data) = (None, String::new(), None);
    for line in body.lines() {
        match line.split_once(": ") {
            Some(("id", text)) => id = Some(text.to_owned()),
            Some(("event", text)) => kind = text.to_owned(),
            Some(("data", text)) => data = serde_json::from_str(text).ok(),
            _ if line.is_empty() => {
                if let Some(data) = data.take() {
                    found.push((id.take(), std::mem::take(&mut kind), data));
                }
            }
            _ => {}
        }
    }
    found
}
