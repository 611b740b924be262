//! What the network backend of a host does: pairs of interfaces that are each other's peers, as the kernel has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsAccess, NsRef, Tunnel};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::{IfName, PluginName};
use lifecycle_core::plugin::network::{
    EndIdentity, EndReport, LinkIdentity, LinkReport, LinkRequest, ObservedLink, ProbeResult, Shaping,
};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use lifecycle_engine::decide::News;

use super::mistakes::Mistake;
use super::switch::Switch;
use super::{Host, missing};

/// Cookie of the host's own network namespace.
pub(crate) const HOST_NAMESPACE: u64 = 1;

/// The interface of each host that is not ours and is always there.
pub(crate) const UPLINK: &str = "uplink";

/// One interface.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interface {
    pub(crate) name: IfName,
    pub(crate) mac: Mac,
    pub(crate) up: bool,
    /// Where it leads, for one that stands at a tunnel.
    pub(crate) tunnel: Option<Tunnel>,
    /// It is a port, and no end of a link.
    pub(crate) port: bool,
    /// It is plugged into the Linux bridge of its link.
    pub(crate) bridged: bool,
    /// Its other end.
    pub(crate) peer: Option<(u64, u32)>,
    /// The link and incarnation that it bears the mark of; none for what is not ours.
    pub(crate) mark: Option<(LinkId, u64)>,
    pub(crate) attrs: LinkAttrs,
    /// The call that last set them: of attributes the later call stands, though an earlier one come late.
    pub(crate) set_by: u64,
}

impl Interface {
    /// Whether somebody made it, so that it ends with the boot, unlike a card of the machine.
    pub(super) fn is_made(&self) -> bool {
        self.name.as_str() != UPLINK
    }
}

pub(super) fn conflict(operation: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Conflict, operation, message)
}

/// Refuses a name that something has already.
pub(super) fn is_free(there: Option<(u32, &Interface)>, name: &IfName) -> Result<()> {
    match there {
        None => Ok(()),
        Some((_, found)) if found.mark.is_none() => {
            let message = "an interface of this name is there and not ours";
            Err(Error::new(ErrorKind::Foreign, "connect", message).about(name))
        }
        Some(_) => Err(conflict("connect", "another link ends here").about(name)),
    }
}

/// There is always something that a backend cannot do.
fn refuse_rate(operation: &'static str, attrs: &LinkAttrs) -> Result<()> {
    match attrs.rate {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Unsupported, operation, "links here have no rate")),
    }
}

impl Host {
    pub(super) fn namespace(&self, cookie: u64) -> NsRef {
        NsRef { access: NsAccess::Path { path: format!("{}/{cookie}", self.name).into() }, cookie, boot: self.boot }
    }

