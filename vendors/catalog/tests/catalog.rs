//! Every kind of the catalogue is known by its names, and its ports are the right interfaces.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use lifecycle_core::name::{IfName, PortName};
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::vendor::{KindData, Machine, Readiness, SaveMethod, StartupMethod};
use lifecycle_vendor_catalog::PLUGIN;

/// A kind's name, its ports, their number that is tried, and the interface of the first: `None` for ports that are
/// called as their interfaces. Then the management interface, if it has a name.
type Row = (&'static str, Option<(&'static str, u32, u32, u32)>, &'static str, Option<&'static str>);

/// Names, first number, distance and count of ports, as the vendors' and containerlab's documents have them.
const KINDS: [Row; 39] = [
    ("vyos", None, "eth0", None),
    ("cisco_iosxr", Some(("GigabitEthernet0/0/0/{n}", 0, 1, 8)), "eth1", Some("MgmtEth0/RP0/CPU0/0")),
    ("cisco_xrd", Some(("GigabitEthernet0/0/0/{n}", 0, 1, 8)), "eth1", Some("MgmtEth0/RP0/CPU0/0")),
    ("cisco_iosv", Some(("GigabitEthernet0/{n}", 0, 1, 8)), "eth1", None),
    ("iosvl2", Some(("GigabitEthernet0/{n}", 0, 1, 4)), "eth1", None),
    ("iol-xe", Some(("Ethernet0/{n}", 1, 1, 3)), "eth1", Some("Ethernet0/0")),
    ("iol-l2", Some(("Ethernet1/{n}", 0, 1, 4)), "eth4", Some("Ethernet0/0")),
    ("cisco_csr1000v", Some(("GigabitEthernet{n}", 2, 1, 8)), "eth1", None),
    ("juniper_crpd", None, "eth0", None),
    ("juniper_vsrx3", Some(("ge-0/0/{n}", 0, 1, 8)), "eth1", Some("fxp0")),
    ("juniper_vjunosrouter", Some(("ge-0/0/{n}", 0, 1, 12)), "eth1", Some("fxp0")),
    ("juniper_vjunosevolved", Some(("et-0/0/{n}", 0, 1, 12)), "eth1", None),
    ("juniper_cjunos", Some(("et-0/0/{n}", 0, 1, 12)), "eth1", None),
    ("ceos", Some(("Ethernet{n}", 1, 1, 12)), "eth1", Some("Management0")),
    ("nokia_srlinux", Some(("ethernet-1/{n}", 1, 1, 12)), "e1-1", Some("mgmt0")),
    ("cvx", None, "swp1", None),
    ("sonic-vs", Some(("Ethernet{n}", 0, 4, 12)), "eth1", None),
    ("juniper_vjunosswitch", Some(("ge-0/0/{n}", 0, 1, 12)), "eth1", Some("fxp0")),
    ("cisco_n9kv", Some(("Ethernet1/{n}", 1, 1, 12)), "eth1", Some("mgmt0")),
    ("f5_bigip", Some(("1.{n}", 1, 1, 8)), "eth1", Some("mgmt")),
    ("haproxy", None, "eth0", None),
    ("citrix_adc", Some(("0/{n}", 1, 1, 8)), "eth1", None),
    ("cisco_asav", Some(("GigabitEthernet0/{n}", 0, 1, 10)), "eth1", Some("Management0/0")),
    ("fortinet_fortigate", Some(("port{n}", 2, 1, 10)), "eth1", None),
    ("paloalto_vmseries", Some(("ethernet1/{n}", 1, 1, 10)), "eth1", Some("management")),
    ("alpine", None, "eth0", None),
    ("tcl", None, "eth0", None),
    ("frr", None, "eth0", None),
    ("windows", Some(("Ethernet{n}", 0, 1, 4)), "eth1", None),
    ("c8000v", Some(("GigabitEthernet{n}", 2, 1, 12)), "eth1", None),
    ("cat-sdwan-controller", None, "eth0", None),
    ("cat-sdwan-manager", None, "eth0", None),
    ("cat-sdwan-validator", None, "eth0", None),
    ("cat-sdwan-vedge", Some(("ge0/{n}", 0, 1, 8)), "eth1", None),
    ("ftdv", Some(("GigabitEthernet0/{n}", 0, 1, 10)), "eth1", Some("Management0/0")),
    ("fmcv", None, "eth0", None),
    ("cat9800", Some(("GigabitEthernet{n}", 2, 1, 4)), "eth1", None),
    ("cat9000v-q200", Some(("GigabitEthernet1/0/{n}", 1, 1, 24)), "eth1", Some("GigabitEthernet0/0")),
    ("cat9000v-uadp", Some(("GigabitEthernet1/0/{n}", 1, 1, 24)), "eth1", Some("GigabitEthernet0/0")),
];

fn vendor() -> Arc<dyn VendorConfig> {
    (PLUGIN.make)()
}

fn kind<'a>(vendor: &'a dyn VendorConfig, name: &str) -> &'a KindData {
    vendor.kinds().iter().find(|kind| kind.names().any(|known| known == name)).unwrap_or_else(|| panic!("no {name}"))
}

fn port(text: &str) -> PortName {
    PortName::new(text).unwrap()
}

/// The names of interfaces that follow one another: `eth1`, `eth2` and so on.
fn following(first: &str, count: u32) -> Vec<IfName> {
    let digits = first.len() - first.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (prefix, number) = first.split_at(first.len() - digits);
    let number: u32 = number.parse().unwrap();
    (number..number + count).map(|number| IfName::new(format!("{prefix}{number}")).unwrap()).collect()
}

