//! Taps: interfaces whose other end is a program, such as a virtual machine.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use lifecycle_core::name::IfName;
use nix::libc;

use crate::sys::tap::{set_interface, set_owner, set_persistent};

/// Why no taps can be made on this machine, if so.
pub fn missing() -> Option<&'static str> {
    let is_there = std::fs::exists("/dev/net/tun").unwrap_or_default();
    (!is_there).then_some("there is no /dev/net/tun; load it with `modprobe tun`")
}

/// A tap that was just made and goes with this, unless it is kept. So it can be marked first: what a program leaves behind
/// that dies in between is nothing.
#[derive(Debug)]
pub struct NewTap(File);

impl NewTap {
    /// Makes a tap of a fresh descriptor of `/dev/net/tun` ([`Want::Tun`](crate::namespace::Want::Tun)), in the namespace
    /// in which that was opened. `owner` may open it. `flags` are those of `TUNSETIFF` besides `IFF_TAP`; the program that
    /// opens it must give the same.
    ///
    /// # Errors
    /// When the process may not make one, or another interface has the name.
    pub fn make(device: OwnedFd, name: &IfName, owner: u32, flags: u16) -> io::Result<Self> {
        let device = File::from(device);
        // One that is there already is not taken.
        set_interface(&device, name, flags | (libc::IFF_TAP | libc::IFF_TUN_EXCL) as u16)?;
        set_owner(&device, owner)?;
        Ok(Self(device))
    }

    /// Lets it stay, for its owner to open.
    ///
    /// # Errors
    /// When the kernel refuses; it goes then.
    pub fn keep(self) -> io::Result<()> {
        set_persistent(&self.0)
    }
}
