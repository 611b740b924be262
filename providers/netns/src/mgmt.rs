//! The management network: a bridge in the hub, an `eth0` in each node, and names for all of them.
//!
//! The hub is the host's own network namespace for root, so that people reach the nodes from the host; an ordinary
//! user's hub is a namespace of the keeper's, and only nodes reach each other there.
//!
//! Who holds which address is written down with each instance; the [`Book`] is a copy of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{Mac, NsRef};
use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::{CreateNode, ManagementAddresses};
use lifecycle_core::policy::naming::{LINK_GROUP, MAC_PREFIX, MANAGEMENT_GROUP, OurName, text_hash};
use lifecycle_core::topology::{ManagementNetwork, NetworkMode};
use lifecycle_linux::namespace::broker::HOME;
use lifecycle_linux::namespace::{NamespaceAccess, NamespaceError, SocketKind, Want};
use lifecycle_linux::netlink::{
    Change, Link, NetlinkError, NewLink, RouteSocket, Veth, Which, add_address, change_link, create_bridge,
    create_veth, delete_link,
};

use crate::failure::{Doing, Failure};
use crate::layout::{Layout, Mark, absent_is_fine};
use crate::spec::Lease;

/// Name of the management interface in a node.
const INTERFACE: &str = "eth0";

/// Time that the kernel is given to clear a namespace away.
const CLEARING: Duration = Duration::from_secs(2);

/// What is known of an instance by name and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub names: Vec<String>,
    pub lease: Option<Lease>,
}

/// Who holds which names and addresses, over all labs of the controller.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub entries: BTreeMap<Mark, Entry>,
    /// Nodes that were destroyed, whose ports the kernel may not have cleared away yet.
    pub gone: BTreeSet<NodeId>,
}

impl Book {
    /// The addresses for a new instance, or those that it has already.
    pub(crate) fn lease(&self, mark: &Mark, request: &CreateNode) -> Result<Option<Lease>, Failure> {
        if let Some(known) = self.entries.get(mark) {
            return Ok(known.lease.clone());
        }
        let (Some(network), NetworkMode::Own) = (&request.management, &request.spec.network_mode) else {
            return Ok(None);
        };
        for field in ["ipv4-subnet", "ipv6-subnet"] {
            if network.extra.contains_key(field) {
                let text = format!("this provider cannot choose the management network's `{field}`; give a subnet");
                return Err(Failure::new(ErrorKind::Unsupported, text));
            }
        }
        let held: BTreeMap<IpAddr, &str> = self
            .entries
            .values()
            .filter_map(|entry| Some((entry.lease.as_ref()?, entry.names.first()?)))
            .filter(|(lease, _)| lease.network == network.name)
            .flat_map(|(lease, name)| lease.all().map(move |address| (address, name.as_str())))
            .collect();
        let spec = &request.spec;
        let ipv4 = choose(network, network.ipv4, network.ipv4_range, spec.mgmt_ipv4, &held)?;
        let ipv6_subnet = network.ipv6.filter(|_| has_ipv6());
        let ipv6 = choose(network, ipv6_subnet, network.ipv6_range, spec.mgmt_ipv6, &held)?;
        let addresses = ManagementAddresses {
            ipv4: ipv4.and_then(|address| if let IpAddr::V4(address) = address { Some(address) } else { None }),
            ipv6: ipv6.and_then(|address| if let IpAddr::V6(address) = address { Some(address) } else { None }),
        };
        Ok(Some(Lease { network: network.name.clone(), bridge: bridge_of(network).to_string(), addresses }))
    }

    /// Whether any instance is on the network with this bridge.
    pub(crate) fn uses(&self, bridge: &str) -> bool {
        self.entries.values().filter_map(|entry| entry.lease.as_ref()).any(|lease| lease.bridge == bridge)
    }

