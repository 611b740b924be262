//! Network namespaces that live as long as a descriptor of them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::SocketKind;
use super::open::open_socket;
use crate::sys::user_namespace::network_in_new_user_namespace;

/// A network namespace that nothing but these descriptors keeps alive.
#[derive(Debug)]
pub struct FreshNamespace {
    /// The namespace.
    pub ns: OwnedFd,
    /// A route netlink socket inside it.
    pub route: OwnedFd,
    /// Whether it stands in a user namespace of its own, because the process may make none outside.
    pub in_user_namespace: bool,
}

impl FreshNamespace {
    /// Makes one, on a short-lived thread; in a new user namespace when the process may not make one otherwise.
    ///
    /// # Errors
    /// When neither is allowed, or namespaces have run out.
    pub fn new() -> io::Result<Self> {
        match Self::direct() {
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                let (ns, route) = network_in_new_user_namespace()?;
                Ok(Self { ns, route, in_user_namespace: true })
            }
            result => result,
        }
    }

    fn direct() -> io::Result<Self> {
        let make = || -> io::Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let ns = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
            Ok(Self { ns, route: open_socket(SocketKind::Route)?, in_user_namespace: false })
        };
        let thread = std::thread::Builder::new().name("namespace".into()).spawn(make)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
