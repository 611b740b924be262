//! The other end of a tap, as a virtual machine has it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use lifecycle_core::name::IfName;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use crate::namespace::{NamespaceAccess, Want};
use crate::sys::tap::set_interface;

/// Between two questions to whom nobody has answered yet.
const AGAIN: Duration = Duration::from_millis(50);
/// Address of the machine's network card.
const MAC: [u8; 6] = [0x06, 0xfe, 0, 0, 0, 1];
/// What a question for an address begins with: to all, from the machine, ARP for Ethernet and IPv4.
const ARP: [u8; 8] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4];
const ANSWER: u8 = 2;

/// A tap that is open until this is dropped.
#[derive(Debug)]
pub struct OpenTap(File);

impl OpenTap {
    /// Opens a tap that is there, in the network namespace with this file.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(namespace: &Path, name: &IfName) -> Self {
        let open = || -> std::io::Result<File> {
            let here = File::open(namespace)?.into();
            let opened = NamespaceAccess::new().open_inside(here, None, &[Want::Tun]);
            let opened = opened.map_err(|error| std::io::Error::other(format!("{error:?}")))?;
            let device = opened.into_iter().next().map(File::from).ok_or(std::io::ErrorKind::NotFound)?;
            set_interface(&device, name, (libc::IFF_TAP | libc::IFF_NO_PI) as u16)?;
            fcntl(&device, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok(device)
        };
        Self(open().unwrap_or_else(|error| panic!("the tap {name} cannot be opened: {error}")))
    }

    /// Whether somebody at the far end says that an address is his, who is asked until `patience` is over.
    pub fn is_answered(&self, address: Ipv4Addr, patience: Duration) -> bool {
        let (began, mut asked) = (Instant::now(), None::<Instant>);
        let mut question = [&[0xff; 6], &MAC[..], &ARP, &[0, 1], &MAC, &[0; 4], &[0; 6], &address.octets()].concat();
        question.resize(60, 0);
        let mut frame = [0; 2048];
        while began.elapsed() < patience {
            if asked.is_none_or(|at| at.elapsed() >= AGAIN) {
                // One that is down takes nothing.
                let _ = (&self.0).write(&question);
                asked = Some(Instant::now());
            }
            match (&self.0).read(&mut frame) {
                Ok(length) if length >= 42 && frame[12..20] == ARP && frame[21] == ANSWER => {
                    if frame[28..32] == address.octets() {
                        return true;
                    }
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        false
    }
}