#[test]
fn every_port_is_its_interface_and_back() {
    let vendor = vendor();
    let mut seen = BTreeSet::new();
    for (name, ports, first, management) in KINDS {
        let kind = kind(&*vendor, name);
        assert!(seen.insert(kind.kind.clone()), "{name}");
        let mut interfaces = BTreeSet::new();
        let (template, start, step, count) = ports.unwrap_or((first, 0, 1, 1));
        for (index, interface) in (0..count).zip(following(first, count)) {
            let port = port(&template.replace("{n}", &(start + index * step).to_string()));
            assert_eq!(vendor.interface(kind, &port).as_ref(), Some(&interface), "{name}: {port}");
            assert_eq!(vendor.port(kind, &interface), Some(port), "{name}: {interface}");
            // Whoever writes the interface's own name means the same port.
            let alias = PortName::new(&interface).unwrap();
            assert_eq!(vendor.interface(kind, &alias).as_ref(), Some(&interface), "{name}: {alias}");
            assert!(interfaces.insert(interface));
        }
        assert_eq!(kind.interfaces.management().map(PortName::as_str), management, "{name}");
        if let Some(management) = management {
            let interface = vendor.interface(kind, &port(management)).unwrap();
            assert_eq!(interface.as_str(), "eth0", "{name}");
            assert_eq!(vendor.port(kind, &interface), Some(port(management)), "{name}");
        }
    }
    assert_eq!(seen.len(), vendor.kinds().len(), "a kind is not in the table");
}

#[test]
fn slots_of_four_follow_one_another() {
    let vendor = vendor();
    for (name, port_name, interface) in [
        ("iol-xe", "Ethernet0/3", "eth3"),
        ("iol-xe", "Ethernet1/0", "eth4"),
        ("iol-l2", "Ethernet7/3", "eth31"),
        ("iosvl2", "GigabitEthernet1/0", "eth5"),
        ("iosvl2", "GigabitEthernet3/3", "eth16"),
    ] {
        let kind = kind(&*vendor, name);
        assert_eq!(vendor.interface(kind, &port(port_name)).unwrap().as_str(), interface);
        assert_eq!(vendor.port(kind, &IfName::new(interface).unwrap()), Some(port(port_name)));
    }
    assert_eq!(vendor.interface(kind(&*vendor, "iol-xe"), &port("Ethernet0/4")), None);
}

#[test]
fn containerlab_calls_them_so_too() {
    let vendor = vendor();
    for (name, same) in [
        ("arista_ceos", "ceos"),
        ("cisco_asav", "cisco_asav"),
        ("cisco_c8000v", "c8000v"),
        ("cisco_cat9kv", "cat9000v-q200"),
        ("cisco_csr1000v", "csr"),
        ("cisco_ftdv", "ftdv"),
        ("cisco_iol", "iol-xe"),
        ("cisco_n9kv", "n9kv"),
        ("cisco_vios", "iosv"),
        ("cisco_xrd", "xrd"),
        ("cisco_xrv9k", "iosxr"),
        ("cumulus_cvx", "cvx"),
        ("f5_bigip-ve", "f5_bigip"),
        ("fortinet_fortigate", "fortinet_fortigate"),
        ("juniper_cjunosevolved", "cjunos"),
        ("juniper_crpd", "crpd"),
        ("juniper_vjunosevolved", "vjunosevolved"),
        ("juniper_vjunosrouter", "vjunosrouter"),
        ("juniper_vjunosswitch", "vjunosswitch"),
        ("juniper_vsrx", "juniper_vsrx3"),
        ("nokia_srlinux", "srl"),
        ("paloalto_panos", "paloalto_vmseries"),
        ("sonic-vm", "sonic-vs"),
        ("vyosnetworks_vyos", "vyos"),
    ] {
        assert_eq!(kind(&*vendor, name).kind, kind(&*vendor, same).kind);
    }
}

#[test]
fn what_is_known_of_a_kind_is_there() {
    let vendor = vendor();
    let kinds = vendor.kinds();
    let by_log = kinds.iter().filter(|kind| matches!(kind.readiness, Readiness::Log { .. })).count();
    assert_eq!((by_log, kinds.len() - by_log), (31, 8));
    assert!(kinds.iter().all(|kind| !kind.label.is_empty() && !kind.forms.is_empty()));
    let ceos = kind(&*vendor, "ceos");
    assert_eq!(ceos.progress.iter().map(|mark| mark.percent).collect::<Vec<_>>(), [10, 30, 50, 70, 90]);
    assert!(ceos.interface_wait.as_ref().unwrap().script.contains("exec /sbin/init") && ceos.stagger == 5);
    assert_eq!(ceos.options["zerotouchCancel"].default, "true");
    assert_eq!(ceos.save.as_ref().unwrap().command, ["FastCli", "-p", "15", "-c", "show running-config"]);
    assert_eq!(ceos.machine, None);
    let xr = kind(&*vendor, "cisco_iosxr");
    assert_eq!(xr.startup_config.as_ref().unwrap().method, StartupMethod::Iso);
    assert_eq!(xr.save.as_ref().unwrap().method, SaveMethod::Serial);
    assert_eq!(
        (xr.resources.memory, xr.machine.unwrap().reserved_nics, xr.machine.unwrap().serial_ports),
        (Some(20480), 2, 4)
    );
    assert_eq!(kind(&*vendor, "tcl").machine, Some(Machine::default()));
    assert_eq!(kinds.iter().filter_map(|kind| kind.resources.memory).max(), Some(32768));
}
