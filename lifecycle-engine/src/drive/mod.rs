//! Drives decisions: a loop on tokio that gathers what happened, commits what was decided, and carries effects to the
//! plugins of hosts.

mod builder;
mod clock;
mod controller;
mod feed;
mod host;
mod logs;
mod probe;
mod run;
mod save;
mod secrecy;

pub use builder::Builder;
pub use clock::{Clock, SystemClock};
pub use controller::{Controller, LabSnapshot, NodeHandle};
pub use feed::{FeedItem, Subscription};
pub use host::{Host, LocalHost};
pub use run::Status;
pub use save::SavedConfig;
