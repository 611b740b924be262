//! The unix socket that the API is served on: for the user of the controller and for root, for nobody else.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use nix::unistd::{Uid, User};
use tokio::net::{UnixListener, UnixStream};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user's name, for the audit trail.
    pub user: String,
}

impl Peer {
    /// A user by number; the number stands for one without a name.
    pub fn of_uid(uid: u32) -> Self {
        let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        Self { user: found.map_or_else(|| format!("uid {uid}"), |user| user.name) }
    }
}

/// Listens on a unix socket and turns strangers away.
#[derive(Debug)]
pub(super) struct Guarded {
    listener: UnixListener,
    owner: u32,
}

impl Guarded {
    /// Listens at `path`, in the place of a socket that a controller left behind. Whoever calls this holds the state, so
    /// no living controller listens there.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // The directory is the user's alone, so nobody came in between.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, owner: rustix::process::geteuid().as_raw() })
    }
}

/// Whether a user may talk to a controller of `owner`.
fn is_welcome(uid: u32, owner: u32) -> bool {
    uid == owner || uid == 0
}

impl Listener for Guarded {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if is_welcome(peer.uid(), self.owner) => return (stream, Peer::of_uid(peer.uid())),
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "turned a connection of another user away"),
                    Err(error) => tracing::warn!(%error, "turned a connection away, since it is not known whose it is"),
                },
                Err(error) => {
                    // Descriptors may have run out for a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::of_uid(self.owner))
    }
}

impl Connected<IncomingStream<'_, Guarded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guarded>) -> Self {
        stream.remote_addr().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_are_welcome() {
        assert!(is_welcome(1000, 1000) && is_welcome(0, 1000) && is_welcome(0, 0));
        assert!(!is_welcome(1000, 0) && !is_welcome(1001, 1000));
    }
}
