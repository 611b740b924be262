//! The laws of [`VendorConfig`].

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::{IfName, LabName, NodeName, PortName};
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::vendor::KindData;
use lifecycle_core::plugin::vendor::VendorContext;
use lifecycle_core::plugin::{VendorConfig, VendorPlugin};
use lifecycle_core::topology::{Endpoint, NodeSpec};

use super::{Suite, Verdict};

/// The laws of a vendor. `ports` are names of ports that at least one of its kinds has, `Ethernet1/1` for example; the
/// usual spellings with many numbers are tried besides.
pub fn suite(plugin: VendorPlugin, ports: &'static [&'static str]) -> Suite {
    let mut suite = Suite::new();
    macro_rules! laws {
        ($($law:ident),* $(,)?) => {$(
            suite = suite.law(format!("{}::vendor::{}", plugin.name, stringify!($law)), async move || {
                $law(&*(plugin.make)(), ports)
            });
        )*};
    }
    laws!(kinds_are_distinct, given_ports_exist, port_names_map_injectively, hooks_are_pure);
    let again = plugin;
    suite.law(format!("{}::vendor::making_it_twice_makes_the_same", plugin.name), async move || {
        assert_eq!((again.make)().kinds(), (again.make)().kinds());
        Ok(())
    })
}

fn kinds_are_distinct(vendor: &dyn VendorConfig, _ports: &[&str]) -> Verdict {
    assert!(!vendor.kinds().is_empty(), "a vendor without kinds");
    let mut seen = BTreeSet::new();
    for kind in vendor.kinds() {
        for name in kind.names() {
            assert!(seen.insert(name.to_owned()), "`{name}` names two kinds");
            assert!(!name.is_empty() && !name.chars().any(char::is_uppercase), "`{name}` is not in lower case");
        }
    }
    Ok(())
}

fn given_ports_exist(vendor: &dyn VendorConfig, ports: &[&str]) -> Verdict {
    for port in ports {
        let port = PortName::new(port).expect("a port's name");
        let known = vendor.kinds().iter().any(|kind| vendor.interface(kind, &port).is_some());
        assert!(known, "no kind has a port {port}");
    }
    Ok(())
}

fn port_names_map_injectively(vendor: &dyn VendorConfig, ports: &[&str]) -> Verdict {
    for kind in vendor.kinds() {
        let mut taken: BTreeMap<IfName, PortName> = BTreeMap::new();
        for port in candidates(ports).chain(of_kind(kind)) {
            let Some(interface) = vendor.interface(kind, &port) else { continue };
            let back = vendor.port(kind, &interface);
            if back.as_ref() != Some(&port) && port.as_str() == interface.as_str() {
                // The name of an interface may stand for its port; then the port has that interface.
                let port = back.unwrap_or_else(|| panic!("{}: {interface} is no port's", kind.kind));
                assert_eq!(vendor.interface(kind, &port), Some(interface), "{}: {port}", kind.kind);
                continue;
            }
            assert_eq!(back.as_ref(), Some(&port), "{}: {port} is {interface}, which is another port", kind.kind);
            if let Some(other) = taken.insert(interface.clone(), port.clone()) {
                assert_eq!(other, port, "{}: {other} and {port} share {interface}", kind.kind);
            }
        }
    }
    Ok(())
}

fn hooks_are_pure(vendor: &dyn VendorConfig, ports: &[&str]) -> Verdict {
    for kind in vendor.kinds() {
        for port in candidates(ports) {
            assert_eq!(vendor.interface(kind, &port), vendor.interface(kind, &port));
        }
        let ask = || {
            let mut request = request(kind);
            let error = vendor.before_create(kind, &mut request).err().map(|error| error.chain());
            (request, error)
        };
        assert_eq!(ask(), ask(), "{}: before_create", kind.kind);
        let spec = request(kind).spec;
        let end = Endpoint::node(spec.name.clone(), IfName::new("eth1").expect("an interface's name"));
        let ends: Vec<_> = end.as_node().into_iter().collect();
        let node = VendorContext { spec: &spec, ends: &ends };
        assert_eq!(vendor.after_start(kind, &node), vendor.after_start(kind, &node), "{}: after_start", kind.kind);
    }
    Ok(())
}

fn request(kind: &KindData) -> CreateNode {
    let lab = LabName::new("laws").expect("a lab's name");
    let spec = NodeSpec::new(NodeName::new("n1").expect("a node's name"), &kind.kind);
    let request = CreateNode::new(NodeId::from_u64(1), (LabId::from_u64(1), lab), "laws-n1", spec);
    CreateNode { interfaces: 2, ..request }
}

/// The ports that the kind's data name, many of each range.
fn of_kind(kind: &KindData) -> impl Iterator<Item = PortName> {
    let names = kind.interfaces.ranges().iter().flat_map(|range| {
        let last = range.count.unwrap_or(130).min(130);
        (0..last).filter_map(|index| {
            let number = index.checked_mul(range.step)?.checked_add(range.start)?;
            PortName::new(range.template.replace("{n}", &number.to_string())).ok()
        })
    });
    names.chain(kind.interfaces.management().cloned())
}

/// Names to try: those that were given, and the usual spellings with many numbers.
fn candidates(ports: &[&str]) -> impl Iterator<Item = PortName> {
    const PREFIXES: [&str; 12] = [
        "eth",
        "Eth",
        "Ethernet",
        "ethernet",
        "ethernet-1/",
        "e1-",
        "ge-0/0/",
        "ge-0/1/",
        "xe-0/0/",
        "et-0/0/",
        "GigabitEthernet",
        "GigabitEthernet0/0/",
    ];
    let numbered = PREFIXES.into_iter().flat_map(|prefix| {
        let slots = (0..4).flat_map(move |slot| (0..4).map(move |port| format!("{prefix}{slot}/{port}")));
        (0..70).map(move |number| format!("{prefix}{number}")).chain(slots).chain([format!("{prefix}01")])
    });
    let given: Vec<_> = ports.iter().map(|port| (*port).to_owned()).collect();
    given.into_iter().chain(numbered).map(|name| PortName::new(name).expect("a port's name"))
}
