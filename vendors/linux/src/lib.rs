#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod environment;

use std::collections::BTreeMap;
use std::sync::Arc;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::name::{IfName, PluginName, PortName};
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::vendor::{KindData, Readiness, VendorAction, VendorContext};
use lifecycle_core::plugin::{VendorConfig, VendorPlugin};

/// The kind of plain Linux nodes.
pub const LINUX: &str = "linux";

/// The vendor as a plugin.
pub const PLUGIN: VendorPlugin = VendorPlugin { name: "linux", make: || Arc::new(Linux::new()) };

inventory::submit! { PLUGIN }

/// Plain Linux nodes and bridges.
#[derive(Debug)]
struct Linux {
    kinds: Vec<KindData>,
}

impl Linux {
    fn new() -> Self {
        let bridge = PluginName::new("bridge").ok();
        Self { kinds: vec![kind(LINUX, None), kind("bridge", bridge.clone()), kind("ovs-bridge", bridge)] }
    }
}

fn kind(name: &str, provider: Option<PluginName>) -> KindData {
    KindData {
        kind: name.to_owned(),
        aliases: Vec::new(),
        provider,
        readiness: Readiness::WhenRunning,
        start_timeout: None,
        env: BTreeMap::new(),
    }
}

impl VendorConfig for Linux {
    fn kinds(&self) -> &[KindData] {
        &self.kinds
    }

    fn interface(&self, _kind: &KindData, port: &PortName) -> Option<IfName> {
        IfName::new(port).ok()
    }

    fn port(&self, _kind: &KindData, interface: &IfName) -> Option<PortName> {
        PortName::new(interface).ok()
    }

    fn before_create(&self, kind: &KindData, request: &mut CreateNode) -> Result<()> {
        if kind.kind != LINUX {
            return Ok(());
        }
        if let Some(line) = request.spec.exec.iter().find(|line| shlex::split(line).is_none()) {
            let message = format!("the quotes of the `exec` line do not match: {line}");
            return Err(Error::new(ErrorKind::InvalidInput, "read exec lines", message).about(&request.name));
        }
        for (name, value) in environment::of(request) {
            request.spec.env.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn after_start(&self, _kind: &KindData, node: &VendorContext<'_>) -> Vec<VendorAction> {
        let words = node.spec.exec.iter().filter_map(|line| shlex::split(line));
        words.filter(|argv| !argv.is_empty()).map(|argv| VendorAction::Exec { argv }).collect()
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::name::NodeName;
    use lifecycle_core::topology::NodeSpec;

    use super::*;

    fn after_start(exec: &[&str]) -> Vec<Vec<String>> {
        let vendor = Linux::new();
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), LINUX);
        spec.exec = exec.iter().map(|line| (*line).to_owned()).collect();
        let actions = vendor.after_start(&vendor.kinds()[0], &VendorContext { spec: &spec, ends: &[] });
        actions.into_iter().map(|VendorAction::Exec { argv }| argv).collect()
    }

    #[test]
    fn exec_lines_are_split_into_words_and_keep_their_order() {
        let lines = ["ip address add 10.0.0.1/24 dev eth1", "sh -c \"echo 'a  b' > /tmp/x\"", "", "true"];
        let expected = [
            vec!["ip", "address", "add", "10.0.0.1/24", "dev", "eth1"],
            vec!["sh", "-c", "echo 'a  b' > /tmp/x"],
            vec!["true"],
        ];
        assert_eq!(after_start(&lines), expected);
    }

    #[test]
    fn ports_are_interfaces() {
        let vendor = Linux::new();
        let port = PortName::new("eth1").unwrap();
        let interface = vendor.interface(&vendor.kinds()[0], &port).unwrap();
        assert_eq!(interface.as_str(), "eth1");
        assert_eq!(vendor.port(&vendor.kinds()[0], &interface), Some(port));
        assert_eq!(vendor.interface(&vendor.kinds()[0], &PortName::new("ethernet-1/1").unwrap()), None);
    }
}
