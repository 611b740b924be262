//! What route netlink refuses, in the kernel's own words.

use std::io;

use nix::errno::Errno;

/// Why a request of route netlink failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The kernel refused the request; nothing was changed.
    #[error("cannot {operation}: {}", describe(*errno, message.as_deref()))]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// The error number.
        errno: Errno,
        /// The kernel's explanation (extended acknowledgement), where it gives one.
        message: Option<String>,
    },
    /// The socket failed; whether the request was carried out is not known.
    #[error("cannot {operation}: the netlink socket failed")]
    Socket {
        /// What was asked for.
        operation: &'static str,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot {operation}: the kernel's answer is malformed")]
    Malformed {
        /// What was asked for.
        operation: &'static str,
    },
    /// What was to be listed changed so often meanwhile that no list is whole.
    #[error("cannot {operation}: it changed during each of {tries} attempts")]
    Restless {
        /// What was asked for.
        operation: &'static str,
        /// Attempts made.
        tries: u32,
    },
}

fn describe(errno: Errno, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{message} ({errno})"),
        None => errno.desc().to_owned(),
    }
}

impl NetlinkError {
    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the subject does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENODEV | Errno::ENOENT | Errno::ENXIO | Errno::ESRCH))
    }

    /// Whether something of that name or number exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}
