//! Building links: all of a link or nothing of it.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, LinkRequest, Shaping};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_core::topology::{Admin, MacvlanMode};
use lifecycle_crash::crash_point;
use lifecycle_linux::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, Link, NetlinkError, NewLink, Port, Veth, Which, change_link, create_dummy,
    create_ifb, create_macvlan, create_veth, delete_link,
};
use lifecycle_linux::wiring::bridge::{keep_quiet, pass_all};
use lifecycle_linux::wiring::label::{Label, Owner, owner};
use lifecycle_linux::wiring::shaping::slow_down;
use lifecycle_linux::wiring::{Failure, Outcome, Place, are_peers, is_finished};
use nix::errno::Errno;

use crate::detail;
use crate::worker::Worker;

/// One end to be made.
struct End<'a> {
    point: &'a AttachPoint,
    place: Rc<Place>,
    label: Label,
    /// Index of the bridge that it is to be a port of.
    master: Option<u32>,
    mtu: u32,
}

impl End<'_> {
    /// Whether it is a node's own interface.
    fn is_in_node(&self) -> bool {
        matches!(self.point.place, AttachKind::Namespace(_))
    }
}

/// How the ends come into being.
enum Birth {
    Veth,
    Macvlan { parents: Rc<Place>, parent: u32, mode: MacvlanMode },
    Dummy,
}

