//! What is particular to nodes in namespaces on a management network: where the hub is, and how they are given their `eth0`.
//!
//! The hub is the host's own network namespace for root, so that people reach the nodes from the host; an ordinary
//! user's hub is a namespace of the keeper's, and only nodes reach each other there.
//!
//! Who holds which address is written down with each instance; the [`Book`] is a copy of that, and this provider's part of
//! the host's register.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::NsRef;
use lifecycle_core::id::NodeId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::topology::ManagementNetwork;
use lifecycle_linux::management::{Entry, Hub, INTERFACE, Lease, Locked, net_of};
use lifecycle_linux::namespace::broker::HOME;
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::{Change, NetlinkError, RouteSocket, Which, add_address, change_link};
use lifecycle_linux::wiring;

use crate::failure::{Doing, Failure};
use crate::layout::{Layout, Mark};

/// Who holds which names and addresses among the nodes of this provider, over all labs of the controller.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub entries: BTreeMap<Mark, Entry>,
    /// Nodes that were destroyed, whose ports the kernel may not have cleared away yet.
    pub gone: BTreeSet<NodeId>,
}

impl Book {
    /// The addresses for a new instance, or those that it has already.
    pub(crate) fn lease(&self, register: &Locked, mark: &Mark, request: &CreateNode) -> Result<Option<Lease>, Failure> {
        match self.entries.get(mark) {
            Some(known) => Ok(known.lease.clone()),
            None => Ok(register.lease(self.entries.values(), request)?),
        }
    }

    /// Whether any instance is on the network with this bridge.
    pub(crate) fn uses(&self, bridge: &str) -> bool {
        self.entries.values().filter_map(|entry| entry.lease.as_ref()).any(|lease| lease.bridge == bridge)
    }
}

/// Where the hub and the nodes are reached.
#[derive(Debug)]
pub(crate) struct Wiring<'a> {
    pub access: &'a NamespaceAccess,
    pub layout: &'a Layout,
    /// Whether the hub is the host's own namespace.
    pub direct: bool,
}

impl Wiring<'_> {
    fn hub(&self) -> Result<Hub, Failure> {
        let fd = if self.direct {
            use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).doing("open a socket")?
        } else {
            let broker = self.access.broker(&self.layout.broker_socket()).map_err(wiring::Failure::from)?;
            one(broker.open(HOME, None, &[Want::Socket(SocketKind::Route)]).map_err(wiring::Failure::from)?)?
        };
        Ok(Hub::new(RouteSocket::new(fd).doing("prepare a socket")?))
    }

    /// Gives a node its management interface and addresses. What is there already stays. Blocks.
    pub(crate) fn connect(
        &self,
        network: &ManagementNetwork,
        mark: &Mark,
        lease: &Lease,
        node: &NsRef,
    ) -> Result<(), Failure> {
        let mut fds = self
            .access
            .open_all(node, &[Want::Namespace, Want::Socket(SocketKind::Route)])
            .map_err(wiring::Failure::from)?;
        let mut inside = RouteSocket::new(one(fds.split_off(1))?).doing("prepare a socket")?;
        let ns = one(fds)?;
        let name = interface(INTERFACE)?;
        let index = match find(&mut inside, &name)? {
            Some(index) => index,
            None => {
                self.hub()?.pair(network, mark.node, ns.as_fd(), &name)?;
                let vanished = || Failure::new(ErrorKind::Failed, "eth0 vanished as soon as it was made");
                find(&mut inside, &name)?.ok_or_else(vanished)?
            }
        };
        let up = Change { up: Some(true), ..Change::default() };
        let mut requests = vec![change_link(Which::Index(index), &up)];
        let nets = lease.all().filter_map(|address| net_of(network, address));
        requests.extend(nets.map(|net| add_address(index, net)));
        inside.run_all(&requests).into_iter().collect::<Result<(), NetlinkError>>().map_err(refused)
    }

    /// Removes a bridge of ours that no node uses. Blocks.
    pub(crate) fn remove_bridge(&self, name: &str, gone: &BTreeSet<NodeId>) -> Result<(), Failure> {
        Ok(self.hub()?.remove_bridge(&interface(name)?, gone)?)
    }
}

fn interface(name: &str) -> Result<IfName, Failure> {
    IfName::new(name).map_err(|error| Failure::new(ErrorKind::InvalidInput, error.to_string()))
}

/// The index of an interface, if it is there.
fn find(socket: &mut RouteSocket, name: &IfName) -> Result<Option<u32>, Failure> {
    Ok(socket.link(Which::Name(name)).map_err(refused)?.map(|link| link.index))
}

fn one(mut fds: Vec<OwnedFd>) -> Result<OwnedFd, Failure> {
    fds.pop().ok_or_else(|| Failure::new(ErrorKind::Failed, "no descriptor came back"))
}

fn refused(error: NetlinkError) -> Failure {
    wiring::Failure::from(error).into()
}