    /// `/etc/hosts` of a lab's nodes; nothing when the lab has none.
    fn hosts(&self, lab: LabId) -> Option<String> {
        let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        let mut any = false;
        for (_, entry) in self.entries.iter().filter(|(mark, _)| mark.lab == lab) {
            any = true;
            for address in entry.lease.iter().flat_map(Lease::all) {
                text.push_str(&format!("{address} {}\n", entry.names.join(" ")));
            }
        }
        any.then_some(text)
    }

    /// Writes a lab's hosts file, or removes it with the lab's last node. It is one file that all nodes show, and it is
    /// written in place: a node's view of it would not follow a file of another inode.
    pub(crate) fn write_hosts(&self, layout: &Layout, lab: LabId) -> Result<(), Failure> {
        let path = layout.hosts(lab);
        let directory = path.parent().unwrap_or(&path);
        let doing = || format!("write {}", path.display());
        match self.hosts(lab) {
            None => absent_is_fine(crate::remove::tree(directory)).doing(format_args!("remove {}", path.display())),
            Some(text) => {
                fs::create_dir_all(directory).doing(doing())?;
                let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).doing(doing())?;
                // Cut afterwards: there is no moment in which the file is empty.
                file.write_all_at(text.as_bytes(), 0).doing(doing())?;
                file.set_len(text.len() as u64).doing(doing())
            }
        }
    }
}

/// The bridge of a network.
pub(crate) fn bridge_of(network: &ManagementNetwork) -> IfName {
    network.bridge.clone().unwrap_or_else(|| OurName::management_bridge(&network.name).ifname())
}

fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// One address of a family: the fixed one, or the first free one; nothing when the network has no such subnet.
fn choose(
    network: &ManagementNetwork,
    subnet: Option<impl Into<IpNet>>,
    range: Option<impl Into<IpNet>>,
    fixed: Option<impl Into<IpAddr>>,
    held: &BTreeMap<IpAddr, &str>,
) -> Result<Option<IpAddr>, Failure> {
    let (subnet, range, fixed) = (subnet.map(Into::into), range.map(Into::into), fixed.map(Into::into));
    let invalid = |text: String| Err(Failure::new(ErrorKind::InvalidInput, text));
    match (fixed, subnet) {
        (None, None) => Ok(None),
        (Some(fixed), None) => invalid(format!("{fixed} is fixed for the node, but the network has no such subnet")),
        (Some(fixed), Some(subnet)) if !subnet.contains(&fixed) => {
            invalid(format!("the fixed address {fixed} is not in the management network {subnet}"))
        }
        (Some(fixed), Some(_)) => match held.get(&fixed) {
            Some(holder) => {
                let text = format!("the fixed address {fixed} is in use by {holder}");
                Err(Failure::new(ErrorKind::Conflict, text))
            }
            None => Ok(Some(fixed)),
        },
        (None, Some(subnet)) => {
            let range = range.unwrap_or(subnet);
            let ends = [subnet.network(), subnet.broadcast()];
            let gateways: Vec<IpAddr> = gateways(network).collect();
            let free = |address: &IpAddr| {
                subnet.contains(address)
                    && !ends.contains(address)
                    && !gateways.contains(address)
                    && !held.contains_key(address)
            };
            range.hosts().find(free).map(Some).ok_or_else(|| {
                let text = format!("the management network {range} has no free address; give a larger one");
                Failure::new(ErrorKind::Exhausted, text)
            })
        }
    }
}

/// The addresses of the bridge itself.
fn gateways(network: &ManagementNetwork) -> impl Iterator<Item = IpAddr> {
    gateway_nets(network).into_iter().map(|net| net.addr())
}

