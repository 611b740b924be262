//! The taps that network backends make for machines, seen from the namespace in which they do.

use std::fs::File;
use std::path::Path;

use lifecycle_core::ErrorKind;
use lifecycle_core::id::{LinkId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::text_hash;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{RouteSocket, Which};

use crate::failure::{Failure, Outcome};
use crate::mark::Owner;
use crate::settings::Settings;

/// Flags of a tap: frames without a header of their own, but with one for what network cards do in hardware.
pub(crate) const FLAGS: u16 = 0x1000 | 0x4000;

/// The name of the tap that an interface of a node attaches to. It is the same whichever link ends there.
pub(crate) fn name(owner: &Owner, node: NodeId, ifname: &IfName) -> Outcome<IfName> {
    let hash = text_hash(&format!("{} {} {node} {ifname}", owner.controller, owner.host));
    // Two letters and twelve characters; names of taps that belong to a link by name have one more.
    IfName::new(format!("lt{}", LinkId::from_u64(hash))).map_err(|error| Failure::invalid(error.to_string()))
}

/// What is known of a tap that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    /// A machine holds its other end.
    pub held: bool,
    /// The kernel passes on what comes out of it, and no program, such as a switch in user space, which would not do what
    /// the machine left to do.
    pub in_kernel: bool,
}

/// Looks at taps.
pub(crate) struct Taps(RouteSocket);

impl Taps {
    pub(crate) fn open(settings: &Settings) -> Outcome<Self> {
        let path = settings.namespace.as_deref().unwrap_or_else(|| Path::new("/proc/self/ns/net"));
        let file = File::open(path).map_err(|error| Failure::of_file(error, path.display()))?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorKind::Failed, format!("interfaces in {} cannot be looked at: {error}", path.display()))
        };
        let sockets = NamespaceAccess::new()
            .open_inside(file.into(), None, &[Want::Socket(SocketKind::Route)])
            .map_err(|error| failed(&error))?;
        let socket = sockets.into_iter().next().ok_or_else(|| failed(&"no socket"))?;
        Ok(Self(RouteSocket::new(socket).map_err(|error| failed(&error))?))
    }

    /// Looks at a tap; none when it is not there.
    pub(crate) fn look(&mut self, name: &IfName) -> Outcome<Option<Tap>> {
        let link = self
            .0
            .link(Which::Name(name))
            .map_err(|error| Failure::new(ErrorKind::Failed, format!("the tap {name} cannot be looked at: {error}")))?;
        // One that is not set up does not tell whether it is held.
        Ok(link.map(|link| Tap { held: link.carrier || !link.admin_up, in_kernel: link.master.is_some() }))
    }
}
