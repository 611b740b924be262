//! The bridge, and the host's side of the nodes' interfaces.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::id::NodeId;
use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::{LINK_GROUP, MANAGEMENT_GROUP, OurName, text_hash};
use lifecycle_core::topology::ManagementNetwork;
use nix::errno::Errno;

use super::{address, bridge_of, mac, mac_of};
use crate::netlink::{
    Change, Link, NewLink, RouteSocket, Veth, Which, add_address, change_link, create_bridge, create_veth, delete_link,
};
use crate::tap::NewTap;
use crate::wiring::{Failure, Outcome};

/// Time that the kernel is given to clear a namespace away.
const CLEARING: Duration = Duration::from_secs(2);

/// The namespace in which the bridge is. All calls block.
#[derive(Debug)]
pub struct Hub(RouteSocket);

impl Hub {
    /// The hub in which a route netlink socket was opened.
    pub fn new(route: RouteSocket) -> Self {
        Self(route)
    }

    /// Gives a node a pair whose one end is a port of the network's bridge and whose other end is called `name` in the
    /// node's namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or something that is not ours stands in the way.
    pub fn pair(
        &mut self,
        network: &ManagementNetwork,
        node: NodeId,
        namespace: BorrowedFd<'_>,
        name: &IfName,
    ) -> Outcome<()> {
        let bridge = self.bridge(network)?;
        // Its other end is in an earlier instance's namespace, which the kernel may not have cleared away yet.
        self.remove_port(node)?;
        let port = OurName::ManagementPort { node }.ifname();
        let ours = NewLink {
            group: MANAGEMENT_GROUP,
            master: Some(bridge),
            mtu: network.mtu,
            up: true,
            ..NewLink::new(&port)
        };
        let theirs = NewLink {
            mac: Some(mac_of(node)),
            group: MANAGEMENT_GROUP,
            mtu: network.mtu,
            ns: Some(namespace),
            ..NewLink::new(name)
        };
        Ok(self.0.run(create_veth(&Veth { a: ours, b: theirs }))?)
    }

    /// Gives a node a tap that is a port of the network's bridge. One that is there stays.
    ///
    /// `device` is a fresh descriptor of `/dev/net/tun` of the hub's namespace; `owner` may open the tap, with `flags`.
    ///
    /// # Errors
    /// When the kernel refuses, or something that is not ours stands in the way.
    pub fn tap(
        &mut self,
        network: &ManagementNetwork,
        node: NodeId,
        device: OwnedFd,
        (owner, flags): (u32, u16),
    ) -> Outcome<IfName> {
        let bridge = self.bridge(network)?;
        let name = OurName::ManagementPort { node }.ifname();
        let change = Change {
            group: Some(MANAGEMENT_GROUP),
            mtu: network.mtu,
            master: Some(bridge),
            up: Some(true),
            ..Change::default()
        };
        let found = self.find(&name)?;
        let is_tap = found.as_ref().is_some_and(|link| link.kind.as_deref() == Some("tun"));
        if let Some(left) = found {
            check_ours(&left)?;
            if !is_tap {
                self.remove_port(node)?;
            }
        }
        let fresh = match is_tap {
            true => None,
            false => Some(
                NewTap::make(device, &name, owner, flags)
                    .map_err(|error| Failure::from(error).saying(format!("the tap {name} cannot be made")))?,
            ),
        };
        self.0.run(change_link(Which::Name(&name), &change))?;
        fresh.map_or(Ok(()), NewTap::keep)?;
        Ok(name)
    }

