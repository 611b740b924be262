//! Tunnels between hosts: derived from the links that need them, never counted; and the MTU of what goes through them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::id::LinkId;
use crate::machine::{LinkState, TunnelState};
use crate::name::HostName;
use crate::topology::DEFAULT_MTU;

/// Two different hosts, whichever was named first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPair {
    low: HostName,
    high: HostName,
}

impl HostPair {
    /// The pair of two hosts; nothing when they are one.
    pub fn new(a: &HostName, b: &HostName) -> Option<Self> {
        let (low, high) = (a.min(b).clone(), a.max(b).clone());
        (low != high).then_some(Self { low, high })
    }

    /// Both hosts, in ascending order.
    pub fn hosts(&self) -> [&HostName; 2] {
        [&self.low, &self.high]
    }
}

/// What tunnels are derived from: a link, its state, and where its ends are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedLink<'a> {
    /// The link.
    pub link: LinkId,
    /// Its state.
    pub state: LinkState,
    /// The hosts of its ends.
    pub hosts: [&'a HostName; 2],
}

/// What joins two hosts, as the links tell that go through it. Below, each of them has a VXLAN tunnel of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedTunnel {
    /// As good as the links between the two hosts.
    pub state: TunnelState,
    /// The links that are being created or up; one that is down or in error is not among them.
    pub links: BTreeSet<LinkId>,
}

/// The tunnels that must exist: one per pair of hosts between which at least one link is being created or up.
pub fn tunnels<'a>(links: impl IntoIterator<Item = PlacedLink<'a>>) -> BTreeMap<HostPair, UsedTunnel> {
    let mut by_pair: BTreeMap<HostPair, Vec<PlacedLink<'a>>> = BTreeMap::new();
    for link in links {
        if let Some(pair) = HostPair::new(link.hosts[0], link.hosts[1]) {
            by_pair.entry(pair).or_default().push(link);
        }
    }
    let used = by_pair.into_iter().filter_map(|(pair, links)| {
        let any = |state| links.iter().any(|link| link.state == state);
        let state = match (any(LinkState::Up), any(LinkState::Creating), any(LinkState::Error)) {
            (true, _, false) => TunnelState::Active,
            (true, _, true) => TunnelState::Degraded,
            (false, true, _) => TunnelState::Pending,
            (false, false, _) => return None,
        };
        let users = links.iter().filter(|link| matches!(link.state, LinkState::Creating | LinkState::Up));
        Some((pair, UsedTunnel { state, links: users.map(|link| link.link).collect() }))
    });
    used.collect()
}

/// Bytes of a packet that a tunnel to `remote` takes: the frame's Ethernet header, and those of VXLAN, UDP and IP.
pub const fn overhead(remote: IpAddr) -> u32 {
    match remote {
        IpAddr::V4(_) => 14 + 8 + 8 + 20,
        IpAddr::V6(_) => 14 + 8 + 8 + 40,
    }
}

/// The wanted MTU does not fit through the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "MTU {wanted} does not fit: the path between the hosts carries {path} bytes; lower the link's MTU or raise the path's"
)]
pub struct MtuTooLarge {
    /// What the link's user wants, in bytes.
    pub wanted: u32,
    /// The largest MTU that fits: what the path carries, less the tunnel's own headers, in bytes.
    pub path: u32,
}

/// The MTU of a link over a path that carries `path` bytes, the tunnel's own headers subtracted: the wanted one, by
/// default the smaller of the path's and [`DEFAULT_MTU`].
///
/// # Errors
/// [`MtuTooLarge`] when an explicitly wanted one is above the path's.
pub fn mtu(wanted: Option<u32>, path: u32) -> Result<u32, MtuTooLarge> {
    match wanted {
        None => Ok(path.min(DEFAULT_MTU)),
        Some(wanted) if wanted <= path => Ok(wanted),
        Some(wanted) => Err(MtuTooLarge { wanted, path }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strum::VariantArray;

    use super::*;

    #[test]
    fn a_tunnel_is_as_good_as_its_links() {
        use LinkState::{Creating, Down, Error, Up};
        let hosts = ["a", "b"].map(|name| HostName::new(name).unwrap());
        for (links, expected) in [
            (&[][..], None),
            (&[Up, Up, Down], Some(TunnelState::Active)),
            (&[Up, Creating], Some(TunnelState::Active)),
            (&[Up, Error], Some(TunnelState::Degraded)),
            (&[Creating, Error], Some(TunnelState::Pending)),
            (&[Down, Error], None),
        ] {
            let placed = (0..).zip(links).map(|(id, &state)| PlacedLink {
                link: LinkId::from_u64(id),
                state,
                hosts: hosts.each_ref(),
            });
            let found: Vec<TunnelState> = tunnels(placed).values().map(|tunnel| tunnel.state).collect();
            assert_eq!(found, Vec::from_iter(expected), "{links:?}");
        }
    }

    #[test]
    fn mtu_is_the_smaller_or_the_wanted_or_refused_with_both_numbers() {
        assert_eq!(mtu(None, 1450), Ok(1450));
        assert_eq!(mtu(None, 65_000), Ok(9500));
        assert_eq!(mtu(Some(1400), 1450), Ok(1400));
        assert_eq!(mtu(Some(1450), 1450), Ok(1450));
        let error = mtu(Some(9000), 1450).unwrap_err().to_string();
        assert!(error.contains("9000") && error.contains("1450"), "{error}");
    }

    proptest! {
        /// A tunnel exists if and only if a link between its two hosts is being created or up, and lists exactly those.
        #[test]
        fn a_tunnel_exists_iff_a_link_needs_it(links in prop::collection::vec((0usize..3, 0usize..3, 0usize..6), 0..20)) {
            let hosts: Vec<HostName> = ["a", "b", "c"].iter().map(|h| HostName::new(h).unwrap()).collect();
            let links: Vec<PlacedLink<'_>> = links.iter().enumerate().map(|(id, &(a, b, state))| PlacedLink {
                link: LinkId::from_u64(id as u64),
                state: LinkState::VARIANTS[state],
                hosts: [&hosts[a], &hosts[b]],
            }).collect();
            let found = tunnels(links.iter().copied());
            for a in &hosts {
                for b in hosts.iter().filter(|b| a < *b) {
                    let users: BTreeSet<LinkId> = links.iter()
                        .filter(|l| l.hosts == [a, b] || l.hosts == [b, a])
                        .filter(|l| l.state == LinkState::Creating || l.state == LinkState::Up)
                        .map(|l| l.link)
                        .collect();
                    let pair = HostPair::new(b, a).unwrap();
                    let tunnel = found.get(&pair).map(|it| it.links.clone()).unwrap_or_default();
                    prop_assert_eq!(tunnel, users);
                }
            }
            prop_assert!(found.values().all(|tunnel| !tunnel.links.is_empty()));
        }
    }
}
