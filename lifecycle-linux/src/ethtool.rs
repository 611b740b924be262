//! What an interface leaves to its other side: checksums and segmentation.
//!
//! A veth leaves both to whoever is behind the peer. A switch in user space is not up to that: pings of any size pass and
//! no TCP does, until the node's end does its own work.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use lifecycle_core::name::IfName;

use crate::sys::ethtool::{active_features, feature_names, set_features};

const RX_CHECKSUM: &[&str] = &["rx-checksum"];
const TX_CHECKSUM: &[&str] =
    &["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp", "tx-checksum-fcoe-crc"];
const TSO: &[&str] = &[
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-tcp-mangleid-segmentation",
];
const GSO: &[&str] = &["tx-generic-segmentation"];

/// Where the features that make up [`Offloads`] are on this kernel, in blocks of 32 bits.
struct Masks {
    rx_checksum: Vec<u32>,
    tx_checksum: Vec<u32>,
    tso: Vec<u32>,
    gso: Vec<u32>,
}

impl Masks {
    fn of(names: &[String]) -> Self {
        let mask = |wanted: &[&str]| {
            let block = |names: &[String]| {
                let bits = names.iter().enumerate().filter(|(_, name)| wanted.contains(&name.as_str()));
                bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
            };
            names.chunks(32).map(block).collect()
        };
        Self { rx_checksum: mask(RX_CHECKSUM), tx_checksum: mask(TX_CHECKSUM), tso: mask(TSO), gso: mask(GSO) }
    }

    /// They are the same for as long as the kernel runs.
    fn get(socket: impl AsFd, name: &IfName) -> io::Result<&'static Self> {
        static MASKS: OnceLock<Masks> = OnceLock::new();
        match MASKS.get() {
            Some(masks) => Ok(masks),
            None => {
                let masks = Self::of(&feature_names(socket, name)?);
                Ok(MASKS.get_or_init(|| masks))
            }
        }
    }
}

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
    let masks = Masks::get(&socket, name)?;
    let active = active_features(&socket, name, masks.gso.len())?;
    let any = |mask: &[u32]| mask.iter().zip(&active).any(|(mask, active)| mask & active != 0);
    Ok(Offloads {
        rx_checksum: any(&masks.rx_checksum),
        tx_checksum: any(&masks.tx_checksum),
        tso: any(&masks.tso),
        gso: any(&masks.gso),
    })
}

/// Sets the offloads of the interface `name` in the namespace of `socket`, which may be of any kind, all at once. What it does
/// not have at all stays off.
///
/// # Errors
/// When the interface does not exist or the process has no right to change it.
pub fn set_offloads(socket: impl AsFd, name: &IfName, wanted: Offloads) -> io::Result<()> {
    let masks = Masks::get(&socket, name)?;
    let each = [
        (&masks.rx_checksum, wanted.rx_checksum),
        (&masks.tx_checksum, wanted.tx_checksum),
        (&masks.tso, wanted.tso),
        (&masks.gso, wanted.gso),
    ];
    let mut blocks = vec![(0, 0); masks.gso.len()];
    for (mask, on) in each {
        for ((meant, set), mask) in blocks.iter_mut().zip(mask) {
            *meant |= mask;
            *set |= if on { *mask } else { 0 };
        }
    }
    set_features(&socket, name, &blocks)
}
