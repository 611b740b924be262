//! Turning what the database's client meets into the errors that the engine understands.

use lifecycle_core::error::ErrorKind;
use lifecycle_linux::wiring::Failure;

use crate::ovsdb::ClientError;

impl From<ClientError> for Failure {
    fn from(source: ClientError) -> Self {
        let (kind, message) = match &source {
            ClientError::Unreachable { .. } => {
                (ErrorKind::Unreachable, "Open vSwitch cannot be reached; is it running?")
            }
            ClientError::Lost => (ErrorKind::Interrupted, "Open vSwitch went away"),
            ClientError::Late(_) => (ErrorKind::Timeout, "Open vSwitch is silent"),
            // Somebody else changed what the transaction relied on.
            ClientError::Refused(refused) if refused.is_outdated() || refused.is_duplicate() => {
                (ErrorKind::Conflict, "somebody else changed the switch meanwhile")
            }
            ClientError::Refused(_) | ClientError::Misunderstood(_) => (ErrorKind::Failed, "Open vSwitch refused"),
        };
        Self::caused(kind, message, source)
    }
}
