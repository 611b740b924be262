//! The names of all ports of a kind: ranges of numbered ones, and the management interface.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::vendor_names::{InvalidPortMap, PortMap};
use crate::name::{IfName, PortName};

/// Interface that leads to the management network, by the kernel's name.
const MANAGEMENT: &str = "eth0";
/// Ports of a range that are compared with those of others; no device has so many.
const COMPARED: u32 = 4096;

/// The names of all ports of a kind. Without a word about them, a port is called as its interface.
///
/// Different ports have different interfaces: ranges that share a port or an interface are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given")]
pub struct PortNames {
    ports: Vec<PortMap>,
    management: Option<PortName>,
}

/// Port names as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    ports: Vec<PortMap>,
    #[serde(default)]
    management: Option<PortName>,
}

impl TryFrom<Given> for PortNames {
    type Error = InvalidPortNames;

    fn try_from(given: Given) -> Result<Self, InvalidPortNames> {
        Self::new(given.ports, given.management)
    }
}

/// Port names cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPortNames {
    /// A range is wrong by itself.
    #[error(transparent)]
    Range(#[from] InvalidPortMap),
    /// Ranges of unknown size cannot be told apart.
    #[error("the ports `{0}` need a `count`, since there are several ranges")]
    Endless(String),
    /// Two ports have one name.
    #[error("two ranges have a port `{0}`")]
    SamePort(PortName),
    /// Two ports are one interface.
    #[error("two ports are the interface `{0}`; give one of them another `first`")]
    SameInterface(IfName),
}

impl PortNames {
    /// The names of the ports in these ranges, and the vendor's name for the management interface.
    ///
    /// # Errors
    /// When two ports would have one name or one interface.
    pub fn new(ports: Vec<PortMap>, management: Option<PortName>) -> Result<Self, InvalidPortNames> {
        let (mut names, mut interfaces) = (BTreeSet::new(), BTreeSet::new());
        for range in &ports {
            range.check()?;
            if let Some(name) = management.as_ref().filter(|name| range.index_of_port(name.as_str()).is_some()) {
                return Err(InvalidPortNames::SamePort(name.clone()));
            }
            if let Ok(name) = IfName::new(MANAGEMENT)
                && management.is_some()
                && range.index_of_interface(MANAGEMENT).is_some()
            {
                return Err(InvalidPortNames::SameInterface(name));
            }
            // A range by itself has no port twice.
            if ports.len() == 1 {
                break;
            }
            let Some(count) = range.count else {
                return Err(InvalidPortNames::Endless(range.template.to_string()));
            };
            let indices = 0..count.min(COMPARED);
            for (port, interface) in indices.map_while(|index| range.port_at(index).zip(range.interface_at(index))) {
                if !names.insert(port.clone()) {
                    return Err(InvalidPortNames::SamePort(port));
                }
                if !interfaces.insert(interface.clone()) {
                    return Err(InvalidPortNames::SameInterface(interface));
                }
            }
        }
        Ok(Self { ports, management })
    }

    /// The ranges of numbered ports.
    pub fn ranges(&self) -> &[PortMap] {
        &self.ports
    }

    /// The vendor's name for the management interface.
    pub fn management(&self) -> Option<&PortName> {
        self.management.as_ref()
    }

    /// The interface of a port; nothing when there is no such port.
    pub fn interface(&self, port: &PortName) -> Option<IfName> {
        if self.management.as_ref() == Some(port) {
            return IfName::new(MANAGEMENT).ok();
        }
        match self.ports.iter().find_map(|range| range.interface_at(range.index_of_port(port.as_str())?)) {
            Some(interface) => Some(interface),
            // What is none of the vendor's ports stands for itself, unless a port has that interface under another
            // name and this is not one of the names that it may be called by.
            None => IfName::new(port).ok().filter(|same| self.port(same).is_none_or(|port| self.may_be(same, &port))),
        }
    }

    /// The vendor's name for an interface; nothing when no port has it.
    pub fn port(&self, interface: &IfName) -> Option<PortName> {
        if let Some(management) = self.management.as_ref().filter(|_| interface.as_str() == MANAGEMENT) {
            return Some(management.clone());
        }
        let found = self.ports.iter().find_map(|range| range.port_at(range.index_of_interface(interface.as_str())?));
        let is_port = || {
            self.management.as_ref().is_some_and(|name| name.as_str() == interface.as_str())
                || self.ports.iter().any(|range| range.index_of_port(interface.as_str()).is_some())
        };
        match found {
            Some(port) => Some(port),
            None if is_port() => None,
            None => PortName::new(interface).ok(),
        }
    }

