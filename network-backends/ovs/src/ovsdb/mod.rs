//! A client of OVSDB (RFC 7047), the database through which Open vSwitch is configured.
//!
//! What understands the protocol is apart from what does input and output: [`Framer`], [`Message`], [`Operation`],
//! [`read_answer`] and [`Replica`] are plain functions of what they are given, [`Client`] has the thread and the socket.

mod client;
mod endpoint;
mod frame;
mod message;
mod operation;
mod replica;
mod session;
mod value;
mod vigil;

pub use client::{CatchUp, Client, ClientError, Heard};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use frame::{FrameError, Framer};
pub use message::{Message, MessageError};
pub use operation::{Condition, Done, Operation, Refused, read_answer};
pub use replica::{Change, Replica};
pub use value::{Row, Uuid, map, named, set};
