//! The laws of vendors, tried on this one.

use std::process::ExitCode;

use lifecycle_testkit::laws;

fn main() -> ExitCode {
    laws::vendor::suite(lifecycle_vendor_linux::PLUGIN, &["eth1", "eth0", "ens3"]).run()
}
