//! What this kernel can do for this process, found out by trying in a namespace that is thrown away.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use lifecycle_core::name::IfName;
use lifecycle_core::topology::MacvlanMode;
use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, InfoVlan, InfoVrf, InfoVxlan};
use nix::errno::Errno;

use crate::namespace::FreshNamespace;
use crate::netlink::{
    NetlinkError, NewLink, Request, RouteSocket, Veth, Which, create_bridge, create_dummy, create_ifb, create_macvlan,
    create_typed, create_veth, try_qdisc,
};
use crate::sys::user_namespace::network_in_new_user_namespace;

/// Something that a kernel has or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Virtual cables.
    Veth,
    /// Switches.
    Bridge,
    /// Switches that keep VLANs apart.
    BridgeVlanFiltering,
    /// Interfaces that lead nowhere.
    Dummy,
    /// Interfaces that lead nowhere unless somebody redirects traffic to them.
    Ifb,
    /// Children of an interface with addresses of their own.
    Macvlan,
    /// VLANs of an interface.
    Vlan,
    /// Routing domains within a namespace.
    Vrf,
    /// Tunnels between hosts.
    Vxlan,
    /// Delay, jitter and loss.
    Netem,
    /// Limits of rate.
    Tbf,
    /// User namespaces, without which an ordinary user can run no node.
    UserNamespaces,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Veth,
        Self::Bridge,
        Self::BridgeVlanFiltering,
        Self::Dummy,
        Self::Ifb,
        Self::Macvlan,
        Self::Vlan,
        Self::Vrf,
        Self::Vxlan,
        Self::Netem,
        Self::Tbf,
        Self::UserNamespaces,
    ];

    /// Its name as users of the kernel write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::BridgeVlanFiltering => "bridge vlan_filtering",
            Self::Dummy => "dummy",
            Self::Ifb => "ifb",
            Self::Macvlan => "macvlan",
            Self::Vlan => "vlan",
            Self::Vrf => "vrf",
            Self::Vxlan => "vxlan",
            Self::Netem => "netem",
            Self::Tbf => "tbf",
            Self::UserNamespaces => "user namespaces",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What this kernel lacks, with the reason; a feature that is not in it can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing(BTreeMap<Feature, String>);

impl Missing {
    /// Tries every feature. Takes some tens of milliseconds and leaves nothing behind.
    ///
    /// # Errors
    /// When no namespace to try in can be made: then nothing works at all.
    pub fn detect() -> io::Result<Self> {
        Self::detect_some(&Feature::ALL)
    }

    /// As [`Missing::detect`], of some features only. Most of them need [`Feature::Veth`] before them.
    ///
    /// # Errors
    /// As [`Missing::detect`].
    pub fn detect_some(features: &[Feature]) -> io::Result<Self> {
        let namespace = FreshNamespace::new()?;
        let mut socket = RouteSocket::new(namespace.route)?;
        let mut missing = BTreeMap::new();
        for feature in features {
            if let Err(reason) = attempt(*feature, &mut socket) {
                missing.insert(*feature, reason);
            }
        }
        Ok(Self(missing))
    }

    /// Why a feature cannot be used, if it cannot.
    pub fn reason(&self, feature: Feature) -> Option<&str> {
        self.0.get(&feature).map(String::as_str)
    }

    /// Whether a feature can be used.
    pub fn has(&self, feature: Feature) -> bool {
        !self.0.contains_key(&feature)
    }

    /// All that is missing.
    pub fn iter(&self) -> impl Iterator<Item = (Feature, &str)> {
        self.0.iter().map(|(feature, reason)| (*feature, reason.as_str()))
    }
}

fn attempt(feature: Feature, socket: &mut RouteSocket) -> Result<(), String> {
    let name = |text| IfName::new(text).map_err(|error| error.to_string());
    // Every feature that needs another interface finds it: the veth is tried first.
    let (base, peer, own) = (name("base")?, name("peer")?, name("own")?);
    let new = NewLink::new(&own);
    let mut parent = || index_of(socket, &base);
    let request = match feature {
        Feature::Veth => create_veth(&Veth { a: NewLink::new(&base), b: NewLink::new(&peer) }),
        Feature::Bridge => create_bridge(&new),
        Feature::BridgeVlanFiltering => {
            create_typed(&new, InfoKind::Bridge, Some(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])), None)
        }
        Feature::Dummy => create_dummy(&new),
        Feature::Ifb => create_ifb(&new),
        Feature::Macvlan => create_macvlan(&new, parent()?, MacvlanMode::Bridge),
        Feature::Vlan => {
            create_typed(&new, InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(2)])), Some(parent()?))
        }
        Feature::Vrf => create_typed(&new, InfoKind::Vrf, Some(InfoData::Vrf(vec![InfoVrf::TableId(2)])), None),
        Feature::Vxlan => {
            let data = InfoData::Vxlan(vec![InfoVxlan::Id(2), InfoVxlan::Port(4789)]);
            create_typed(&new, InfoKind::Vxlan, Some(data), None)
        }
        Feature::Netem => return qdisc(socket, &base, "netem"),
        Feature::Tbf => return qdisc(socket, &base, "tbf"),
        Feature::UserNamespaces => {
            return network_in_new_user_namespace().map(drop).map_err(|error| error.to_string());
        }
    };
    create(socket, request)?;
    if feature != Feature::Veth {
        // The name is free for the next feature.
        socket.run(crate::netlink::delete_link(Which::Name(&own))).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn create(socket: &mut RouteSocket, request: Request) -> Result<(), String> {
    socket.run(request).map_err(|error| match error.errno() {
        Some(Errno::EOPNOTSUPP) => "the kernel does not have it".to_owned(),
        _ => error.to_string(),
    })
}

fn index_of(socket: &mut RouteSocket, name: &IfName) -> Result<u32, String> {
    match socket.link(Which::Name(name)) {
        Ok(Some(link)) => Ok(link.index),
        Ok(None) => Err("there is no veth to try it on".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A queueing discipline that is known but lacks its options is refused otherwise than one that is not known.
fn qdisc(socket: &mut RouteSocket, name: &IfName, kind: &str) -> Result<(), String> {
    let index = index_of(socket, name)?;
    match socket.run(try_qdisc(index, kind)) {
        Err(error) if error.is_not_found() => Err("the kernel does not have it".to_owned()),
        Ok(()) | Err(NetlinkError::Refused { errno: Errno::EINVAL, .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