    /// Removes the host's side of a node's interface, if it is there and ours.
    ///
    /// # Errors
    /// `Foreign` for an interface of its name that is not ours; when the kernel refuses.
    pub fn remove_port(&mut self, node: NodeId) -> Outcome<()> {
        let name = OurName::ManagementPort { node }.ifname();
        let Some(left) = self.find(&name)? else { return Ok(()) };
        check_ours(&left)?;
        match self.0.run(delete_link(Which::Index(left.index))) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The index of the network's bridge, which is made if it is missing.
    fn bridge(&mut self, network: &ManagementNetwork) -> Outcome<u32> {
        let name = bridge_of(network);
        if let Some(found) = self.find(&name)? {
            check_ours(&found).map_err(|failure| {
                // A provider of containers calls its bridge the same, and hands out the same addresses.
                let advice = "if another provider made it, nodes of both cannot be on this network: give those of one \
                              of them `network-mode: none`";
                let text = format!("{failure}; {advice}");
                failure.saying(text)
            })?;
            return Ok(found.index);
        }
        let nets = address::bridge_addresses(network);
        for address in self.0.addresses()? {
            if let Some(net) =
                nets.iter().find(|net| net.contains(&address.net.network()) || address.net.contains(&net.addr()))
            {
                let text = format!(
                    "the management network {} overlaps with {} on another interface; choose another subnet",
                    net.trunc(),
                    address.net
                );
                return Err(Failure::new(ErrorKind::Conflict, text));
            }
        }
        // Marked from birth by its group. With an address of its own it does not take on those of ports that come and go.
        let mac: Option<Mac> = Some(mac(text_hash(name.as_str())));
        let bridge = NewLink { mac, group: MANAGEMENT_GROUP, mtu: network.mtu, up: true, ..NewLink::new(&name) };
        match self.0.run(create_bridge(&bridge)) {
            Ok(()) => {}
            // Another node's creation was faster.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let vanished = || Failure::new(ErrorKind::Failed, format!("interface {name} vanished as soon as it was made"));
        let made = self.find(&name)?.ok_or_else(vanished)?;
        check_ours(&made)?;
        let requests: Vec<_> = nets.iter().map(|net| add_address(made.index, *net)).collect();
        self.0.run_all(&requests).into_iter().collect::<Result<(), _>>()?;
        Ok(made.index)
    }

    /// Removes a bridge of ours that no node uses any more. `gone` are nodes that were destroyed, whose ports the kernel
    /// may not have cleared away yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_bridge(&mut self, name: &IfName, gone: &BTreeSet<NodeId>) -> Outcome<()> {
        let Some(bridge) = self.find(name)? else { return Ok(()) };
        if bridge.group != MANAGEMENT_GROUP {
            return Ok(());
        }
        // Another controller's nodes, or something of the user's, may be on it.
        let node_at = |port: &Link| match OurName::parse(&port.name) {
            Some(OurName::ManagementPort { node }) => Some(node),
            _ => None,
        };
        let is_gone = |port: &Link| node_at(port).is_some_and(|node| gone.contains(&node));
        let began = Instant::now();
        loop {
            let links = self.0.links()?;
            let mut ports = links.iter().filter(|link| link.master == Some(bridge.index) && !is_gone(link));
            let Some(port) = ports.next() else { break };
            // The end of a link goes with its node's namespace, which the kernel clears away in its own time, and so does
            // the port of a node of another provider.
            let may_go = |port: &Link| port.group == LINK_GROUP || node_at(port).is_some();
            if !may_go(port) || !ports.all(may_go) || began.elapsed() > CLEARING {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        match self.0.run(delete_link(Which::Index(bridge.index))) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The index of a bridge, if it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn index_of(&mut self, bridge: &IfName) -> Outcome<Option<u32>> {
        Ok(self.find(bridge)?.map(|link| link.index))
    }

    fn find(&mut self, name: &IfName) -> Outcome<Option<Link>> {
        Ok(self.0.link(Which::Name(name))?)
    }
}

fn check_ours(link: &Link) -> Outcome<()> {
    if link.group == MANAGEMENT_GROUP {
        return Ok(());
    }
    let text = format!("interface {} exists and is not ours; remove it, or name another bridge", link.name);
    Err(Failure::new(ErrorKind::Foreign, text))
}
