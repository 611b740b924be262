//! Which addresses nodes and bridges get.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lifecycle_core::ErrorKind;
use lifecycle_core::topology::ManagementNetwork;

use crate::wiring::{Failure, Outcome};

pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// One address of a family: the fixed one, or the first free one; nothing when the network has no such subnet.
pub(super) fn choose(
    network: &ManagementNetwork,
    subnet: Option<impl Into<IpNet>>,
    range: Option<impl Into<IpNet>>,
    fixed: Option<impl Into<IpAddr>>,
    held: &BTreeMap<IpAddr, &str>,
) -> Outcome<Option<IpAddr>> {
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
            let gateways: Vec<IpAddr> = bridge_addresses(network).into_iter().map(|net| net.addr()).collect();
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
pub fn bridge_addresses(network: &ManagementNetwork) -> Vec<IpNet> {
    let first = |subnet: IpNet| subnet.hosts().find(|address| *address != subnet.network());
    let ipv4 = network.ipv4.map(IpNet::V4).map(|subnet| (network.ipv4_gateway, subnet));
    let ipv6 = network.ipv6.filter(|_| has_ipv6()).map(IpNet::V6).map(|subnet| (network.ipv6_gateway, subnet));
    let net = |(given, subnet): (Option<IpAddr>, IpNet)| {
        IpNet::new(given.or_else(|| first(subnet))?, subnet.prefix_len()).ok()
    };
    ipv4.into_iter().chain(ipv6).filter_map(net).collect()
}

/// An address with the length of its subnet.
pub fn net_of(network: &ManagementNetwork, address: IpAddr) -> Option<IpNet> {
    let subnets = [network.ipv4.map(IpNet::V4), network.ipv6.map(IpNet::V6)];
    let subnet = subnets.into_iter().flatten().find(|subnet| subnet.contains(&address))?;
    IpNet::new(address, subnet.prefix_len()).ok()
}
