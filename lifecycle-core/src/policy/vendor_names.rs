//! Between the port names of a vendor and the canonical names of interfaces, `ethN`.
//!
//! A vendor's ports follow a template with one number in it. To take "the first number" of any name instead would
//! merge `ge-0/0/0` with `ge-0/1/0`; here a name either has exactly the template's shape, or it stands for itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::name::{IfName, PortName};

/// Where the number stands in a template.
const NUMBER: &str = "{n}";

/// The usual name of an interface.
const CANONICAL: &str = "eth{n}";

/// The ports of a vendor: port `start + k · step` of the template is interface `first + k`, `eth1` for example.
///
/// Different ports have different interfaces. The one exception is meant: where the template is not itself that of the
/// interface, a user may call a port by the canonical name of its interface too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortMap {
    /// The vendor's name of a port with `{n}` for its number: `Ethernet{n}`, `ge-0/0/{n}`.
    pub template: Cow<'static, str>,
    /// Number of the vendor's first port.
    #[serde(default)]
    pub start: u32,
    /// Distance between the numbers of two ports, at least 1.
    #[serde(default = "one")]
    pub step: u32,
    /// Number of the interface that the first port is.
    #[serde(default = "one")]
    pub first: u32,
    /// How many ports there are; no limit when absent.
    #[serde(default)]
    pub count: Option<u32>,
    /// The kernel's name of an interface with `{n}` for its number.
    #[serde(default = "canonical")]
    pub interface: Cow<'static, str>,
}

fn one() -> u32 {
    1
}

fn canonical() -> Cow<'static, str> {
    Cow::Borrowed(CANONICAL)
}

/// The template of a port map cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPortMap {
    /// A template has one number.
    #[error(
        "`{0}` is no template for port names: it needs `{{n}}` exactly once, in a name of 1 to 50 printable characters"
    )]
    Template(String),
    /// A template of interfaces has one number.
    #[error("`{0}` is no template for interfaces: it needs `{{n}}` exactly once, in what the kernel takes as a name")]
    Interface(String),
    /// With a step of zero all ports would be one.
    #[error("the step between port numbers must be at least 1")]
    Step,
}

impl PortMap {
    /// A port map whose ports are numbered one by one.
    pub const fn new(template: &'static str, start: u32, first: u32) -> Self {
        let interface = Cow::Borrowed(CANONICAL);
        Self { template: Cow::Borrowed(template), start, step: 1, first, count: None, interface }
    }

    /// Checks a map that somebody wrote by hand. One that fails maps nothing but names to themselves.
    ///
    /// # Errors
    /// [`InvalidPortMap`], which says what is wrong.
    pub fn check(&self) -> Result<(), InvalidPortMap> {
        let template = self.template.as_ref();
        let once = |template: &str| shape(template).is_some_and(|(_, suffix)| !suffix.contains(NUMBER));
        if !once(template) || template.len() > 50 || PortName::new(template).is_err() {
            return Err(InvalidPortMap::Template(template.chars().take(80).collect()));
        }
        let interface = self.interface.as_ref();
        // Room for a number of four digits.
        if !once(interface) || IfName::new(interface.replace(NUMBER, "0000")).is_err() {
            return Err(InvalidPortMap::Interface(interface.chars().take(80).collect()));
        }
        if self.step == 0 { Err(InvalidPortMap::Step) } else { Ok(()) }
    }

    /// The interface of a port; nothing when the port is not one of the vendor's and the kernel does not take its
    /// name, or when it is the name of an interface that another port has.
    pub fn canonical(&self, port: &PortName) -> Option<IfName> {
        if let Some(index) = self.index_of_port(port.as_str()) {
            return self.interface_at(index);
        }
        let same = IfName::new(port).ok()?;
        let taken = self.template == self.interface && self.index_of_interface(same.as_str()).is_some();
        if taken { None } else { Some(same) }
    }

