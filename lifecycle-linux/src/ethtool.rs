//! What an interface leaves to its other side: checksums and segmentation.
//!
//! A veth leaves both to whoever is behind the peer. A switch in user space is not up to that: pings of any size pass and
//! no TCP does, until the node's end does its own work.

use std::io;
use std::os::fd::AsFd;

use lifecycle_core::name::IfName;
use nix::errno::Errno;

use crate::sys::interface::ethtool_value;

const GET_RX_CHECKSUM: u32 = 0x14;
const SET_RX_CHECKSUM: u32 = 0x15;
const GET_TX_CHECKSUM: u32 = 0x16;
const SET_TX_CHECKSUM: u32 = 0x17;
const GET_TSO: u32 = 0x1e;
const SET_TSO: u32 = 0x1f;
const GET_GSO: u32 = 0x23;
const SET_GSO: u32 = 0x24;

/// Which work an interface leaves to its other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Checking received checksums.
    pub rx_checksum: bool,
    /// Filling in checksums to send.
    pub tx_checksum: bool,
    /// Cutting TCP data into segments.
    pub tso: bool,
    /// Cutting other data into segments.
    pub gso: bool,
}

impl Offloads {
    /// All of it, as a new veth does.
    pub const ALL: Self = Self { rx_checksum: true, tx_checksum: true, tso: true, gso: true };

    /// None of it.
    pub const NONE: Self = Self { rx_checksum: false, tx_checksum: false, tso: false, gso: false };
}

/// Reads the offloads of the interface `name` in the namespace of `socket`, which may be of any kind.
///
/// # Errors
/// When the interface does not exist.
pub fn offloads(socket: impl AsFd, name: &IfName) -> io::Result<Offloads> {
    let socket = socket.as_fd();
    let get = |command| ethtool_value(socket, name, command, 0).map(|value| value != 0);
    Ok(Offloads {
        rx_checksum: get(GET_RX_CHECKSUM)?,
        tx_checksum: get(GET_TX_CHECKSUM)?,
        tso: get(GET_TSO)?,
        gso: get(GET_GSO)?,
    })
}

/// Sets the offloads of the interface `name` in the namespace of `socket`, which may be of any kind.
///
/// # Errors
/// When the interface does not exist or the process has no right to change it. What an interface does not have at all
/// can be set to off.
pub fn set_offloads(socket: impl AsFd, name: &IfName, wanted: Offloads) -> io::Result<()> {
    let socket = socket.as_fd();
    // Segmentation goes first: it needs checksums, so the kernel would turn it off by itself without saying so.
    let settings = [
        (SET_TSO, wanted.tso),
        (SET_GSO, wanted.gso),
        (SET_TX_CHECKSUM, wanted.tx_checksum),
        (SET_RX_CHECKSUM, wanted.rx_checksum),
    ];
    for (command, on) in settings {
        match ethtool_value(socket, name, command, u32::from(on)) {
            Err(error) if !on && error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
            result => drop(result?),
        }
    }
    Ok(())
}
