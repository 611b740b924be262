//! Which network backend builds a link.

use std::collections::BTreeSet;
use std::fmt;

use crate::attach::PlaceKind;
use crate::name::PluginName;

/// What the choice looks at in a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendFacts<'a> {
    /// Its name.
    pub name: &'a PluginName,
    /// Pairs of places that it can join, each pair in ascending order.
    pub pairs: &'a BTreeSet<(PlaceKind, PlaceKind)>,
    /// Whether frames pass through a switch on their way.
    pub switched: bool,
}

impl BackendFacts<'_> {
    fn joins(&self, a: PlaceKind, b: PlaceKind) -> bool {
        self.pairs.contains(&(a.min(b), a.max(b)))
    }
}

/// No backend can build the link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    /// The wanted backend does not exist.
    #[error("unknown network backend `{wanted}` (known: {})", List(known))]
    Unknown {
        /// What was asked for.
        wanted: PluginName,
        /// What there is.
        known: Vec<PluginName>,
    },
    /// The wanted backend cannot.
    #[error("network backend `{wanted}` cannot join a {a} and a {b}; {}", Others(able))]
    Unable {
        /// What was asked for.
        wanted: PluginName,
        /// Place of the first end.
        a: PlaceKind,
        /// Place of the second end.
        b: PlaceKind,
        /// Backends that can.
        able: Vec<PluginName>,
    },
    /// None can.
    #[error("no network backend can join a {a} and a {b} (known: {})", List(known))]
    None {
        /// Place of the first end.
        a: PlaceKind,
        /// Place of the second end.
        b: PlaceKind,
        /// What there is.
        known: Vec<PluginName>,
    },
}

/// Chooses the backend for a link between two kinds of places: the wanted one, else the first that can and does not
/// switch, since such a link is proved by identity alone, else the first that can.
///
/// # Errors
/// [`NoBackend`] when the wanted one does not exist or cannot join these places, or when none can.
pub fn select_backend<'a>(
    a: PlaceKind,
    b: PlaceKind,
    backends: &[BackendFacts<'a>],
    wanted: Option<&PluginName>,
) -> Result<&'a PluginName, NoBackend> {
    let known = || backends.iter().map(|backend| backend.name.clone()).collect();
    let able = || backends.iter().filter(|backend| backend.joins(a, b));
    if let Some(wanted) = wanted {
        let Some(backend) = backends.iter().find(|backend| backend.name == wanted) else {
            return Err(NoBackend::Unknown { wanted: wanted.clone(), known: known() });
        };
        if backend.joins(a, b) {
            return Ok(backend.name);
        }
        let able = able().map(|backend| backend.name.clone()).collect();
        return Err(NoBackend::Unable { wanted: wanted.clone(), a, b, able });
    }
    match able().min_by_key(|backend| backend.switched) {
        Some(backend) => Ok(backend.name),
        None => Err(NoBackend::None { a, b, known: known() }),
    }
}

/// Chooses the backend for a link that asks for none, where its lab prefers one: ends that this one cannot join are left to
/// one that can. A preferred backend that can join nothing at all here was chosen in vain, and its user has to know.
///
/// # Errors
/// [`NoBackend`] when the preferred one can do nothing here, or none can join these places.
pub fn prefer_backend<'a>(
    a: PlaceKind,
    b: PlaceKind,
    backends: &[BackendFacts<'a>],
    preferred: &PluginName,
) -> Result<&'a PluginName, NoBackend> {
    let in_vain = backends.iter().any(|backend| backend.name == preferred && backend.pairs.is_empty());
    let chosen = select_backend(a, b, backends, Some(preferred));
    if in_vain { chosen } else { chosen.or_else(|_| select_backend(a, b, backends, None)) }
}

struct List<'a>(&'a [PluginName]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("none") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|name| write!(f, ", {name}"))
    }
}

struct Others<'a>(&'a [PluginName]);

impl fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("no other can") } else { write!(f, "{} can", List(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::PlaceKind::{HostNet, Namespace, Tap};
    use super::*;

    fn plugin(name: &str) -> PluginName {
        PluginName::new(name).unwrap()
    }

    #[test]
    fn the_choice_and_its_reasons() {
        let (ovs, veth) = (plugin("ovs"), plugin("veth"));
        let all = [(Namespace, Namespace), (Namespace, Tap), (Namespace, HostNet), (Tap, Tap)].into();
        let direct = [(Namespace, Namespace), (Namespace, HostNet)].into();
        let backends = [
            BackendFacts { name: &ovs, pairs: &all, switched: true },
            BackendFacts { name: &veth, pairs: &direct, switched: false },
        ];
        let text = |a, b, wanted: Option<&PluginName>| match select_backend(a, b, &backends, wanted) {
            Ok(name) => name.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(text(Namespace, Namespace, None), "veth");
        assert_eq!(text(Namespace, Namespace, Some(&ovs)), "ovs");
        assert_eq!(text(HostNet, Namespace, None), "veth");
        assert_eq!(text(Tap, Namespace, None), "ovs");
        assert_eq!(
            text(Namespace, Tap, Some(&veth)),
            "network backend `veth` cannot join a namespace and a tap; ovs can"
        );
        assert_eq!(
            text(HostNet, HostNet, Some(&veth)),
            "network backend `veth` cannot join a host_net and a host_net; no other can"
        );
        assert_eq!(text(HostNet, Tap, None), "no network backend can join a host_net and a tap (known: ovs, veth)");
        assert_eq!(text(Tap, Tap, Some(&plugin("vpp"))), "unknown network backend `vpp` (known: ovs, veth)");
    }

    #[test]
    fn a_preference_gives_way_unless_it_is_in_vain() {
        let (ovs, veth, vpp) = (plugin("ovs"), plugin("veth"), plugin("vpp"));
        let (direct, switched, nothing) = ([(Namespace, Namespace)].into(), [(Namespace, Tap)].into(), [].into());
        let backends = [
            BackendFacts { name: &ovs, pairs: &nothing, switched: true },
            BackendFacts { name: &veth, pairs: &direct, switched: false },
            BackendFacts { name: &vpp, pairs: &switched, switched: true },
        ];
        assert_eq!(prefer_backend(Namespace, Namespace, &backends, &veth), Ok(&veth));
        assert_eq!(prefer_backend(Tap, Namespace, &backends, &veth), Ok(&vpp));
        assert_eq!(prefer_backend(Namespace, Namespace, &backends, &plugin("unknown")), Ok(&veth));
        let in_vain = prefer_backend(Namespace, Namespace, &backends, &ovs).unwrap_err().to_string();
        assert_eq!(in_vain, "network backend `ovs` cannot join a namespace and a namespace; veth can");
        assert!(prefer_backend(HostNet, Tap, &backends, &veth).is_err());
    }

    #[test]
    fn order_of_the_ends_does_not_matter() {
        let name = plugin("x");
        for &low in PlaceKind::VARIANTS {
            for &high in PlaceKind::VARIANTS.iter().filter(|high| low <= **high) {
                let pairs = [(low, high)].into();
                let backends = [BackendFacts { name: &name, pairs: &pairs, switched: false }];
                for &a in PlaceKind::VARIANTS {
                    for &b in PlaceKind::VARIANTS {
                        let found = select_backend(a, b, &backends, None).is_ok();
                        assert_eq!(found, (a, b) == (low, high) || (b, a) == (low, high));
                    }
                }
            }
        }
    }
}
