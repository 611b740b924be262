//! Finding what is to be removed of links.

use lifecycle_core::attach::NsRef;
use lifecycle_core::plugin::network::{LinkIdentity, ObservedLink};
use lifecycle_linux::netlink::Which;
use lifecycle_linux::wiring::label::{Owner, nameless, owner};
use lifecycle_linux::wiring::{Doomed, Outcome, are_peers};

use crate::worker::Worker;

impl Worker {
    /// Finds what is left of a link.
    pub(crate) fn doom(&mut self, identity: &LinkIdentity) -> Outcome<Vec<Doomed>> {
        let mut ends = self.standing_ends(identity)?;
        for (_, place, link) in &ends {
            self.news.forget((place.cookie, link.index));
        }
        if let [(_, place_a, link_a), (_, place_b, link_b)] = &ends[..]
            && are_peers(place_a, link_a, place_b, link_b)?
        {
            // The kernel deletes both with one.
            ends.truncate(1);
        }
        ends.iter().map(|(_, place, link)| Doomed::new(&self.places, place, link)).collect()
    }

    /// Finds what is left of something that was observed.
    pub(crate) fn doom_observed(&mut self, observed: &ObservedLink, namespaces: &[NsRef]) -> Outcome<Vec<Doomed>> {
        let mut doomed = Vec::new();
        for place in self.all_places(namespaces)? {
            for (_, index, _) in observed.interfaces.iter().filter(|(cookie, ..)| *cookie == place.cookie) {
                let Some(link) = place.link(Which::Index(*index))? else { continue };
                let is_it = match owner(&link, self.controller) {
                    Owner::End(label) => label.link == observed.link,
                    Owner::Unlabelled => nameless(&link) == Some(observed.link),
                    Owner::Foreign | Owner::Bridge => false,
                };
                if is_it {
                    self.news.forget((place.cookie, link.index));
                    doomed.push(Doomed::new(&self.places, &place, &link)?);
                }
            }
        }
        Ok(doomed)
    }
}
