//! Errors that no retry can mend: no attempt is counted, nothing is retried blindly, and the node is looked at again
//! when that changes which stands in its way.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::name::HostName;

/// What stands in a node's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "blocked", rename_all = "snake_case")]
pub enum Blocked {
    /// The host that its user chose cannot be reached.
    #[error("host {host} is offline, and the node must run there")]
    HostOffline {
        /// The host.
        host: HostName,
    },
    /// The host that its user chose, or every host, is full.
    #[error("{message}")]
    HostFull {
        /// What is missing where, with numbers.
        message: String,
    },
    /// Its image is not there and cannot or may not be fetched.
    #[error("{message}")]
    Image {
        /// Which, and how to get it.
        message: String,
    },
    /// Something that is not ours stands where it should.
    #[error("{message}")]
    Foreign {
        /// What.
        message: String,
    },
    /// Its user asks for something that cannot be done on this machine.
    #[error("{message}")]
    Impossible {
        /// What, and what to change.
        message: String,
    },
}

/// A change of the world that may clear the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray)]
pub enum WorldChange {
    /// A user acted on the node.
    UserAction,
    /// A host came online.
    HostOnline,
    /// A host has more room.
    Capacity,
    /// Images were added.
    Images,
    /// The objects of a host were listed anew.
    Objects,
}

impl Blocked {
    /// What a failed operation is blocked by, if no retry can help.
    pub fn by(error: &Error) -> Option<Self> {
        let message = error.chain();
        match error.kind() {
            ErrorKind::ImageUnavailable => Some(Self::Image { message }),
            ErrorKind::Foreign => Some(Self::Foreign { message }),
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
                Some(Self::Impossible { message })
            }
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unreachable
            | ErrorKind::Timeout
            | ErrorKind::Interrupted
            | ErrorKind::Exhausted
            | ErrorKind::Fenced
            | ErrorKind::Corrupt
            | ErrorKind::Failed => None,
        }
    }

    /// Whether a change of the world may have cleared the way.
    pub const fn is_cleared_by(&self, change: WorldChange) -> bool {
        matches!(
            (self, change),
            (_, WorldChange::UserAction)
                | (Self::HostOffline { .. }, WorldChange::HostOnline)
                | (Self::HostFull { .. }, WorldChange::Capacity | WorldChange::HostOnline)
                | (Self::Image { .. }, WorldChange::Images)
                | (Self::Foreign { .. }, WorldChange::Objects)
        )
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn what_may_pass_by_itself_does_not_block() {
        for &kind in ErrorKind::VARIANTS {
            let blocked = Blocked::by(&Error::new(kind, "create node", "no"));
            assert!(blocked.is_none() || !kind.may_pass(), "{kind}");
        }
    }

    #[test]
    fn a_user_always_gets_another_try() {
        let full = Blocked::HostFull { message: String::new() };
        let foreign = Blocked::Foreign { message: String::new() };
        for blocked in [&full, &foreign] {
            assert!(blocked.is_cleared_by(WorldChange::UserAction));
        }
        let clears = |blocked: &Blocked| WorldChange::VARIANTS.iter().filter(|c| blocked.is_cleared_by(**c)).count();
        assert_eq!(clears(&full), 3);
        assert_eq!(clears(&foreign), 2);
    }
}
