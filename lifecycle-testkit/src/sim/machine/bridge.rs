//! What the network backend does that makes a Linux bridge for each link. Ends are pairs of interfaces like those on a
//! switch, of which a port says itself whether it is plugged into the bridge of its link.

use lifecycle_core::error::Result;
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::{EndIdentity, EndReport, LinkIdentity, LinkReport, LinkRequest, ProbeResult};

use super::Host;
use super::network::HOST_NAMESPACE;
use super::plug::report;

impl Host {
    /// Whether a backend is the one with bridges.
    pub(crate) fn is_bridge(&self, plugin: &PluginName) -> bool {
        *plugin == self.backends[1]
    }

    /// Whether a backend plugs its links into the switch.
    pub(crate) fn is_on_switch(&self, plugin: &PluginName) -> bool {
        self.switch.is_some() && !self.is_bridge(plugin)
    }

    /// Builds a link, or puts right what of it is not as it should be. Nothing of it remains where that fails.
    pub(super) fn bridge(
        &mut self,
        plugin: &PluginName,
        request: &LinkRequest,
        cookies: [u64; 2],
    ) -> Result<LinkIdentity> {
        self.drop_marked(request.link, |n| n != request.incarnation);
        let (names, pairs) = self.standing_pairs(request, cookies);
        let pairs = match self.whole_pairs(request, cookies, &names, pairs) {
            Ok(pairs) => pairs,
            Err(error) => {
                self.drop_marked(request.link, |_| true);
                return Err(error);
            }
        };
        for pair in pairs {
            if let Some(port) = self.interfaces.get_mut(&(HOST_NAMESPACE, pair.port)) {
                port.bridged = true;
            }
        }
        self.tell_link(request.link);
        Ok(self.identity(plugin, request, cookies, pairs.map(|pair| pair.end)))
    }

    /// Lets go of a link: what it was plugged into is gone, its ends stay.
    pub(super) fn release(&mut self, plugin: &PluginName, identity: &LinkIdentity) -> Result<()> {
        if self.is_on_switch(plugin) {
            self.unplug(identity.link, |n| n == identity.incarnation);
            return self.await_switch();
        }
        let mark = Some((identity.link, identity.incarnation));
        self.interfaces.values_mut().filter(|it| it.mark == mark).for_each(|it| it.bridged = false);
        self.tell_link(identity.link);
        Ok(())
    }

    /// Whether the bridge of a link has both its ports.
    pub(super) fn bridge_joins(&self, identity: &LinkIdentity) -> bool {
        identity.ends().all(|end| self.port_of(identity, end).is_some_and(|(_, port)| port.bridged))
    }

    /// Compares a link with its identity.
    pub(super) fn verify_on_bridge(&self, identity: &LinkIdentity) -> LinkReport {
        let mut problems = Vec::new();
        let mut read = |end: &EndIdentity| {
            let parts = self.end(end, identity).zip(self.port_of(identity, end));
            let Some(((_, found), (_, port))) = parts else {
                problems.push(format!("{} or its port is not what was built", end.point.ifname));
                return EndReport::default();
            };
            if found.tunnel.as_ref() != end.point.place.as_tunnel() || !port.bridged {
                problems.push(format!("the port of {} is not in the bridge, or leads elsewhere", end.point.ifname));
                return EndReport::default();
            }
            report(found, port)
        };
        let (a, b) = (read(&identity.a), identity.b.as_ref().map(&mut read));
        let joined = problems.is_empty();
        LinkReport { a, b, joined, probe: ProbeResult::NotNeeded, problems }
    }
}