    /// The vendor's name for an interface; nothing when no port has this interface.
    pub fn vendor(&self, interface: &IfName) -> Option<PortName> {
        if let Some(index) = self.index_of_interface(interface.as_str()) {
            return self.port_at(index);
        }
        match self.index_of_port(interface.as_str()) {
            Some(_) => None,
            None => PortName::new(interface).ok(),
        }
    }

    /// The interface of the port with this index, counted from 0.
    pub(super) fn interface_at(&self, index: u32) -> Option<IfName> {
        let (prefix, suffix) = shape(&self.interface)?;
        IfName::new(format!("{prefix}{}{suffix}", self.first.checked_add(index)?)).ok()
    }

    /// The vendor's name for the port with this index, counted from 0.
    pub(super) fn port_at(&self, index: u32) -> Option<PortName> {
        let (prefix, suffix) = shape(&self.template)?;
        let number = self.start.checked_add(index.checked_mul(self.step)?)?;
        PortName::new(format!("{prefix}{number}{suffix}")).ok()
    }

    /// Which of the vendor's ports this is, counted from 0.
    pub(super) fn index_of_port(&self, text: &str) -> Option<u32> {
        let distance = number(between(text, &self.template)?)?.checked_sub(self.start)?;
        if distance.checked_rem(self.step)? == 0 { self.within(distance / self.step) } else { None }
    }

    /// Which of the vendor's ports has this interface, counted from 0.
    pub(super) fn index_of_interface(&self, text: &str) -> Option<u32> {
        self.within(number(between(text, &self.interface)?)?.checked_sub(self.first)?)
    }

    fn within(&self, index: u32) -> Option<u32> {
        Some(index).filter(|index| self.count.is_none_or(|count| *index < count))
    }
}

/// What stands before and after the number of a template.
fn shape(template: &str) -> Option<(&str, &str)> {
    template.split_once(NUMBER)
}

/// What stands where a template has its number.
fn between<'t>(text: &'t str, template: &str) -> Option<&'t str> {
    let (prefix, suffix) = shape(template)?;
    text.strip_prefix(prefix)?.strip_suffix(suffix)
}

