//! One request and its answer.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Client;
use crate::api::problem::{CONTENT_TYPE as PROBLEM, Problem};
use crate::api::wire::LogLine;
use crate::failure::{Exit, Failure, Result};

/// The connection broke: the controller ended, most likely.
pub(super) fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, format!("the connection to the controller broke: {error}"))
}

impl Client {
    /// Sends a request, on a connection of its own, and returns the answer if it is a success.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = match &body {
            Some(_) => request.header(CONTENT_TYPE, "application/json"),
            None => request,
        };
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        self.carry(request.map_err(|error| Failure::plain(format!("the request cannot be written: {error}")))?).await
    }

    pub(super) async fn carry(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(broken)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the answer's body; what goes wrong is seen there.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let is_problem = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
        let text = whole(answer).await?;
        Err(match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) if is_problem => problem.into(),
            _ => refused(status, String::from_utf8_lossy(&text).trim()),
        })
    }
}

/// The whole body of an answer.
pub(super) async fn whole(answer: Response<Incoming>) -> Result<Bytes> {
    Ok(answer.into_body().collect().await.map_err(broken)?.to_bytes())
}

fn exit_of(status: u16, code: &str) -> Exit {
    match (status, code) {
        (404, _) => Exit::NotFound,
        (409, _) => Exit::Conflict,
        (504, _) => Exit::Timeout,
        (503, "closing") => Exit::Unreachable,
        // As shells say it.
        (_, "no_such_program") => Exit::Command(127),
        _ => Exit::Failure,
    }
}

/// An answer that is no problem document; its text says what is known.
pub(super) fn refused(status: StatusCode, text: &str) -> Failure {
    Failure::new(exit_of(status.as_u16(), ""), format!("the controller answered {status}: {text}"))
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let mut message = problem.detail;
        let known = &problem.more.known;
        if !known.is_empty() && !message.contains("; there is ") {
            message.push_str(&format!("; there is {}", known.join(", ")));
        }
        Self::new(exit_of(problem.status, &problem.code), message)
    }
}

/// A text as part of the query of an address.
pub(super) fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Cuts what arrives into lines.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
}

impl Lines {
    pub(super) fn new(answer: Response<Incoming>) -> Self {
        Self { body: answer.into_body(), buffer: Vec::new(), ready: VecDeque::new() }
    }

    /// The next line, without its end; nothing when the answer has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            for piece in data.split_inclusive(|byte| *byte == b'\n') {
                self.buffer.extend_from_slice(piece);
                if self.buffer.last() == Some(&b'\n') {
                    self.buffer.pop();
                    self.ready.push_back(std::mem::take(&mut self.buffer));
                }
            }
        }
    }
}

/// The lines of a node's log.
pub(super) fn lines(answer: Response<Incoming>) -> impl Stream<Item = Result<LogLine>> {
    stream::try_unfold(Lines::new(answer), |mut lines| async move {
        let Some(text) = lines.next().await? else { return Ok(None) };
        Ok(Some((parse(&text)?, lines)))
    })
}

/// A line, or the problem that stands in its place.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| match serde_json::from_slice::<Problem>(text) {
        Ok(problem) => problem.into(),
        Err(_) => Failure::plain(format!("the controller's answer is not understood: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(percent(r#"["sh","-c"]"#), "%5B%22sh%22%2C%22-c%22%5D");
        assert_eq!(percent("ä&b"), "%C3%A4%26b");
    }

    #[test]
    fn problems_become_exit_codes() {
        let exit = |status: StatusCode, code| Failure::from(Problem::new(status, code, "x")).exit;
        assert_eq!(exit(StatusCode::NOT_FOUND, "not_found"), Exit::NotFound);
        assert_eq!(exit(StatusCode::CONFLICT, "node_transitional"), Exit::Conflict);
        assert_eq!(exit(StatusCode::UNPROCESSABLE_ENTITY, "invalid"), Exit::Failure);
        assert_eq!(exit(StatusCode::UNPROCESSABLE_ENTITY, "no_such_program"), Exit::Command(127));
        assert_eq!(exit(StatusCode::GATEWAY_TIMEOUT, "timeout"), Exit::Timeout);
        assert_eq!(exit(StatusCode::SERVICE_UNAVAILABLE, "closing"), Exit::Unreachable);
        assert_eq!(exit(StatusCode::SERVICE_UNAVAILABLE, "store_failing"), Exit::Failure);
    }
}