impl Worker {
    /// Builds a link, or finds that it stands already.
    pub(crate) fn connect(&mut self, request: &LinkRequest) -> Outcome<LinkIdentity> {
        self.refuse(&request.attrs)?;
        let (a, b) = (request.a.place.name(), request.b.place.name());
        let can = self.facts.capabilities();
        if !can.can_connect(a, b) {
            let why = [a, b].iter().find_map(|place| can.missing.get(&place.to_string()));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Failure::unsupported(format!("the veth backend cannot connect a {a} and a {b} here{why}")));
        }
        let points = [(&request.a, &request.b, Side::A), (&request.b, &request.a, Side::B)];
        let mut ends = Vec::new();
        let mut birth = Birth::Veth;
        let mut mtu = request.attrs.mtu;
        for (point, other, side) in points {
            match &point.place {
                AttachKind::Macvlan { parent, mode } => {
                    let parents = self.place(&AttachKind::HostNet, None)?;
                    let found = parents.link(Which::Name(parent))?.ok_or_else(|| {
                        Failure::new(ErrorKind::NotFound, format!("the host has no interface {parent}"))
                    })?;
                    // A child carries no larger frames than its parent.
                    mtu = mtu.min(found.mtu);
                    birth = Birth::Macvlan { parents, parent: found.index, mode: *mode };
                }
                AttachKind::Dummy => birth = Birth::Dummy,
                place => {
                    let place = self.place(place, Some(&other.place))?;
                    let label = Label::of(self.controller, request.mark(side));
                    ends.push(End { point, place, label, master: None, mtu });
                }
            }
        }
        ends.iter_mut().for_each(|end| end.mtu = mtu);
        if let [a, b] = &ends[..]
            && (a.place.cookie, &a.point.ifname) == (b.place.cookie, &b.point.ifname)
        {
            return Err(Failure::new(ErrorKind::InvalidInput, "both ends are one and the same interface"));
        }
        let built = self.build(request, &mut ends, &birth);
        if built.is_err() {
            for end in &ends {
                self.drop_empty_bridge(end.point, &end.place);
            }
        }
        built
    }

    fn build(&mut self, request: &LinkRequest, ends: &mut [End<'_>], birth: &Birth) -> Outcome<LinkIdentity> {
        for end in ends.iter_mut() {
            if let AttachKind::Bridge { bridge } = &end.point.place {
                end.master = Some(self.ensure_bridge(&end.place, bridge)?);
            }
        }
        let mut stands = false;
        match bear(ends, birth) {
            Ok(()) => {}
            Err(error) if error.is_exists() => {
                stands = self.make_way(ends)?;
                if !stands {
                    bear(ends, birth)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        crash_point("ends-made");
        let finished = self.finish(request, ends, stands);
        if finished.is_err() {
            self.undo(ends);
        }
        finished
    }

    /// Looks at what is in the way. Says whether it is the very link, whole; otherwise removes what older incarnations
    /// left, or refuses and changes nothing.
    fn make_way(&mut self, ends: &[End<'_>]) -> Outcome<bool> {
        let mut found = Vec::new();
        for end in ends {
            found.push(end.place.link(Which::Name(&end.point.ifname))?);
        }
        let mut same = true;
        for (end, link) in ends.iter().zip(&found) {
            let Some(link) = link else {
                same = false;
                continue;
            };
            let owner = owner(link, self.controller);
            owner.refuse_as(end.point.ifname.as_str(), &end.label)?;
            same &= match owner {
                Owner::End(label) => label == end.label,
                _ => link.mac == Some(end.point.mac),
            };
        }
        if same && self.is_whole(ends, &found)? {
            return Ok(true);
        }
        for (end, link) in ends.iter().zip(found) {
            if let Some(link) = link {
                self.delete(&end.place, link.index)?;
            }
        }
        Ok(false)
    }

    /// Whether what was found at all ends is one link.
    fn is_whole(&self, ends: &[End<'_>], found: &[Option<Link>]) -> Outcome<bool> {
        match (ends, found) {
            ([a, b], [Some(link_a), Some(link_b)]) => are_peers(&a.place, link_a, &b.place, link_b),
            ([_], [Some(_)]) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Reads the ends back, labels them and sets them up.
    ///
    /// They are read before they are set up: the kernel announces carrier a moment later, and reading would wait for that.
    /// Whether a link carries frames is for [`Worker::verify`] to say.
    fn finish(&mut self, request: &LinkRequest, ends: &[End<'_>], stands: bool) -> Outcome<LinkIdentity> {
        let mut links = Vec::new();
        for end in ends {
            let vanished = || Failure::new(ErrorKind::Conflict, "an end vanished while the link was being built");
            links.push(end.place.link(Which::Name(&end.point.ifname))?.ok_or_else(vanished)?);
        }
        if let ([a, b], [link_a, link_b]) = (ends, &links[..])
            && !are_peers(&a.place, link_a, &b.place, link_b)?
        {
            return Err(Failure::new(ErrorKind::Conflict, "an end was replaced while the link was being built"));
        }
        let (up, wanted) = (request.attrs.admin == Admin::Up, Shaping::of(&request.attrs));
        for (end, link) in ends.iter().zip(&mut links) {
            let which = Which::Index(link.index);
            if stands && end.is_in_node() && is_finished(link, end.label) {
                // From then on it is as its node wants it.
                continue;
            }
            let alias = end.label.to_string();
            let change = Change {
                up: Some(up),
                alias: Some(&alias),
                master: end.master,
                // What stands already may have been set otherwise.
                mtu: stands.then_some(end.mtu),
                ..Change::default()
            };
            if end.master.is_some() {
                keep_quiet(&end.place, which);
            }
            end.place.route(|route| route.run(change_link(which, &change)))?;
            if end.master.is_some() {
                pass_all(&end.place, which)?;
                link.port = Some(Port { forwarding: up, group_fwd_mask: BRIDGE_PORT_FORWARD_ALL });
            }
            if stands || wanted != Shaping::default() {
                slow_down(&end.place, link.index, &request.attrs)?;
                self.news.settle_shaping((end.place.cookie, link.index), wanted);
            }
            crash_point("end-finished");
            // What the kernel will announce of the end as it was left is no news.
            (link.admin_up, link.carrier, link.mtu, link.master) = (up, up, end.mtu, end.master);
        }
        Ok(self.identity(request, ends, &links))
    }

    fn identity(&self, request: &LinkRequest, ends: &[End<'_>], links: &[Link]) -> LinkIdentity {
        let mut details = BTreeMap::new();
        let mut identities = Vec::new();
        for (end, link) in ends.iter().zip(links) {
            self.news.settle(request.link, (end.place.cookie, link.index), link);
            identities.push(EndIdentity {
                point: end.point.clone(),
                namespace: end.place.cookie,
                ifindex: link.index,
                mac: end.point.mac,
                plugged: None,
            });
            if let Some(master) = end.master {
                details.insert(detail::bridge(end.label.side), master.to_string());
            }
            if link.kind.as_deref() == Some("ifb") {
                details.insert(detail::STAND_IN.to_owned(), "ifb".to_owned());
            }
        }
        if let [End { label: Label { side: Side::B, .. }, .. }] = ends {
            details.insert(detail::ONLY_SIDE.to_owned(), Side::B.to_string());
        }
        let mut identities = identities.into_iter();
        let a = identities.next().unwrap_or_else(|| unreachable!("a link has at least one end"));
        LinkIdentity {
            backend: crate::name(),
            link: request.link,
            incarnation: request.incarnation,
            boot: self.boot,
            a,
            b: identities.next(),
            detail: details,
        }
    }

    /// Removes what was made of a link that could not be finished.
    fn undo(&mut self, ends: &[End<'_>]) {
        for end in ends {
            let link = end.place.link(Which::Name(&end.point.ifname));
            let Ok(Some(link)) = link else { continue };
            let ours = match owner(&link, self.controller) {
                Owner::End(label) => label.link == end.label.link,
                Owner::Unlabelled => link.mac == Some(end.point.mac),
                Owner::Foreign | Owner::Bridge => false,
            };
            if ours && let Err(failure) = self.delete(&end.place, link.index) {
                // It bears the mark, so that collection finds it.
                tracing::warn!(link = %end.label.link, ?failure, "half a link could not be removed at once");
            }
        }
    }

    /// Deletes an interface by its index; one that is not there is fine.
    pub(crate) fn delete(&mut self, place: &Place, index: u32) -> Outcome<()> {
        self.news.forget((place.cookie, index));
        match place.route(|route| route.run(delete_link(Which::Index(index)))) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Makes the interfaces of all ends in one message, in their final places, not yet set up. A dummy has a
/// stand-in where the kernel lacks it.
fn bear(ends: &[End<'_>], birth: &Birth) -> Result<(), NetlinkError> {
    let link = |index: usize| {
        let end = &ends[index];
        NewLink {
            mac: Some(end.point.mac),
            mtu: Some(end.mtu),
            group: LINK_GROUP,
            ns: Some(end.place.ns.as_fd()),
            ..NewLink::new(&end.point.ifname)
        }
    };
    let home = &ends[0].place;
    match birth {
        Birth::Veth => {
            let veth = Veth { a: link(0), b: link(1) };
            home.route(|route| route.run(create_veth(&veth)))
        }
        Birth::Macvlan { parents, parent, mode } => {
            parents.route(|route| route.run(create_macvlan(&link(0), *parent, *mode)))
        }
        Birth::Dummy => match home.route(|route| route.run(create_dummy(&link(0)))) {
            Err(NetlinkError::Refused { errno: Errno::EOPNOTSUPP, .. }) => {
                home.route(|route| route.run(create_ifb(&link(0))))
            }
            result => result,
        },
    }
}
