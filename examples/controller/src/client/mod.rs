//! The client of a controller's API, over its unix socket.

mod console;
mod feed;
mod mirror;
mod request;

use std::io;
use std::path::{Path, PathBuf};

use futures_util::Stream;
use hyper::Method;
use lifecycle_core::name::LabName;
use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::topology::Topology;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::wire::{
    About, Accepted, Applied, AuditRow, BulkOutcome, DesiredState, ExecCommand, ExecResult, Lab, LabSnapshot, List,
    LogLine, SaveOutcome, Saved, SelfCheck, WantedState,
};
use crate::cli::target::Target;
use crate::failure::{Exit, Failure, Result};

pub use console::{ConsoleSocket, Shown};
pub use feed::{Feed, FeedItem, Position};
pub use mirror::{Change, LabMirror, follow};
use request::percent;

/// A controller that can be reached.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Finds the controller at a socket; nothing when none listens there.
    ///
    /// # Errors
    /// When the socket is there but not for this user.
    pub async fn find(socket: &Path) -> Result<Option<Self>> {
        match tokio::net::UnixStream::connect(socket).await {
            Ok(_) => Ok(Some(Self { socket: socket.to_owned() })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Failure::new(
                Exit::Unreachable,
                format!("the controller at {} cannot be reached: {error}", socket.display()),
            )),
        }
    }

    /// The controller at a socket.
    ///
    /// # Errors
    /// [`Exit::Unreachable`] when there is none, with what to do.
    pub async fn connect(socket: &Path, state: &Path) -> Result<Self> {
        Self::find(socket).await?.ok_or_else(|| {
            let message = format!(
                "no controller is running for the state directory {}; start one with `lifecycle up FILE` or \
                 `lifecycle serve`",
                state.display()
            );
            Failure::new(Exit::Unreachable, message)
        })
    }

    /// Which controller it is.
    ///
    /// # Errors
    /// As every request: what the controller answered, or that it cannot be reached.
    pub async fn about(&self) -> Result<About> {
        self.get("/api/v1").await
    }

    /// All labs.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn labs(&self) -> Result<Vec<Lab>> {
        self.list("/api/v1/labs").await
    }

    /// A lab with all that is in it.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn lab(&self, lab: &LabName) -> Result<LabSnapshot> {
        self.get(&format!("/api/v1/labs/{lab}")).await
    }

    /// A lab with all that is in it; nothing when it does not exist.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn find_lab(&self, lab: &LabName) -> Result<Option<LabSnapshot>> {
        match self.lab(lab).await {
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// The topology of a lab.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn topology(&self, lab: &LabName) -> Result<Topology> {
        self.get(&format!("/api/v1/labs/{lab}/topology")).await
    }

    /// The kinds of nodes that lab files can name.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn kinds(&self) -> Result<Vec<KindData>> {
        self.list("/api/v1/vendors").await
    }

    /// Makes a lab as a topology says, or only tells what that would change.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn apply(&self, topology: &Topology, dry_run: bool) -> Result<Applied> {
        let query = if dry_run { "?dry_run=true" } else { "" };
        self.send(Method::PUT, &format!("/api/v1/labs/{}{query}", topology.name), Some(topology)).await
    }

    /// Removes a lab.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn destroy(&self, lab: &LabName) -> Result<Accepted> {
        self.send(Method::DELETE, &format!("/api/v1/labs/{lab}"), None::<&()>).await
    }

    /// Says what is wanted of a node.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn desire(&self, target: &Target, desired: DesiredState) -> Result<Accepted> {
        self.send(Method::PUT, &format!("{}/desired-state", path(target)), Some(&desired)).await
    }

    /// Says what is wanted of every node of a lab.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn desire_all(&self, lab: &LabName, wanted: WantedState) -> Result<BulkOutcome> {
        self.send(Method::PUT, &format!("/api/v1/labs/{lab}/nodes/desired-state"), Some(&wanted)).await
    }

    /// Restarts a node.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn restart(&self, target: &Target) -> Result<Accepted> {
        self.send(Method::POST, &format!("{}/restart", path(target)), None::<&()>).await
    }

    /// Runs a command in a node to its end.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn exec(&self, target: &Target, command: &ExecCommand) -> Result<ExecResult> {
        self.send(Method::POST, &format!("{}/exec", path(target)), Some(command)).await
    }

    /// The configuration of a running node.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn save(&self, target: &Target) -> Result<Saved> {
        self.send(Method::POST, &format!("{}/save", path(target)), None::<&()>).await
    }

    /// The configurations of all nodes of a lab.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn save_all(&self, lab: &LabName) -> Result<Vec<SaveOutcome>> {
        let saved: List<SaveOutcome> =
            self.send(Method::POST, &format!("/api/v1/labs/{lab}/save"), None::<&()>).await?;
        Ok(saved.items)
    }

    /// What a node prints.
    ///
    /// # Errors
    /// As [`about`](Self::about); later ones come with the lines.
    pub async fn logs(
        &self,
        target: &Target,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<LogLine>> + use<>> {
        let tail = tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
        let answer = self.request(Method::GET, &format!("{}/logs?follow={follow}{tail}", path(target)), None).await?;
        Ok(request::lines(answer))
    }

    /// What changed about a node, newest first.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn history(&self, target: &Target) -> Result<Vec<AuditRow>> {
        self.list(&format!("{}/history", path(target))).await
    }

    /// Checks the controller's promises.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn selfcheck(&self) -> Result<SelfCheck> {
        self.get("/api/v1/selfcheck").await
    }

    /// Opens a console of a node, in a terminal of some size; `argv` runs in a new one.
    ///
    /// # Errors
    /// As [`about`](Self::about).
    pub async fn console(&self, target: &Target, argv: &[String], columns: u16, rows: u16) -> Result<ConsoleSocket> {
        let argv = match serde_json::to_string(argv) {
            Ok(json) if !argv.is_empty() => format!("&argv={}", percent(&json)),
            _ => String::new(),
        };
        let path = format!("{}/console?columns={columns}&rows={rows}{argv}", path(target));
        ConsoleSocket::open(&self.socket, &path).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, None::<&()>).await
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        Ok(self.get::<List<T>>(path).await?.items)
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Failure::plain(format!("the request cannot be written: {error}")))?;
        let answer = self.request(method, path, body).await?;
        let text = request::whole(answer).await?;
        serde_json::from_slice(&text).map_err(|error| {
            Failure::plain(format!("the controller's answer is not understood, is it of another version? {error}"))
        })
    }
}

/// Whether the error means that nobody listens.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn path(target: &Target) -> String {
    format!("/api/v1/labs/{}/nodes/{}", target.lab, target.node)
}
