//! What goes over the wire. These types are the interface's own: the core's may change without them.
//!
//! Fields that a program does not know are to be ignored, and absent ones have no value. Enumerations of the core (states,
//! reasons, triggers) are words in `snake_case`.

mod bytes;
mod control;
mod event;
mod lab;
mod link;
mod mapping;
mod node;
mod tunnel;

pub use bytes::Bytes;
pub use control::{
    About, Accepted, Applied, BulkOutcome, ConsoleClose, ConsoleControl, DesiredState, ExecCommand, ExecResult, List,
    LogLine, Reconciled, SaveOutcome, Saved, SelfCheck, WantedState,
};
pub use event::{AuditRow, Event, EventBody, Hello, Reset};
pub use lab::{Job, Lab, LabSnapshot};
pub use link::{End, Link};
pub use mapping::{InterfaceMapping, Synced};
pub use node::{Exit, ManagementIps, Node};
pub use tunnel::{Tunnel, TunnelledLink};
