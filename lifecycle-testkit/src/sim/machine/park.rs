//! How the backends with ports park the ends of a link: each end goes on to bear the mark of the link that it is parked for.

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::name::{IfName, PluginName};
use lifecycle_core::plugin::network::{EndMark, LinkIdentity};
use lifecycle_core::policy::link::Side;

use super::Host;
use super::network::HOST_NAMESPACE;
use super::switch::Change;

impl Host {
    /// Removes a link but for the ends that have an heir.
    pub(super) fn park(
        &mut self,
        plugin: &PluginName,
        identity: &LinkIdentity,
        heirs: [Option<EndMark>; 2],
    ) -> Result<()> {
        if !self.is_bridge(plugin) && !self.is_on_switch(plugin) {
            return Err(Error::new(ErrorKind::Unsupported, "park", "a cable has no ports").about(identity.link));
        }
        let mut parked = Vec::new();
        for (side, heir) in [Side::A, Side::B].into_iter().zip(heirs) {
            let Some((heir, end)) = heir.zip(identity.end(side)) else { continue };
            let found = self.end(end, identity).zip(self.port_of(identity, end));
            if let Some(((end, _), (port, at_port))) = found {
                parked.push((heir, end, (HOST_NAMESPACE, port), at_port.name.clone()));
            }
        }
        if self.is_on_switch(plugin) {
            self.isolate(parked.iter().map(|(heir, .., name)| (*heir, name.clone())).collect())?;
        }
        for (heir, end, port, _) in parked {
            for key in [end, port] {
                if let Some(interface) = self.interfaces.get_mut(&key) {
                    interface.mark = Some((heir.link, heir.incarnation));
                    if interface.port {
                        (interface.up, interface.bridged) = (false, false);
                    }
                }
            }
            self.tell_link(heir.link);
        }
        self.remove_by(plugin, identity.link, |n| n == identity.incarnation);
        self.tell_link(identity.link);
        Ok(())
    }

    /// Puts ports on segments of their own, under other marks.
    fn isolate(&mut self, ports: Vec<(EndMark, IfName)>) -> Result<()> {
        let mut changes: Vec<Change> = Vec::new();
        let mut given = Vec::new();
        for (heir, name) in ports {
            let switch = self.switch.clone().unwrap_or_default();
            if switch.port(&name).is_some() {
                let tag = switch.free_tag_but(&given)?;
                given.push(tag);
                changes.push(Change::Park(name, tag, (heir.link, heir.incarnation)));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.transact(&changes)?;
        self.await_switch()
    }
}