fn gateway_nets(network: &ManagementNetwork) -> Vec<IpNet> {
    let first = |subnet: IpNet| subnet.hosts().find(|address| *address != subnet.network());
    let ipv4 = network.ipv4.map(IpNet::V4).map(|subnet| (network.ipv4_gateway, subnet));
    let ipv6 = network.ipv6.filter(|_| has_ipv6()).map(IpNet::V6).map(|subnet| (network.ipv6_gateway, subnet));
    let net = |(given, subnet): (Option<IpAddr>, IpNet)| {
        IpNet::new(given.or_else(|| first(subnet))?, subnet.prefix_len()).ok()
    };
    ipv4.into_iter().chain(ipv6).filter_map(net).collect()
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
    fn hub(&self) -> Result<RouteSocket, Failure> {
        let fd = if self.direct {
            use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).doing("open a socket")?
        } else {
            let broker = self.access.broker(&self.layout.broker_socket()).map_err(unreachable)?;
            one(broker.open(HOME, None, &[Want::Socket(SocketKind::Route)]).map_err(unreachable)?)?
        };
        RouteSocket::new(fd).doing("prepare a socket")
    }

    /// Gives a node its management interface and addresses. What is there already stays. Blocks.
    pub(crate) fn connect(
        &self,
        network: &ManagementNetwork,
        mark: &Mark,
        lease: &Lease,
        node: &NsRef,
    ) -> Result<(), Failure> {
        let mut hub = self.hub()?;
        let bridge = self.bridge(&mut hub, network)?;
        let mut fds =
            self.access.open_all(node, &[Want::Namespace, Want::Socket(SocketKind::Route)]).map_err(unreachable)?;
        let mut inside = RouteSocket::new(one(fds.split_off(1))?).doing("prepare a socket")?;
        let ns = one(fds)?;
        let name = interface(INTERFACE)?;
        let index = match find(&mut inside, &name)? {
            Some(link) => link.index,
            None => {
                self.pair(&mut hub, network, mark, bridge, ns, &name)?;
                find(&mut inside, &name)?.ok_or_else(|| vanished(INTERFACE))?.index
            }
        };
        let up = Change { up: Some(true), ..Change::default() };
        let mut requests = vec![change_link(Which::Index(index), &up)];
        let subnets = [network.ipv4.map(IpNet::V4), network.ipv6.map(IpNet::V6)];
        for address in lease.all() {
            let subnet = subnets.iter().flatten().find(|subnet| subnet.contains(&address));
            let net = subnet.and_then(|subnet| IpNet::new(address, subnet.prefix_len()).ok());
            requests.extend(net.map(|net| add_address(index, net)));
        }
        inside.run_all(&requests).into_iter().collect::<Result<(), NetlinkError>>().map_err(refused)
    }

    fn pair(
        &self,
        hub: &mut RouteSocket,
        network: &ManagementNetwork,
        mark: &Mark,
        bridge: u32,
        node: OwnedFd,
        name: &IfName,
    ) -> Result<(), Failure> {
        let port = OurName::ManagementPort { node: mark.node }.ifname();
        // Its other end is in an earlier instance's namespace, which the kernel may not have cleared away yet.
        if let Some(left) = find(hub, &port)? {
            check_ours(&left)?;
            hub.run(delete_link(Which::Index(left.index))).map_err(refused)?;
        }
        let ours = NewLink {
            group: MANAGEMENT_GROUP,
            master: Some(bridge),
            mtu: network.mtu,
            up: true,
            ..NewLink::new(&port)
        };
        let theirs = NewLink {
            mac: Some(mac_of(mark.node.as_u64())),
            group: MANAGEMENT_GROUP,
            mtu: network.mtu,
            ns: Some(node.as_fd()),
            ..NewLink::new(name)
        };
        hub.run(create_veth(&Veth { a: ours, b: theirs })).map_err(refused)
    }

    /// The index of the network's bridge, which is made if it is missing.
    fn bridge(&self, hub: &mut RouteSocket, network: &ManagementNetwork) -> Result<u32, Failure> {
        let name = bridge_of(network);
        if let Some(found) = find(hub, &name)? {
            check_ours(&found).map_err(|failure| {
                // A provider of containers calls its bridge the same, and hands out the same addresses.
                let advice = "if another provider made it, nodes of both cannot be on this network: give those of one \
                              of them `network-mode: none`";
                Failure::new(failure.kind, format!("{failure}; {advice}"))
            })?;
            return Ok(found.index);
        }
        let nets = gateway_nets(network);
        for address in hub.addresses().map_err(refused)? {
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
        let mac = Some(mac_of(text_hash(name.as_str())));
        let bridge = NewLink { mac, group: MANAGEMENT_GROUP, mtu: network.mtu, up: true, ..NewLink::new(&name) };
        match hub.run(create_bridge(&bridge)) {
            Ok(()) => {}
            // Another node's creation was faster.
            Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(refused(error)),
        }
        let made = find(hub, &name)?.ok_or_else(|| vanished(name.as_str()))?;
        check_ours(&made)?;
        let requests: Vec<_> = nets.iter().map(|net| add_address(made.index, *net)).collect();
        hub.run_all(&requests).into_iter().collect::<Result<(), NetlinkError>>().map_err(refused)?;
        Ok(made.index)
    }

    /// Removes a bridge of ours that no node uses. Blocks.
    pub(crate) fn remove_bridge(&self, name: &str, gone: &BTreeSet<NodeId>) -> Result<(), Failure> {
        let mut hub = self.hub()?;
        let Some(bridge) = find(&mut hub, &interface(name)?)? else { return Ok(()) };
        if bridge.group != MANAGEMENT_GROUP {
            return Ok(());
        }
        // Another controller's nodes, or something of the user's, may be on it.
        let is_gone =
            |name: &str| matches!(OurName::parse(name), Some(OurName::ManagementPort { node }) if gone.contains(&node));
        let began = Instant::now();
        loop {
            let links = hub.links().map_err(refused)?;
            let mut ports = links.iter().filter(|link| link.master == Some(bridge.index) && !is_gone(&link.name));
            let Some(port) = ports.next() else { break };
            // The end of a link goes with its node's namespace, which the kernel clears away in its own time.
            let going = port.group == LINK_GROUP && ports.all(|port| port.group == LINK_GROUP);
            if !going || began.elapsed() > CLEARING {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        match hub.run(delete_link(Which::Index(bridge.index))) {
            Err(error) if error.errno() != Some(nix::errno::Errno::ENODEV) => Err(refused(error)),
            _ => Ok(()),
        }
    }
}

/// An address for whatever the number stands for, the same each time.
fn mac_of(number: u64) -> Mac {
    let [.., a, b, c, d, e] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Mac([MAC_PREFIX, a, b, c, d, e])
}

fn interface(name: &str) -> Result<IfName, Failure> {
    IfName::new(name).map_err(|error| Failure::new(ErrorKind::InvalidInput, error.to_string()))
}

fn find(socket: &mut RouteSocket, name: &IfName) -> Result<Option<Link>, Failure> {
    socket.link(Which::Name(name)).map_err(refused)
}

fn check_ours(link: &Link) -> Result<(), Failure> {
    if link.group == MANAGEMENT_GROUP {
        return Ok(());
    }
    let text = format!("interface {} exists and is not ours; remove it, or name another bridge", link.name);
    Err(Failure::new(ErrorKind::Foreign, text))
}

fn one(mut fds: Vec<OwnedFd>) -> Result<OwnedFd, Failure> {
    fds.pop().ok_or_else(|| Failure::new(ErrorKind::Failed, "no descriptor came back"))
}

fn vanished(name: &str) -> Failure {
    Failure::new(ErrorKind::Failed, format!("interface {name} vanished as soon as it was made"))
}

fn refused(error: NetlinkError) -> Failure {
    Failure::new(ErrorKind::Failed, error.to_string())
}

fn unreachable(error: NamespaceError) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(ErrorKind::Failed, format!("{error}{cause}"))
}
