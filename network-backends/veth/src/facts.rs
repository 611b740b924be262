//! What this process can do on this machine.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::attach::PlaceKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::NetworkCapabilities;
use lifecycle_linux::capability::{Feature, Missing};
use lifecycle_linux::namespace::FreshNamespace;
use lifecycle_linux::netlink::{NetlinkError, NewLink, Request, RouteSocket, Veth, create_bridge, create_dummy};
use lifecycle_linux::netlink::{create_ifb, create_veth};
use lifecycle_linux::wiring::{Failure, Outcome, shaping};
use nix::errno::Errno;

const ROOTLESS: &str = "only root may attach something to the host's own network namespace";

/// What this process can do on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The host's own namespace is out of reach.
    pub(crate) rootless: bool,
    /// Types of interfaces that the kernel lacks, with the reason.
    lacking: BTreeMap<&'static str, String>,
    /// What it lacks of what slows links down.
    missing: Missing,
}

impl Facts {
    /// What is likely, before anything was tried.
    pub(crate) fn of_user() -> Self {
        Self { rootless: !nix::unistd::geteuid().is_root(), ..Self::default() }
    }

    /// Tries in a namespace that goes away by itself, with what was made in it.
    pub(crate) fn find_out() -> Outcome<Self> {
        let namespace = FreshNamespace::new().map_err(|error| {
            Failure::from(error).saying(
                "no network namespace can be made; allow user namespaces (user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) or run as root",
            )
        })?;
        let mut socket = RouteSocket::new(namespace.route)?;
        let name = |text: &'static str| IfName::new(text).unwrap_or_else(|_| unreachable!("{text} is a valid name"));
        let names = ["try0", "try1", "try2", "try3", "try4"].map(name);
        let mut new = names.iter().map(NewLink::new);
        let mut next = || new.next().unwrap_or_else(|| unreachable!("there are as many names as links"));
        let requests: [(&'static str, Request); 4] = [
            ("veth", create_veth(&Veth { a: next(), b: next() })),
            ("bridge", create_bridge(&next())),
            ("dummy", create_dummy(&next())),
            ("ifb", create_ifb(&next())),
        ];
        let mut lacking = BTreeMap::new();
        for (kind, request) in requests {
            match socket.run(request) {
                Ok(()) => {}
                Err(NetlinkError::Refused { errno: Errno::EOPNOTSUPP, .. }) => {
                    lacking.insert(kind, format!("the kernel has no {kind}"));
                }
                Err(error) => {
                    lacking.insert(kind, error.to_string());
                }
            }
        }
        let missing = Missing::detect_some(&[Feature::Veth, Feature::Tbf, Feature::Netem]).map_err(Failure::from)?;
        Ok(Self { rootless: namespace.in_user_namespace, lacking, missing })
    }

    /// Whether an attribute of a link, by its name, can be set.
    pub(crate) fn can_set(&self, attribute: &str) -> bool {
        shaping::can_set(&self.missing, attribute)
    }

    /// The same as other crates see it.
    pub(crate) fn capabilities(&self) -> NetworkCapabilities {
        use PlaceKind::{Bridge, Dummy, HostNet, Macvlan, Namespace};
        let mut pairs = BTreeSet::from([
            (Namespace, Namespace),
            (Namespace, HostNet),
            (Namespace, Bridge),
            (Namespace, Macvlan),
            (Namespace, Dummy),
            (HostNet, HostNet),
            (HostNet, Bridge),
            (Bridge, Bridge),
        ]);
        let mut missing = BTreeMap::new();
        let mut lacks = |kind: &str, reason: &str, places: &[PlaceKind]| {
            missing.insert(kind.to_owned(), reason.to_owned());
            pairs.retain(|(a, b)| !places.contains(a) && !places.contains(b));
        };
        if self.rootless {
            lacks("host_net", ROOTLESS, &[HostNet]);
            lacks("macvlan", ROOTLESS, &[Macvlan]);
        }
        if let Some(reason) = self.lacking.get("veth") {
            lacks("veth", reason, &[Namespace, HostNet, Bridge]);
        }
        if let Some(reason) = self.lacking.get("bridge") {
            lacks("bridge", reason, &[Bridge]);
        }
        if let (Some(dummy), Some(ifb)) = (self.lacking.get("dummy"), self.lacking.get("ifb")) {
            lacks("dummy", &format!("{dummy}, and for a stand-in, {ifb}"), &[Dummy]);
        }
        let mut can = NetworkCapabilities { pairs, missing, ..NetworkCapabilities::default() };
        shaping::declare(&self.missing, &mut can);
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_keeps_off_the_host() {
        let facts = Facts { rootless: true, ..Facts::default() };
        let can = facts.capabilities();
        assert!(can.can_connect(PlaceKind::Namespace, PlaceKind::Namespace));
        assert!(can.can_connect(PlaceKind::Bridge, PlaceKind::Namespace));
        assert!(!can.can_connect(PlaceKind::Namespace, PlaceKind::HostNet));
        assert!(!can.can_connect(PlaceKind::Namespace, PlaceKind::Macvlan));
        assert!(can.missing.contains_key("host_net") && can.missing.contains_key("macvlan"));
    }

    #[test]
    fn a_kernel_without_dummy_has_a_stand_in_or_says_so() {
        let lacking = |kinds: &[&'static str]| Facts {
            rootless: false,
            lacking: kinds.iter().map(|kind| (*kind, format!("the kernel has no {kind}"))).collect(),
            missing: Missing::default(),
        };
        let pair = (PlaceKind::Namespace, PlaceKind::Dummy);
        assert!(lacking(&["dummy"]).capabilities().pairs.contains(&pair));
        let none = lacking(&["dummy", "ifb"]).capabilities();
        assert!(!none.pairs.contains(&pair));
        assert!(none.missing["dummy"].contains("ifb"));
    }
}