/// A number as it is written: digits without leading zeros, so that one number has one text.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(text: &str) -> PortName {
        PortName::new(text).unwrap()
    }

    fn canonical(map: &PortMap, text: &str) -> Option<String> {
        map.canonical(&port(text)).map(|name| name.to_string())
    }

    #[test]
    fn known_vendors() {
        let map = PortMap::new("Ethernet{n}", 1, 1);
        assert_eq!(canonical(&map, "Ethernet1").as_deref(), Some("eth1"));
        assert_eq!(canonical(&map, "eth1").as_deref(), Some("eth1"));
        assert_eq!(canonical(&map, "eth0").as_deref(), Some("eth0"));
        assert_eq!(canonical(&map, "Ethernet0").as_deref(), Some("Ethernet0"));
        assert_eq!(canonical(&map, "Ethernet1/1").as_deref(), None);
        assert_eq!(map.vendor(&IfName::new("eth3").unwrap()), Some(port("Ethernet3")));
        let map = PortMap::new("ge-0/0/{n}", 0, 1);
        assert_eq!(canonical(&map, "ge-0/0/0").as_deref(), Some("eth1"));
        assert_eq!(canonical(&map, "ge-0/1/0"), None);
        assert_eq!(canonical(&map, "ge-0/0/00"), None);
        let map = PortMap::new("GigabitEthernet0/0/0/{n}", 0, 1);
        assert_eq!(canonical(&map, "GigabitEthernet0/0/0/4294967295"), None);
        let map = PortMap { step: 4, ..PortMap::new("Ethernet{n}", 0, 1) };
        assert_eq!(canonical(&map, "Ethernet8").as_deref(), Some("eth3"));
        assert_eq!(canonical(&map, "Ethernet9").as_deref(), Some("Ethernet9"));
    }

    #[test]
    fn unusable_maps_are_named() {
        for template in ["Ethernet", "{n}/{n}", "a b{n}", ""] {
            assert!(matches!(PortMap::new(template, 0, 0).check(), Err(InvalidPortMap::Template(_))), "{template}");
        }
        assert_eq!(PortMap { step: 0, ..PortMap::new("e{n}", 0, 0) }.check(), Err(InvalidPortMap::Step));
        assert_eq!(PortMap::new("e1-{n}", 1, 1).check(), Ok(()));
        for interface in ["eth", "{n}{n}", "a-very-long-one{n}", "a/{n}"] {
            let map = PortMap { interface: interface.into(), ..PortMap::new("e{n}", 0, 0) };
            assert!(matches!(map.check(), Err(InvalidPortMap::Interface(_))), "{interface}");
        }
    }

    /// How many of some ports of two cards get an interface that another one has.
    fn merged(interface_of: impl Fn(&PortName) -> Option<IfName>) -> usize {
        let ports = (0..2).flat_map(|card| (0..4).map(move |n| port(&format!("ge-0/{card}/{n}"))));
        let interfaces: Vec<IfName> = ports.filter_map(|port| interface_of(&port)).collect();
        interfaces.len() - interfaces.iter().collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn the_first_number_of_a_name_does_not_tell_ports_apart() {
        let first_number = |port: &PortName| {
            let number = port.as_str().split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
            IfName::new(format!("eth{number}")).ok()
        };
        assert_eq!(merged(first_number), 7);
        let map = PortMap::new("ge-0/0/{n}", 0, 1);
        assert_eq!(merged(|port| map.canonical(port)), 0);
    }

    fn map() -> impl Strategy<Value = PortMap> {
        let templates =
            ["Ethernet{n}", "ge-0/0/{n}", "GigabitEthernet0/0/0/{n}", "e1-{n}", "eth{n}", "{n}", "et{n}h", "e{n}"];
        let interfaces = prop::sample::select(vec!["eth{n}", "e1-{n}", "e{n}"]);
        let count = prop::option::of(0u32..6);
        let numbers = (0u32..5, 1u32..5, 0u32..5, count);
        (prop::sample::select(templates.to_vec()), numbers, interfaces).prop_map(
            |(template, (start, step, first, count), interface)| PortMap {
                step,
                count,
                interface: interface.into(),
                ..PortMap::new(template, start, first)
            },
        )
    }

    fn any_port() -> impl Strategy<Value = PortName> {
        let templates =
            ["Ethernet{n}", "ge-0/0/{n}", "ge-0/1/{n}", "e1-{n}", "eth{n}", "eth0{n}", "{n}", "e{n}", "et{n}h"];
        (prop::sample::select(templates.to_vec()), 0u32..12)
            .prop_map(|(template, n)| port(&template.replace("{n}", &n.to_string())))
    }

    proptest! {
        #[test]
        fn different_ports_have_different_interfaces(map in map(), p in any_port(), q in any_port()) {
            if let (Some(a), Some(b)) = (map.canonical(&p), map.canonical(&q)) {
                let alias = p.as_str() == a.as_str() || q.as_str() == b.as_str();
                prop_assert!(a != b || p == q || alias, "{p} and {q} are both {a}");
            }
        }

        #[test]
        fn there_and_back(map in map(), p in any_port()) {
            if let Some(interface) = map.canonical(&p) {
                let back = map.vendor(&interface).unwrap();
                prop_assert!(back == p || p.as_str() == interface.as_str(), "{p} -> {interface} -> {back}");
                prop_assert_eq!(map.canonical(&back), Some(interface));
            }
            if let Some(vendor) = IfName::new(&p).ok().and_then(|interface| map.vendor(&interface)) {
                prop_assert_eq!(map.canonical(&vendor).map(|name| name.to_string()), Some(p.to_string()));
            }
        }
    }
}
