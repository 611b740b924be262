//! What a network backend has of a link besides its ends: the bridge that they are plugged into. The ends of all backends
//! are alike, so that a link can go from one to the other.

use lifecycle_core::id::LinkId;
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::LinkIdentity;

use super::Host;

impl Host {
    /// Whether another backend has the ends of this incarnation of a link plugged in.
    pub(super) fn is_elsewhere(&self, plugin: &PluginName, link: LinkId, incarnation: u64) -> bool {
        self.segments.iter().any(|((other, it), n)| other != plugin && (*it, *n) == (link, incarnation))
    }

    /// Whether a backend has the bridge of a link as it was built.
    pub(super) fn has_segment(&self, identity: &LinkIdentity) -> bool {
        self.segments.get(&(identity.backend.clone(), identity.link)) == Some(&identity.incarnation)
    }

    /// Lets go of a link: its ends stay, and are free to be plugged in elsewhere.
    pub(super) fn release(&mut self, plugin: &PluginName, identity: &LinkIdentity) {
        let key = (plugin.clone(), identity.link);
        if self.segments.get(&key) == Some(&identity.incarnation) {
            self.segments.remove(&key);
            self.tell_link(identity.link);
        }
    }
}