    /// Whether the name of an interface may stand for the port before it: not where ports are called like interfaces.
    fn may_be(&self, interface: &IfName, port: &PortName) -> bool {
        port.as_str() == interface.as_str()
            || !self.ports.iter().any(|range| {
                range.template == range.interface && range.index_of_interface(interface.as_str()).is_some()
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(text: &str) -> PortName {
        PortName::new(text).unwrap()
    }

    fn range(template: &'static str, start: u32, first: u32, count: u32) -> PortMap {
        PortMap { count: Some(count), ..PortMap::new(template, start, first) }
    }

    fn slots() -> PortNames {
        let ranges = vec![range("Ethernet0/{n}", 1, 1, 3), range("Ethernet1/{n}", 0, 4, 4)];
        PortNames::new(ranges, Some(port("Ethernet0/0"))).unwrap()
    }

    #[test]
    fn slots_follow_one_another() {
        let names = slots();
        for (name, interface) in [
            ("Ethernet0/0", Some("eth0")),
            ("Ethernet0/1", Some("eth1")),
            ("Ethernet0/3", Some("eth3")),
            ("Ethernet1/0", Some("eth4")),
            ("Ethernet1/3", Some("eth7")),
            ("Ethernet1/4", None),
            ("Ethernet0/4", None),
            ("eth4", Some("eth4")),
            ("eth9", Some("eth9")),
        ] {
            assert_eq!(names.interface(&port(name)).map(|it| it.to_string()).as_deref(), interface, "{name}");
        }
        assert_eq!(names.port(&IfName::new("eth4").unwrap()), Some(port("Ethernet1/0")));
        assert_eq!(names.port(&IfName::new("eth0").unwrap()), Some(port("Ethernet0/0")));
    }

    #[test]
    fn without_a_word_a_port_is_its_interface() {
        let names = PortNames::default();
        assert_eq!(names.interface(&port("eth1")).unwrap().as_str(), "eth1");
        assert_eq!(names.interface(&port("ethernet-1/1")), None);
        assert_eq!(names.port(&IfName::new("eth1").unwrap()), Some(port("eth1")));
    }

    #[test]
    fn interfaces_may_have_names_of_their_own() {
        let kernel = PortMap { interface: "e1-{n}".into(), ..PortMap::new("ethernet-1/{n}", 1, 1) };
        let names = PortNames::new(vec![kernel], Some(port("mgmt0"))).unwrap();
        assert_eq!(names.interface(&port("ethernet-1/3")).unwrap().as_str(), "e1-3");
        assert_eq!(names.interface(&port("e1-3")).unwrap().as_str(), "e1-3");
        assert_eq!(names.interface(&port("mgmt0")).unwrap().as_str(), "eth0");
        assert_eq!(names.port(&IfName::new("e1-3").unwrap()), Some(port("ethernet-1/3")));
    }

    #[test]
    fn what_would_merge_ports_is_refused() {
        let endless = PortNames::new(vec![PortMap::new("a{n}", 0, 1), range("b{n}", 0, 1, 1)], None);
        assert!(matches!(endless, Err(InvalidPortNames::Endless(_))));
        let ports = PortNames::new(vec![range("a{n}", 0, 1, 4), range("a{n}", 3, 9, 4)], None);
        assert_eq!(ports, Err(InvalidPortNames::SamePort(port("a3"))));
        let interfaces = PortNames::new(vec![range("a{n}", 0, 1, 4), range("b{n}", 0, 4, 4)], None);
        assert!(matches!(interfaces, Err(InvalidPortNames::SameInterface(_))));
        let management = PortNames::new(vec![range("a{n}", 0, 0, 4)], Some(port("m")));
        assert!(matches!(management, Err(InvalidPortNames::SameInterface(_))));
        let text = r#"{"ports": [{"template": "a"}]}"#;
        assert!(serde_json::from_str::<PortNames>(text).unwrap_err().to_string().contains("exactly once"));
    }

    fn names() -> impl Strategy<Value = PortNames> {
        let template = prop::sample::select(vec!["Ethernet{n}", "ge-0/0/{n}", "ge-0/1/{n}", "e1-{n}", "eth{n}", "{n}"]);
        let interface = prop::sample::select(vec!["eth{n}", "e1-{n}"]);
        let range = (template, 0u32..4, 1u32..4, 0u32..8, 1u32..6, interface).prop_map(
            |(template, start, step, first, count, interface)| PortMap {
                step,
                interface: interface.into(),
                ..range(template, start, first, count)
            },
        );
        let management = prop::option::of(prop::sample::select(vec!["Management0", "eth0", "e1-0"]));
        (prop::collection::vec(range, 0..3), management)
            .prop_filter_map("they merge ports", |(ports, name)| PortNames::new(ports, name.map(port)).ok())
    }

    fn any_port() -> impl Strategy<Value = PortName> {
        let spelling = prop::sample::select(vec!["Ethernet", "ge-0/0/", "ge-0/1/", "e1-", "eth", "eth0", "", "x"]);
        (spelling, 0u32..12).prop_map(|(prefix, n)| port(&format!("{prefix}{n}")))
    }

    proptest! {
        #[test]
        fn different_ports_have_different_interfaces(names in names(), p in any_port(), q in any_port()) {
            if let (Some(a), Some(b)) = (names.interface(&p), names.interface(&q)) {
                let alias = p.as_str() == a.as_str() || q.as_str() == b.as_str();
                prop_assert!(a != b || p == q || alias, "{p} and {q} are both {a}");
            }
        }

        #[test]
        fn there_and_back(names in names(), p in any_port()) {
            if let Some(interface) = names.interface(&p) {
                let back = names.port(&interface).unwrap();
                prop_assert!(back == p || p.as_str() == interface.as_str(), "{p} -> {interface} -> {back}");
                prop_assert_eq!(names.interface(&back), Some(interface));
            }
        }
    }
}
