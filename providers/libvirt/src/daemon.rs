//! The connection to libvirt's daemon, which one thread uses and makes again after it broke.

use std::sync::OnceLock;
use std::time::Duration;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error as Cause;

use crate::failure::{Failure, Outcome, optional};

/// Pings that a daemon may leave unanswered before the connection is given up.
const PINGS: u32 = 3;

/// A connection that is opened with its first call, and again after it broke.
pub(crate) struct Daemon {
    uri: String,
    /// Between two pings, so that a thread which waits for a daemon that hangs is free again some time.
    ping: Duration,
    connection: Option<Connect>,
}

impl Daemon {
    pub(crate) fn new(uri: &str, deadline: Duration) -> Self {
        Self { uri: uri.to_owned(), ping: (deadline / PINGS).max(Duration::from_secs(1)), connection: None }
    }

    /// The connection.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(crate) fn connection(&mut self) -> Outcome<&Connect> {
        listen();
        let usable = self.connection.take().filter(|connection| connection.is_alive().unwrap_or(false));
        let connection = match usable {
            Some(connection) => connection,
            None => {
                let connection = Connect::open(Some(&self.uri)).map_err(Failure::unreachable)?;
                let interval = i32::try_from(self.ping.as_secs()).unwrap_or(i32::MAX);
                connection.set_keep_alive(interval, PINGS).map_err(Failure::unreachable)?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Makes a call. One whose connection breaks may have been carried out.
    pub(crate) fn call<T>(&mut self, call: impl FnOnce(&Connect) -> Result<T, Cause>) -> Outcome<T> {
        let connection = self.connection()?;
        match call(connection) {
            Ok(answer) => Ok(answer),
            Err(cause) if connection.is_alive().unwrap_or(false) => Err(cause.into()),
            Err(cause) => {
                self.connection = None;
                Err(Failure::interrupted(cause))
            }
        }
    }

    /// Makes a call that changes nothing, on a new connection if the daemon was restarted since the last.
    pub(crate) fn ask<T>(&mut self, mut call: impl FnMut(&Connect) -> Result<T, Cause>) -> Outcome<T> {
        match self.call(&mut call) {
            Err(failure) if failure.kind.is_unknown() => self.call(call).map_err(Failure::of_reading),
            answer => answer,
        }
    }

    /// The domain with a uuid.
    pub(crate) fn domain(&mut self, uuid: &str) -> Outcome<Option<Domain>> {
        optional(self.ask(|connection| Domain::lookup_by_uuid_string(connection, uuid)))
    }

    /// The domain with a name.
    pub(crate) fn named(&mut self, name: &str) -> Outcome<Option<Domain>> {
        optional(self.ask(|connection| Domain::lookup_by_name(connection, name)))
    }
}

/// Has a thread, one for the whole process, tend to connections: it answers and counts pings, and hears when a connection
/// ends.
fn listen() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        // Errors are returned; libvirt would print them besides.
        virt::error::clear_error_callback();
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::warn!(%error, "connections to libvirt are not tended to");
            return;
        }
        let tend = || {
            while virt::event::event_run_default_impl().is_ok() {}
            tracing::warn!("connections to libvirt are no longer tended to");
        };
        if let Err(error) = std::thread::Builder::new().name("libvirt-events".into()).spawn(tend) {
            tracing::warn!(%error, "connections to libvirt are not tended to");
        }
    });
}
