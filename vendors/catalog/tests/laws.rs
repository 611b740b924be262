//! The laws of vendors, tried on all of this crate.

use std::process::ExitCode;

use lifecycle_testkit::laws;

/// One port of every way to call them.
const PORTS: [&str; 20] = [
    "eth1",
    "swp1",
    "1.1",
    "0/1",
    "Ethernet1",
    "Ethernet0/1",
    "Ethernet7/3",
    "Ethernet1/1",
    "ethernet1/1",
    "ethernet-1/1",
    "e1-1",
    "et-0/0/0",
    "ge-0/0/0",
    "ge0/0",
    "GigabitEthernet1",
    "GigabitEthernet0/0",
    "GigabitEthernet1/0/1",
    "GigabitEthernet0/0/0/0",
    "MgmtEth0/RP0/CPU0/0",
    "port1",
];

fn main() -> ExitCode {
    laws::vendor::suite(lifecycle_vendor_catalog::PLUGIN, &PORTS).run()
}
