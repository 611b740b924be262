//! What network backends on this machine share: failures, marks of interfaces, open namespaces, news, work on a thread
//! of its own.
//!
//! A backend has one worker, which owns [`Places`] and does all blocking work on one thread ([`Hand`]); what it makes
//! bears the marks of [`label`]; what others change arrives as [`News`].

pub mod bridge;
pub mod doomed;
mod ears;
mod ends;
mod failure;
mod hand;
pub mod label;
mod news;
mod park;
mod place;
mod reaper;
pub mod seen;
pub mod shaping;
mod tap;
mod test_frame;
mod ticket;
mod underlay;

pub use ends::{is_finished, note_own_changes, refuse, report, report_plugged};
pub use failure::{Failure, Outcome};
pub use hand::{Hand, Note};
pub use news::{EndKey, News, NewsStream};
pub use park::{Parkable, port_behind};
pub use place::{Place, Places, Site, are_peers};
pub use reaper::{Doomed, Reaper};
pub use tap::TapRequest;
pub use test_frame::TestFrames;
pub use ticket::{Ticket, Wait, ticket};
pub use underlay::{UnderlayChoice, lower_of, refuse_other_tunnel, refuse_tunnel, underlay, way_of};