    pub(super) fn new_cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie
    }

    pub(super) fn new_ifindex(&mut self) -> u32 {
        self.next_ifindex += 1;
        self.next_ifindex
    }

    fn cookie_of(&self, point: &AttachPoint) -> Result<u64> {
        match &point.place {
            AttachKind::Namespace(ns) => {
                let lives = self.instances.values().any(|it| it.cookie == ns.cookie);
                let found = lives && ns.boot == self.boot;
                found.then_some(ns.cookie).ok_or_else(|| missing("enter namespace", ns.cookie))
            }
            _ => Ok(HOST_NAMESPACE),
        }
    }

    pub(super) fn at(&self, cookie: u64, name: &IfName) -> Option<(u32, &Interface)> {
        let inside = self.interfaces.range((cookie, 0)..=(cookie, u32::MAX));
        inside.map(|(&(_, index), found)| (index, found)).find(|(_, found)| found.name == *name)
    }

    pub(super) fn connect(&mut self, plugin: &PluginName, request: &LinkRequest) -> Result<LinkIdentity> {
        refuse_rate("connect", &request.attrs)?;
        let cookies = [self.cookie_of(&request.a)?, self.cookie_of(&request.b)?];
        let points = [&request.a, &request.b];
        let newer = |it: &Interface| it.mark.is_some_and(|(link, n)| link == request.link && n > request.incarnation);
        if self.interfaces.values().any(newer) {
            return Err(conflict("connect", "a newer incarnation is there"));
        }
        if let Some(tunnel) = [&request.a, &request.b].into_iter().find_map(|point| point.place.as_tunnel()) {
            *self.counted.entry(tunnel.remote).or_default() += 1;
        }
        if self.is_bridge(plugin) {
            return self.bridge(plugin, request, cookies);
        }
        if self.switch.is_some() {
            return self.plug(plugin, request, cookies);
        }
        let mark = Some((request.link, request.incarnation));
        let found = |side: usize| self.at(cookies[side], &points[side].ifname).filter(|(_, it)| it.mark == mark);
        if let (Some((a, _)), Some((b, _))) = (found(0), found(1)) {
            return Ok(self.identity(plugin, request, cookies, [a, b]));
        }
        self.remove_marked(request.link, |_| true);
        for side in [0, 1] {
            is_free(self.at(cookies[side], &points[side].ifname), &points[side].ifname)?;
        }
        let indexes = [self.new_ifindex(), self.new_ifindex()];
        for side in [0, 1] {
            let interface = Interface {
                name: points[side].ifname.clone(),
                mac: points[side].mac,
                up: request.attrs.admin == Admin::Up,
                tunnel: points[side].place.as_tunnel().cloned(),
                port: false,
                bridged: false,
                peer: Some((cookies[1 - side], indexes[1 - side])),
                mark,
                attrs: request.attrs,
                set_by: self.call,
            };
            self.interfaces.insert((cookies[side], indexes[side]), interface);
        }
        self.tell_link(request.link);
        Ok(self.identity(plugin, request, cookies, indexes))
    }

    pub(super) fn identity(
        &self,
        plugin: &PluginName,
        request: &LinkRequest,
        cookies: [u64; 2],
        indexes: [u32; 2],
    ) -> LinkIdentity {
        let end = |side: usize, point: &AttachPoint| EndIdentity {
            point: point.clone(),
            namespace: cookies[side],
            ifindex: indexes[side],
            mac: point.mac,
            plugged: None,
        };
        LinkIdentity {
            backend: plugin.clone(),
            link: request.link,
            incarnation: request.incarnation,
            boot: self.boot,
            a: end(0, &request.a),
            b: Some(end(1, &request.b)),
            detail: BTreeMap::new(),
        }
    }

    pub(super) fn disconnect(&mut self, plugin: &PluginName, identity: &LinkIdentity) {
        if let Some(users) = identity.tunnel().and_then(|tunnel| self.counted.get_mut(&tunnel.remote)) {
            *users = users.saturating_sub(1);
        }
        self.remove_by(plugin, identity.link, |_| true);
    }

    pub(super) fn remove_link(&mut self, plugin: &PluginName, observed: &ObservedLink) {
        self.remove_by(plugin, observed.link, |n| observed.incarnation.is_none_or(|wanted| n == wanted));
    }

    /// Removes what a backend knows of a link: bridges know nothing of the switch.
    pub(super) fn remove_by(&mut self, plugin: &PluginName, link: LinkId, incarnation: impl Fn(u64) -> bool + Copy) {
        match self.is_bridge(plugin) {
            true => self.drop_marked(link, incarnation),
            false => self.remove_marked(link, incarnation),
        }
    }

    /// Removes all that bears the mark of a link, ports of the switch first.
    pub(super) fn remove_marked(&mut self, link: LinkId, incarnation: impl Fn(u64) -> bool + Copy) {
        self.unplug(link, incarnation);
        self.drop_marked(link, incarnation);
    }

    pub(super) fn drop_marked(&mut self, link: LinkId, incarnation: impl Fn(u64) -> bool) {
        let ours = |it: &Interface| it.mark.is_some_and(|(marked, n)| marked == link && incarnation(n));
        let keys: Vec<_> = self.interfaces.iter().filter(|(_, it)| ours(it)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.drop_pair(key));
    }

    /// Removes an interface with its other end.
    pub(super) fn drop_pair(&mut self, key: (u64, u32)) {
        let Some(gone) = self.interfaces.remove(&key) else { return };
        let other = gone.peer.and_then(|peer| self.interfaces.remove(&peer));
        for interface in [Some(gone), other].into_iter().flatten() {
            if let Some((link, _)) = interface.mark {
                self.tell_link(link);
            }
        }
    }

    pub(super) fn drop_namespace(&mut self, cookie: u64) {
        let inside: Vec<_> = self.interfaces.range((cookie, 0)..=(cookie, u32::MAX)).map(|(key, _)| *key).collect();
        let marks: BTreeSet<_> = inside.iter().filter_map(|key| self.interfaces.get(key)?.mark).collect();
        inside.into_iter().for_each(|key| self.drop_pair(key));
        // The kernel leaves what is at the other end of a switch or bridge; the backend hears of it and sees to that.
        marks.into_iter().for_each(|(link, n)| self.remove_marked(link, |other| other == n));
    }

    /// An end of a link as it stands.
    pub(super) fn end(&self, end: &EndIdentity, identity: &LinkIdentity) -> Option<((u64, u32), &Interface)> {
        let key = (end.namespace, end.ifindex);
        let found = self.interfaces.get(&key)?;
        let same = found.mac == end.mac && found.name == end.point.ifname;
        let its = found.mark == Some((identity.link, identity.incarnation));
        (identity.boot == self.boot && same && its).then_some((key, found))
    }

    pub(super) fn set_params(&mut self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        refuse_rate("set attributes", attrs)?;
        let ends: Option<Vec<_>> = [Some(&identity.a), identity.b.as_ref()]
            .into_iter()
            .flatten()
            .map(|end| self.end(end, identity).map(|(key, _)| key))
            .collect();
        let mut keys = ends.ok_or_else(|| missing("set attributes", identity.link))?;
        let peers: Vec<_> = keys.iter().filter_map(|key| self.interfaces.get(key)?.peer).collect();
        keys.extend(peers.into_iter().filter(|peer| self.interfaces.get(peer).is_some_and(|it| it.port)));
        let call = self.call;
        for key in keys {
            if let Some(interface) = self.interfaces.get_mut(&key).filter(|interface| interface.set_by <= call) {
                interface.set_by = call;
                // What took its carrier is not undone by an attribute.
                if interface.attrs.admin != attrs.admin {
                    interface.up = attrs.admin == Admin::Up;
                }
                interface.attrs = *attrs;
            }
        }
        self.tell_link(identity.link);
        Ok(())
    }

    pub(super) fn set_carrier(&mut self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        if self.is_bridge(&identity.backend) || self.switch.is_some() {
            return self.set_carrier_at_port(identity, side, up);
        }
        let found = identity.end(side).and_then(|end| self.end(end, identity)).map(|(key, _)| key);
        let key = found.ok_or_else(|| missing("set carrier", identity.link))?;
        if let Some(interface) = self.interfaces.get_mut(&key) {
            interface.up = up && interface.attrs.admin == Admin::Up;
        }
        self.tell_link(identity.link);
        Ok(())
    }

    pub(super) fn observe_links(&self, plugin: &PluginName, namespaces: &[NsRef]) -> Vec<ObservedLink> {
        let inside = |cookie| namespaces.iter().any(|ns| ns.cookie == cookie && ns.boot == self.boot);
        let switch = self.switch.as_ref().filter(|_| !self.is_bridge(plugin));
        self.marked(switch, |cookie| cookie == HOST_NAMESPACE || inside(cookie))
    }

    /// Everything that bears our mark in namespaces of which `seen` holds, and in a switch; ports as links without ends.
    pub(super) fn marked(&self, switch: Option<&Switch>, seen: impl Fn(u64) -> bool) -> Vec<ObservedLink> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (_, port) in switch.into_iter().flat_map(Switch::ports) {
            found.entry(port.mark).or_default();
        }
        for (&(cookie, index), interface) in &self.interfaces {
            if let Some(mark) = interface.mark.filter(|_| seen(cookie)) {
                let ends = found.entry(mark).or_default();
                if !interface.port {
                    ends.push((cookie, index, interface.name.clone()));
                }
            }
        }
        let links = found.into_iter();
        links.map(|((link, n), interfaces)| ObservedLink { link, incarnation: Some(n), interfaces }).collect()
    }

    pub(super) fn verify(&self, identity: &LinkIdentity) -> LinkReport {
        if self.is_bridge(&identity.backend) {
            return self.verify_on_bridge(identity);
        }
        if self.switch.is_some() {
            return self.verify_on_switch(identity);
        }
        let mut problems = Vec::new();
        let mut read = |end: &EndIdentity| match self.end(end, identity) {
            None => {
                problems.push(format!("{} is not what was built", end.point.ifname));
                EndReport::default()
            }
            Some((_, found)) if found.tunnel.as_ref() != end.point.place.as_tunnel() => {
                problems.push(format!("{} leads elsewhere", end.point.ifname));
                EndReport::default()
            }
            Some((_, found)) => {
                let peer = found.peer.and_then(|peer| self.interfaces.get(&peer));
                let carrier = found.up && peer.is_some_and(|peer| peer.up);
                EndReport {
                    intact: true,
                    admin_up: found.up,
                    carrier,
                    mtu: found.attrs.mtu,
                    shaping: Some(Shaping::of(&found.attrs)),
                    port: None,
                }
            }
        };
        let (a, b) = (read(&identity.a), identity.b.as_ref().map(&mut read));
        let peer = |end: &EndIdentity| self.end(end, identity).and_then(|(_, found)| found.peer);
        let joined = identity
            .b
            .as_ref()
            .is_none_or(|b| peer(&identity.a) == Some((b.namespace, b.ifindex)) && peer(b).is_some());
        if !joined {
            problems.push("the ends are not each other's peers".to_owned());
        }
        LinkReport { a, b, joined, probe: ProbeResult::NotNeeded, problems }
    }

    /// Whether frames pass from end to end of what was built, whatever anybody believes.
    pub(crate) fn carries(&self, identity: &LinkIdentity) -> bool {
        let stands = |end: &EndIdentity| {
            let found = self.end(end, identity).map(|(_, found)| found);
            let peer_up =
                |it: &Interface| it.peer.is_none_or(|peer| self.interfaces.get(&peer).is_some_and(|peer| peer.up));
            let tunnel_stands =
                |it: &Interface| it.tunnel.as_ref().is_none_or(|it| self.tunnels().contains(&it.remote));
            found.is_some_and(|it| it.up && peer_up(it) && tunnel_stands(it))
        };
        let peer = |end: &EndIdentity| self.end(end, identity).and_then(|(_, found)| found.peer);
        let joined = match &self.switch {
            _ if self.is_bridge(&identity.backend) => self.bridge_joins(identity),
            Some(_) => self.switch_joins(identity),
            None => identity.b.as_ref().is_some_and(|b| peer(&identity.a) == Some((b.namespace, b.ifindex))),
        };
        joined && identity.ends().all(stands)
    }

    /// What something of a link leads through to another host.
    pub(crate) fn tunnels_needed(&self) -> BTreeSet<IpAddr> {
        self.interfaces.values().filter_map(|it| Some(it.tunnel.as_ref()?.remote)).collect()
    }

    /// The hosts to which a tunnel stands: one for each that is needed.
    pub(crate) fn tunnels(&self) -> BTreeSet<IpAddr> {
        match self.is_at_fault(Mistake::CountsTunnels) {
            true => self.counted.iter().filter(|(_, users)| **users > 0).map(|(remote, _)| *remote).collect(),
            false => self.tunnels_needed(),
        }
    }

    /// What tunnels of the host go through. Each is an interface of the host that is named after its identifier.
    pub(super) fn underlay(&self) -> Underlay {
        let host = self.interfaces.range((HOST_NAMESPACE, 0)..=(HOST_NAMESPACE, u32::MAX));
        let vnis = host.filter_map(|(_, it)| it.name.as_str().strip_prefix("vni")?.parse().ok()).collect();
        Underlay { address: Some(self.address), mtu: self.packet, vnis }
    }

    pub(super) fn redirect(&mut self, identity: &LinkIdentity, to: &Tunnel) -> Result<LinkIdentity> {
        let ends: Option<Vec<_>> = identity.ends().map(|end| Some(self.end(end, identity)?.0)).collect();
        for key in ends.ok_or_else(|| missing("redirect", identity.link))? {
            if let Some(tunnel) = self.interfaces.get_mut(&key).and_then(|it| it.tunnel.as_mut()) {
                *tunnel = to.clone();
            }
        }
        Ok(identity.redirected(to))
    }

    pub(crate) fn tell_link(&mut self, link: LinkId) {
        let told = self.backends.iter().map(|backend| (backend.clone(), News::Link(link)));
        self.news.extend(told);
    }
}
