//! Errors as RFC 9457 describes them, `application/problem+json`, with a `code` that programs can rely on.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::machine::NodeState;
use lifecycle_core::policy::guard::Refusal;
use lifecycle_core::time::Timestamp;
use lifecycle_engine::CommandError;
use serde::{Deserialize, Serialize};

/// Content type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the code as a URI.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// What kind of failure it is; never changes its meaning.
    pub code: String,
    /// What else is known about it.
    #[serde(flatten)]
    pub more: Box<More>,
}

/// What else is known about a problem; what is absent does not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct More {
    /// The state that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<NodeState>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Everything that is wrong with the request, where it is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Names that would have been found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:lifecycle:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            more: Box::default(),
        }
    }

    /// The same with more about it.
    #[must_use]
    pub fn with(self, more: More) -> Self {
        Self { more: Box::new(more), ..self }
    }

    /// Something does not exist.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no {what} is called `{name}`"))
    }

    /// The same with names that would have been found.
    #[must_use]
    pub fn knowing(mut self, known: Vec<String>) -> Self {
        self.more.known = known;
        self
    }

    /// Several things are wrong with what was sent.
    pub fn invalid(problems: Vec<String>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", problems.join("\n"));
        problem.with(More { problems, ..More::default() })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], serde_json::to_vec(&self).unwrap_or_default()).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = Self::new(StatusCode::CONFLICT, &refusal.code.to_string(), refusal.to_string());
        let Refusal { state, since, advice, .. } = refusal;
        problem.with(More { state: Some(state), since, advice: Some(advice), ..More::default() })
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::NotFound { known, .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", detail).knowing(known)
            }
            CommandError::Refused(refusal) => (*refusal).into(),
            CommandError::InvalidTransition(_) => Self::new(StatusCode::CONFLICT, "invalid_transition", detail),
            CommandError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "conflict", detail),
            CommandError::Invalid { problems } => Self::invalid(problems),
            CommandError::Store { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_failing", detail),
            CommandError::Closing => Self::new(StatusCode::SERVICE_UNAVAILABLE, "closing", detail),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict | ErrorKind::Foreign => StatusCode::CONFLICT,
            ErrorKind::InvalidInput | ErrorKind::ImageUnavailable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            ErrorKind::Unreachable | ErrorKind::Interrupted | ErrorKind::Fenced | ErrorKind::Exhausted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, &error.kind().to_string(), error.chain())
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::policy::guard::{Command, RefusalCode};

    use super::*;

    #[test]
    fn a_refusal_says_state_since_and_advice() {
        let refusal = Refusal {
            code: RefusalCode::NodeTransitional,
            command: Command::Stop { abort: false },
            state: NodeState::Starting,
            since: Some("2026-08-01T12:00:00Z".parse().unwrap()),
            advice: "wait".to_owned(),
        };
        let problem = Problem::from(CommandError::Refused(Box::new(refusal)));
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["status"], 409);
        assert_eq!(json["code"], "node_transitional");
        assert_eq!(json["type"], "urn:lifecycle:problem:node_transitional");
        assert_eq!(json["title"], "Conflict");
        assert_eq!((&json["state"], &json["advice"]), (&"starting".into(), &"wait".into()));
        assert!(json.get("known").is_none());
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }
}
