//! The connection to the daemon: where it listens, which version of its interface it speaks, how long it may take.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use lifecycle_core::ErrorKind;

use crate::failure::{Failure, late};
use crate::settings::Settings;

/// A client that connects, and agrees with the daemon on a version, at its first call, and again after a connection broke:
/// then another daemon may listen.
pub(crate) struct Client {
    endpoint: String,
    settings: Settings,
    /// Held for no longer than it takes to copy a handle.
    agreed: Mutex<Option<Docker>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the daemon at the settings' endpoint, or else at this one. It connects to nothing yet.
    pub(crate) fn new(settings: Settings, default: &str) -> Result<Self, Failure> {
        let endpoint = settings.endpoint.clone().unwrap_or_else(|| default.to_owned());
        let known = ["unix://", "tcp://", "http://"].iter().any(|scheme| endpoint.starts_with(scheme));
        if !known && !endpoint.starts_with('/') {
            let text = format!("`endpoint` is `{endpoint}`; expected unix:///path or tcp://host:port");
            return Err(Failure::new(ErrorKind::InvalidInput, text));
        }
        if settings.tls.is_some() && (!endpoint.starts_with("tcp://") || cfg!(not(feature = "tls"))) {
            let text = "`tls` is for an endpoint tcp://host:port, in a program built with the feature `docker-tls`";
            return Err(Failure::new(ErrorKind::InvalidInput, text));
        }
        Ok(Self { endpoint, settings, agreed: Mutex::new(None) })
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Why nobody can be listening, as far as a look at the file system tells.
    pub(crate) fn absent(&self) -> Option<String> {
        let path = self.endpoint.strip_prefix("unix://").unwrap_or(&self.endpoint);
        (path.starts_with('/') && !Path::new(path).exists()).then(|| format!("there is no socket {path}"))
    }

    fn connect(&self) -> Result<Docker, Failure> {
        // Ours are the deadlines that count, per call; this one is only never to be shorter.
        let longest = 24 * 3600;
        let endpoint = self.endpoint.as_str();
        if endpoint.starts_with("unix://") || endpoint.starts_with('/') {
            return Ok(Docker::connect_with_unix(endpoint, longest, API_DEFAULT_VERSION)?);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.settings.tls {
            let files = (&tls.key, &tls.cert, &tls.ca);
            return Ok(Docker::connect_with_ssl(endpoint, files.0, files.1, files.2, longest, API_DEFAULT_VERSION)?);
        }
        Ok(Docker::connect_with_http(endpoint, longest, API_DEFAULT_VERSION)?)
    }

    /// The daemon, once a version was agreed on.
    pub(crate) async fn docker(&self) -> Result<Docker, Failure> {
        let known = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        let negotiation = async { Ok(self.connect()?.negotiate_version().await?) };
        let docker =
            tokio::time::timeout(self.settings.deadline(), Box::pin(negotiation)).await.unwrap_or_else(|_| Err(late()));
        let docker = docker.map_err(Failure::of_reading)?;
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(docker.clone());
        Ok(docker)
    }

    /// Makes a call that may change something. It has the settings' time, and `more` where it waits for something itself.
    pub(crate) async fn act<T, C>(&self, more: Duration, call: C) -> Result<T, Failure>
    where
        C: AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>,
    {
        let docker = self.docker().await?;
        let limit = self.settings.deadline().saturating_add(more);
        // In a box: the futures of the client library are large, and there are many calls in one operation.
        let answer = tokio::time::timeout(limit, Box::pin(call(docker))).await.unwrap_or_else(|_| {
            // What a client says when it gave up by itself.
            Err(bollard::errors::Error::RequestTimeoutError)
        });
        answer.map_err(Failure::from).inspect_err(|failure| {
            if failure.is_of_connection() {
                *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        })
    }

    /// Makes a call that changes nothing.
    pub(crate) async fn ask<T, C>(&self, call: C) -> Result<T, Failure>
    where
        C: AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>,
    {
        self.act(Duration::ZERO, call).await.map_err(Failure::of_reading)
    }
}

/// Nothing, where there is no such thing.
pub(crate) fn optional<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Success, where it was so already.
pub(crate) fn already(answer: Result<(), Failure>) -> Result<(), Failure> {
    match answer {
        Err(failure) if failure.status() == Some(304) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_before_anything_is_connected() {
        let client = |endpoint: &str| {
            Client::new(Settings { endpoint: Some(endpoint.to_owned()), ..Settings::default() }, "unix:///default")
        };
        for good in ["unix:///run/docker.sock", "/run/docker.sock", "tcp://127.0.0.1:2375"] {
            assert!(client(good).is_ok(), "{good}");
        }
        for bad in ["docker.sock", "ssh://host", ""] {
            assert_eq!(client(bad).unwrap_err().kind, ErrorKind::InvalidInput, "{bad}");
        }
        assert!(client("unix:///nonexistent/docker.sock").unwrap().absent().is_some());
        assert!(client("tcp://127.0.0.1:1").unwrap().absent().is_none());
    }
}
