//! The messages of JSON-RPC 1.0 as OVSDB uses them (RFC 7047, section 4).

use std::fmt;

use serde_json::{Value, json};

/// One message in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Something that is to be answered.
    Request {
        /// What the answer will bear.
        id: Value,
        /// What is asked for.
        method: String,
        /// With what.
        params: Value,
    },
    /// An answer.
    Response {
        /// The identifier of its request.
        id: Value,
        /// The result, or the error.
        result: Result<Value, Value>,
    },
    /// Something that is not to be answered.
    Notification {
        /// What happened.
        method: String,
        /// To what.
        params: Value,
    },
}

/// The text is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is no JSON.
    #[error("a message is not JSON")]
    Json(#[source] serde_json::Error),
    /// It is JSON, but neither request nor response nor notification.
    #[error("a message is neither request, response nor notification: {0}")]
    Shape(String),
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`] when the text is none.
    pub fn parse(text: &[u8]) -> Result<Self, MessageError> {
        let mut value: Value = serde_json::from_slice(text).map_err(MessageError::Json)?;
        if !value.is_object() {
            return Err(shape(text));
        }
        let is_answer = value.get("result").is_some() || value.get("error").is_some();
        let id = value["id"].take();
        if let Value::String(method) = value["method"].take() {
            let params = value["params"].take();
            return Ok(match id {
                Value::Null => Self::Notification { method, params },
                id => Self::Request { id, method, params },
            });
        }
        if id.is_null() || !is_answer {
            return Err(shape(text));
        }
        let result = match value["error"].take() {
            Value::Null => Ok(value["result"].take()),
            error => Err(error),
        };
        Ok(Self::Response { id, result })
    }

    /// The message as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request { id, method, params } => request(id, method, params),
            Self::Response { id, result: Ok(result) } => {
                format!(r#"{{"id":{id},"result":{result},"error":null}}"#).into_bytes()
            }
            Self::Response { id, result: Err(error) } => {
                format!(r#"{{"id":{id},"result":null,"error":{error}}}"#).into_bytes()
            }
            Self::Notification { method, params } => request(&Value::Null, method, params),
        }
    }
}

/// A request as it is sent; a notification without an identifier.
pub(super) fn request(id: &Value, method: &str, params: impl fmt::Display) -> Vec<u8> {
    format!(r#"{{"id":{id},"method":{},"params":{params}}}"#, json!(method)).into_bytes()
}

fn shape(text: &[u8]) -> MessageError {
    MessageError::Shape(String::from_utf8_lossy(text).chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        for message in [
            Message::Request { id: json!("echo"), method: "echo".into(), params: json!([]) },
            Message::Response { id: json!(3), result: Ok(json!([{ "count": 1 }])) },
            Message::Response { id: json!(3), result: Err(json!("canceled")) },
            Message::Notification { method: "update".into(), params: json!(["m", {}]) },
        ] {
            assert_eq!(Message::parse(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn other_objects_are_refused() {
        for text in ["{}", r#"{"id":1}"#, r#"{"id":null,"result":[]}"#, r#"{"method":3,"id":1}"#, "{"] {
            assert!(Message::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(\\PC|[{}\\[\\]\",:]|\"id\"|\"method\"|\"result\"|null){0,30}") {
            let _ = Message::parse(text.as_bytes());
        }
    }
}
