//! What tunnels to other hosts go through.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lifecycle_core::attach::Tunnel;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::overlay::Underlay;
use serde::Deserialize;

use super::{Failure, Outcome, Place};
use crate::netlink::{Link, Route, Which};

/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is the way to whatever is far away.
const FAR_AWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Which of a host's addresses its tunnels have, as a program's settings say it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum UnderlayChoice {
    /// This one.
    Address(IpAddr),
    /// The first of an interface that others can reach, IPv4 before IPv6.
    Interface(IfName),
}

/// Reads what tunnels of a host go through: the address that is chosen, else the one that packets to far away come from.
/// Identifiers are those of all VXLAN devices.
///
/// # Errors
/// [`ErrorKind::NotFound`] when no interface has what was chosen.
pub fn underlay(host: &Place, choice: Option<&UnderlayChoice>) -> Outcome<Underlay> {
    let links = host.route(|route| route.links())?;
    let vnis: BTreeSet<u32> = links.iter().filter_map(|link| Some(link.vxlan?.vni)).filter(|vni| *vni != 0).collect();
    let nowhere = Underlay { address: None, mtu: 0, vnis };
    let Some((address, index)) = (match choice {
        Some(choice) => Some(chosen(host, &links, choice)?),
        None => by_default(host)?,
    }) else {
        return Ok(nowhere);
    };
    let mtu = links.iter().find(|link| link.index == index).map_or(0, |link| link.mtu);
    Ok(Underlay { address: Some(address), mtu, ..nowhere })
}

/// An address with the index of its interface.
fn chosen(host: &Place, links: &[Link], choice: &UnderlayChoice) -> Outcome<(IpAddr, u32)> {
    let addresses = host.route(|route| route.addresses())?;
    let missing = |message: String| {
        let message = format!("{message}, which the setting `underlay` names");
        Failure::new(ErrorKind::NotFound, message)
    };
    match choice {
        UnderlayChoice::Address(wanted) => addresses
            .iter()
            .find(|address| address.net.addr() == *wanted)
            .map(|address| (*wanted, address.index))
            .ok_or_else(|| missing(format!("no interface of the host has the address {wanted}"))),
        UnderlayChoice::Interface(name) => {
            let link = links.iter().find(|link| link.name == name.as_str());
            let link = link.ok_or_else(|| missing(format!("the host has no interface {name}")))?;
            let own = addresses.iter().filter(|address| address.index == link.index).map(|address| address.net.addr());
            own.filter(|address| is_reachable(*address))
                .min_by_key(IpAddr::is_ipv6)
                .map(|address| (address, link.index))
                .ok_or_else(|| missing(format!("other hosts can reach no address of the interface {name}")))
        }
    }
}

fn by_default(host: &Place) -> Outcome<Option<(IpAddr, u32)>> {
    for far_away in FAR_AWAY {
        let route = host.route(|route| route.route_to(far_away, None, None))?;
        if let Some(Route { interface, source: Some(source), .. }) = route
            && is_reachable(source)
        {
            return Ok(Some((source, interface)));
        }
    }
    Ok(None)
}

/// Whether other hosts can reach an address without being told through which interface.
fn is_reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !link_local
}

/// The way from a host to the far end of a tunnel; none when there is no way.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the host lacks the interface that the tunnel is to go out of.
pub fn way_of(host: &Place, tunnel: &Tunnel) -> Outcome<Option<Route>> {
    let lower = lower_of(host, tunnel)?;
    Ok(host.route(|route| route.route_to(tunnel.remote, tunnel.local, lower))?)
}

/// The index of the interface that a tunnel is to go out of, where it says so.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the host lacks it.
pub fn lower_of(host: &Place, tunnel: &Tunnel) -> Outcome<Option<u32>> {
    let Some(name) = &tunnel.parent else { return Ok(None) };
    let link = host.link(Which::Name(name))?;
    let missing = || Failure::new(ErrorKind::NotFound, format!("the host has no interface {name} for the tunnel"));
    Ok(Some(link.ok_or_else(missing)?.index))
}

/// Refuses a tunnel that none can be: what does not fit into its fields, or addresses that have nothing to do with each
/// other.
///
/// # Errors
/// [`ErrorKind::InvalidInput`], with what is wrong.
pub fn refuse_tunnel(tunnel: &Tunnel) -> Outcome<()> {
    let wrong = |message: String| Err(Failure::new(ErrorKind::InvalidInput, message));
    let Tunnel { vni, remote, local, port, .. } = tunnel;
    if *vni == 0 || *vni >= 1 << 24 {
        return wrong(format!("a VXLAN identifier is between 1 and 16777215, and not {vni}"));
    }
    if *port == 0 {
        return wrong("no packets can be sent to UDP port 0".to_owned());
    }
    if remote.is_multicast() || remote.is_unspecified() {
        return wrong(format!("a tunnel leads to one host, which {remote} is not"));
    }
    if let Some(local) = local
        && (local.is_ipv4() != remote.is_ipv4() || local == remote || local.is_unspecified() || local.is_multicast())
    {
        return wrong(format!("no tunnel leads from {local} to {remote}"));
    }
    Ok(())
}

/// Refuses what a tunnel cannot become while it stands.
///
/// # Errors
/// [`ErrorKind::Unsupported`], with what to do.
pub fn refuse_other_tunnel(from: &Tunnel, to: &Tunnel) -> Outcome<()> {
    if *from != (Tunnel { remote: from.remote, local: from.local, ..to.clone() }) {
        let message = "a tunnel keeps its identifier, its ports and its interface; build the link anew to change them";
        return Err(Failure::unsupported(message));
    }
    if to.remote.is_ipv4() != from.remote.is_ipv4() {
        let remote = to.remote;
        let message = format!("a tunnel over IPv4 cannot go over IPv6, or back; build the link anew to reach {remote}");
        return Err(Failure::unsupported(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_an_address_or_an_interface() {
        let read = |text: &str| serde_json::from_value::<UnderlayChoice>(text.into());
        assert_eq!(read("10.0.0.1").unwrap(), UnderlayChoice::Address("10.0.0.1".parse().unwrap()));
        assert_eq!(read("fd00::1").unwrap(), UnderlayChoice::Address("fd00::1".parse().unwrap()));
        assert_eq!(read("eth0").unwrap(), UnderlayChoice::Interface(IfName::new("eth0").unwrap()));
        assert!(read("not an interface at all").is_err());
    }

    #[test]
    fn what_can_be_no_tunnel_is_refused() {
        let tunnel = |vni, local: Option<&str>, remote: &str| Tunnel {
            vni,
            remote: remote.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            port: 4789,
            source_port: None,
            parent: None,
        };
        assert!(refuse_tunnel(&tunnel(1, Some("10.0.0.1"), "10.0.0.2")).is_ok());
        assert!(refuse_tunnel(&tunnel(0xff_ffff, None, "fd00::2")).is_ok());
        let wrong = [
            tunnel(0, None, "10.0.0.2"),
            tunnel(1 << 24, None, "10.0.0.2"),
            tunnel(1, None, "239.0.0.1"),
            tunnel(1, Some("fd00::1"), "10.0.0.2"),
            tunnel(1, Some("10.0.0.2"), "10.0.0.2"),
            Tunnel { port: 0, ..tunnel(1, None, "10.0.0.2") },
        ];
        for tunnel in wrong {
            assert_eq!(refuse_tunnel(&tunnel).unwrap_err().kind(), ErrorKind::InvalidInput, "{tunnel:?}");
        }
    }
}
