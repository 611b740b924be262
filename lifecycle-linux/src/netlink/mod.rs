//! A small synchronous client for route netlink, over any socket that [`crate::namespace`] opened.
//!
//! The kernel carries out a route-netlink request while it is being sent and has the answer ready when the send
//! returns. There is nothing to wait for, so that a thread which takes turns on many sockets is as fast as can be: a
//! [`RouteSocket`] sends many [`Request`]s in one system call and matches the answers by their sequence numbers.

mod address;
mod bridge;
mod create;
pub(crate) mod decode;
mod error;
mod link;
mod nsid;
mod qdisc;
pub(crate) mod queue;
mod request;
mod route;
mod shape;
mod socket;
mod vxlan;

pub use address::{Address, add_address, delete_address};
pub use bridge::{BRIDGE_PORT_FORWARD_ALL, PortChange, set_port};
pub(crate) use create::create_typed;
pub use create::{NewLink, Veth, create_bridge, create_dummy, create_ifb, create_macvlan, create_veth};
pub use error::NetlinkError;
pub use link::{Change, Link, Port, Which, change_link, delete_group, delete_link, get_link};
pub(crate) use qdisc::try_qdisc;
pub use request::Request;
pub use route::{Route, add_default_route};
pub use shape::{shape, unshape};
pub use socket::RouteSocket;
pub use vxlan::{Vxlan, create_vxlan, redirect_vxlan};
