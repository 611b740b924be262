//! What there is, as an omniscient observer sees it.

use std::collections::BTreeSet;

use lifecycle_core::name::{HostName, IfName, PluginName};
use lifecycle_engine::decide::invariant::{Census, SeenInstance, SeenLink};

use super::{HOST_NAMESPACE, Machine};

/// What is not ours: instances by host, provider and name; interfaces of hosts by host and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct Foreign {
    instances: BTreeSet<(HostName, PluginName, String)>,
    interfaces: BTreeSet<(HostName, u32, IfName, bool)>,
}

impl Machine {
    /// Everything that bears our mark.
    pub(in super::super) fn census(&self) -> Census {
        let mut census = Census::default();
        for host in self.hosts.values() {
            for ((provider, name), found) in host.instances.iter().filter(|(_, it)| !it.foreign) {
                census.instances.push(SeenInstance {
                    host: host.name.clone(),
                    provider: provider.clone(),
                    seen: host.observed(name, found),
                    by_hand: found.by_hand,
                });
            }
            for seen in host.marked(host.switch.as_ref(), |_| true) {
                census.links.push(SeenLink { host: host.name.clone(), backend: host.backends[0].clone(), seen });
            }
        }
        census
    }

    /// Everything that does not bear our mark, namespaces of nodes left out: what is in them goes with them.
    pub(in super::super) fn foreign(&self) -> Foreign {
        let mut foreign = Foreign::default();
        for host in self.hosts.values() {
            for ((provider, name), _) in host.instances.iter().filter(|(_, it)| it.foreign) {
                foreign.instances.insert((host.name.clone(), provider.clone(), name.clone()));
            }
            for (&(cookie, index), found) in &host.interfaces {
                if cookie == HOST_NAMESPACE && found.mark.is_none() {
                    foreign.interfaces.insert((host.name.clone(), index, found.name.clone(), found.up));
                }
            }
        }
        foreign
    }
}
