//! What this process can do on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use lifecycle_core::attach::PlaceKind;
use lifecycle_core::plugin::network::NetworkCapabilities;
use lifecycle_linux::capability::{Feature, Missing};
use lifecycle_linux::tap;
use lifecycle_linux::wiring::label;
use lifecycle_linux::wiring::{Failure, Outcome, shaping};

const ROOTLESS: &str = "only root may attach something to the host's own network namespace";
/// What matters here of what a kernel has or lacks. The veth comes first, since others are tried on it.
const FEATURES: [Feature; 6] =
    [Feature::Veth, Feature::Bridge, Feature::BridgeVlanFiltering, Feature::Vxlan, Feature::Tbf, Feature::Netem];
/// Whether the host's packet filter sees what passes through bridges.
const FILTERED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// What this process can do on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The host's own namespace is out of reach.
    pub(crate) rootless: bool,
    missing: Missing,
    /// Why there are no taps, if so.
    no_taps: Option<&'static str>,
    filtered: bool,
}

impl Facts {
    /// What is likely, before anything was tried.
    pub(crate) fn of_user() -> Self {
        let no_taps = tap::missing();
        let filtered = fs::read_to_string(FILTERED).is_ok_and(|text| text.trim() == "1");
        Self { rootless: !nix::unistd::geteuid().is_root(), missing: Missing::default(), no_taps, filtered }
    }

    /// Tries in a namespace that goes away by itself, with what was made in it.
    pub(crate) fn find_out() -> Outcome<Self> {
        let missing = Missing::detect_some(&FEATURES).map_err(|error| {
            Failure::from(error).saying(
                "no network namespace can be made; allow user namespaces (user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) or run as root",
            )
        })?;
        Ok(Self { missing, ..Self::of_user() })
    }

    /// Whether an attribute of a link, by its name, can be set.
    pub(crate) fn can_set(&self, attribute: &str) -> bool {
        shaping::can_set(&self.missing, attribute)
    }

    /// The same as other crates see it.
    pub(crate) fn capabilities(&self) -> NetworkCapabilities {
        use PlaceKind::{HostNet, Namespace, Tap, Tunnel};
        let mut missing = BTreeMap::new();
        let mut pairs: BTreeSet<(PlaceKind, PlaceKind)> = [(Namespace, Namespace)].into();
        if self.rootless {
            missing.insert("host_net".to_owned(), ROOTLESS.to_owned());
            missing.insert("tap".to_owned(), ROOTLESS.to_owned());
            missing.insert("tunnel".to_owned(), "only root may send what is in tunnels to other hosts".to_owned());
        } else {
            pairs = [(Namespace, Namespace), (Namespace, HostNet), (HostNet, HostNet)].into();
            match self.no_taps {
                None => pairs.extend([(Namespace, Tap), (Tap, Tap), (Tap, HostNet)]),
                Some(reason) => drop(missing.insert("tap".to_owned(), reason.to_owned())),
            }
            match self.missing.reason(Feature::Vxlan) {
                None => {
                    pairs.extend([(Namespace, Tunnel), (HostNet, Tunnel)]);
                    pairs.extend(self.no_taps.is_none().then_some((Tap, Tunnel)));
                }
                Some(reason) => drop(missing.insert("tunnel".to_owned(), format!("it takes vxlan: {reason}"))),
            }
        }
        for (feature, reason) in self.missing.iter() {
            missing.insert(feature.name().to_owned(), reason.to_owned());
        }
        if !self.missing.has(Feature::Veth) || !self.missing.has(Feature::Bridge) {
            pairs.clear();
        }
        if self.filtered {
            let reason = "the host's packet filter sees what passes through bridges and may drop it; turn that off with \
                          `sysctl net.bridge.bridge-nf-call-iptables=0`, or use another backend";
            missing.insert("unfiltered bridges".to_owned(), reason.to_owned());
        }
        let (attaches, parks) = (label::attaches(), [PlaceKind::Namespace, PlaceKind::Tap].into());
        let mut can =
            NetworkCapabilities { pairs, switched: true, missing, attaches, parks, ..NetworkCapabilities::default() };
        shaping::declare(&self.missing, &mut can);
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_keeps_off_the_host() {
        let can = Facts { rootless: true, ..Facts::default() }.capabilities();
        assert_eq!(can.pairs, [(PlaceKind::Namespace, PlaceKind::Namespace)].into());
        assert!(["host_net", "tap", "tunnel"].iter().all(|place| can.missing.contains_key(*place)));
    }

    #[test]
    fn pairs_are_in_ascending_order() {
        let can = Facts::default().capabilities();
        assert!(can.pairs.iter().all(|(a, b)| a <= b), "{:?}", can.pairs);
        assert!(can.can_connect(PlaceKind::HostNet, PlaceKind::Tap));
        assert!(can.can_connect(PlaceKind::Tunnel, PlaceKind::Tap));
        let can = Facts { no_taps: Some("no tun"), ..Facts::default() }.capabilities();
        assert!(can.missing["tap"] == "no tun" && !can.can_connect(PlaceKind::Tap, PlaceKind::Tap), "{can:?}");
    }
}
