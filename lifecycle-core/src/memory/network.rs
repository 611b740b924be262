//! The reference network backend: the laws of [`NetworkBackend`] on plain maps.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_channel::mpsc;
use futures_core::stream::BoxStream;

use super::host::{HOST_NAMESPACE, Interface, MemoryHost, State, place};
use crate::attach::{AttachKind, AttachPoint, NsRef, PlaceKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::LinkId;
use crate::name::PluginName;
use crate::plugin::network::{
    EndIdentity, EndReport, LinkIdentity, LinkReport, LinkRequest, NetworkBackend, NetworkCapabilities, NetworkEvent,
    ObservedLink, ProbeResult,
};
use crate::policy::link::Side;
use crate::topology::{Admin, LinkAttrs};

/// The network backend of a machine in memory.
#[derive(Debug, Clone)]
pub struct MemoryNetwork {
    host: MemoryHost,
    name: PluginName,
}

impl MemoryNetwork {
    pub(super) fn new(host: MemoryHost) -> Self {
        let name = PluginName::new("memory").unwrap_or_else(|_| unreachable!("it is a valid name"));
        Self { host, name }
    }

    fn identity(&self, request: &LinkRequest, state: &State) -> Option<LinkIdentity> {
        let end = |point: &AttachPoint| {
            let (namespace, _) = place(point);
            let found = state.interfaces.get(&place(point))?;
            let ours = found.mark == Some((request.link, request.incarnation));
            let (ifindex, mac) = (found.ifindex, found.mac);
            let identity = EndIdentity { point: point.clone(), namespace, ifindex, mac, plugged: None };
            ours.then_some(identity)
        };
        Some(LinkIdentity {
            backend: self.name.clone(),
            link: request.link,
            incarnation: request.incarnation,
            boot: state.boot,
            a: end(&request.a)?,
            b: Some(end(&request.b)?),
            detail: BTreeMap::new(),
        })
    }
}

fn is_ours(interface: &Interface, link: LinkId) -> bool {
    interface.mark.is_some_and(|(marked, _)| marked == link)
}

/// Removes everything that bears the mark of a link.
fn remove(state: &mut State, link: LinkId) {
    let ours: Vec<Interface> = state.interfaces.values().filter(|it| is_ours(it, link)).cloned().collect();
    for interface in ours {
        state.drop_pair(&interface);
    }
}

fn refuse_what_cannot_be(attrs: &LinkAttrs) -> Result<()> {
    let wanted = [("rate", attrs.rate.is_some()), ("delay", attrs.delay.is_some()), ("loss", attrs.loss.is_some())];
    match wanted.iter().find(|(_, wanted)| *wanted) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("links in memory have no {name}");
            Err(Error::new(ErrorKind::Unsupported, "set link attributes", message))
        }
    }
}

#[async_trait]
impl NetworkBackend for MemoryNetwork {
    fn capabilities(&self) -> NetworkCapabilities {
        let pairs =
            BTreeSet::from([(PlaceKind::Namespace, PlaceKind::Namespace), (PlaceKind::Namespace, PlaceKind::HostNet)]);
        NetworkCapabilities { pairs, ..NetworkCapabilities::default() }
    }

    async fn initialize(&self) -> Result<()> {
        Ok(())
    }

    async fn cleanup(&self) -> Result<()> {
        Ok(())
    }

    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity> {
        refuse_what_cannot_be(&request.attrs)?;
        let mut state = self.host.lock();
        if let Some(identity) = self.identity(request, &state) {
            return Ok(identity);
        }
        for point in [&request.a, &request.b] {
            let taken = state.interfaces.get(&place(point)).is_some_and(|it| !is_ours(it, request.link));
            if taken {
                let message = "an interface that is not ours is there already";
                return Err(Error::new(ErrorKind::Foreign, "connect", message).about(&point.ifname));
            }
            if let AttachKind::Namespace(ns) = &point.place
                && ns.boot != state.boot
            {
                let message = "the namespace is of another boot";
                return Err(Error::new(ErrorKind::NotFound, "connect", message).about(&point.ifname));
            }
        }
        remove(&mut state, request.link);
        let (a, b) = (state.new_ifindex(), state.new_ifindex());
        let admin_up = request.attrs.admin == Admin::Up;
        for (point, ifindex, peer) in [(&request.a, a, b), (&request.b, b, a)] {
            let mark = Some((request.link, request.incarnation));
            let interface =
                Interface { ifindex, mac: point.mac, mtu: request.attrs.mtu, admin_up, peer: Some(peer), mark };
            state.interfaces.insert(place(point), interface);
        }
        let identity = self.identity(request, &state);
        identity.ok_or_else(|| Error::new(ErrorKind::Failed, "connect", "both ends are at one place"))
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        remove(&mut self.host.lock(), identity.link);
        Ok(())
    }

    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        refuse_what_cannot_be(attrs)?;
        let mut state = self.host.lock();
        for interface in state.interfaces.values_mut().filter(|it| is_ours(it, identity.link)) {
            interface.mtu = attrs.mtu;
            interface.admin_up = attrs.admin == Admin::Up;
        }
        Ok(())
    }

    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        let Some(end) = identity.end(side) else { return Ok(()) };
        let mut state = self.host.lock();
        match state.interfaces.get_mut(&place(&end.point)).filter(|it| it.ifindex == end.ifindex) {
            Some(interface) => {
                interface.admin_up = up;
                Ok(())
            }
            None => Err(Error::new(ErrorKind::NotFound, "set carrier", "the interface is gone").about(side)),
        }
    }

    async fn observe(&self, namespaces: &[NsRef]) -> Result<Vec<ObservedLink>> {
        let looked_at: BTreeSet<u64> = namespaces.iter().map(|ns| ns.cookie).chain([HOST_NAMESPACE]).collect();
        let state = self.host.lock();
        let mut found: BTreeMap<(LinkId, u64), ObservedLink> = BTreeMap::new();
        for ((cookie, name), interface) in &state.interfaces {
            let Some((link, incarnation)) = interface.mark.filter(|_| looked_at.contains(cookie)) else { continue };
            let seen = found.entry((link, incarnation)).or_insert_with(|| ObservedLink {
                link,
                incarnation: Some(incarnation),
                interfaces: Vec::new(),
            });
            seen.interfaces.push((*cookie, interface.ifindex, name.clone()));
        }
        Ok(found.into_values().collect())
    }

    async fn remove(&self, observed: &ObservedLink, _namespaces: &[NsRef]) -> Result<()> {
        let mut state = self.host.lock();
        let indexes: BTreeSet<u32> = observed.interfaces.iter().map(|(_, index, _)| *index).collect();
        let seen = |it: &&Interface| indexes.contains(&it.ifindex) && is_ours(it, observed.link);
        let ours: Vec<Interface> = state.interfaces.values().filter(seen).cloned().collect();
        for interface in ours {
            state.drop_pair(&interface);
        }
        Ok(())
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        let (sender, receiver) = mpsc::unbounded();
        self.host.lock().network_watchers.push(sender);
        Box::pin(receiver)
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        let state = self.host.lock();
        let find = |end: &EndIdentity| {
            state.interfaces.get(&place(&end.point)).filter(|it| it.ifindex == end.ifindex && it.mac == end.mac)
        };
        let a = find(&identity.a);
        let b = identity.b.as_ref().and_then(find);
        let joined = matches!((a, b), (Some(a), Some(b)) if a.peer == Some(b.ifindex) && b.peer == Some(a.ifindex));
        let carrier = joined && a.is_some_and(|a| a.admin_up) && b.is_some_and(|b| b.admin_up);
        let report = |found: Option<&Interface>| {
            let Some(found) = found else { return EndReport::default() };
            EndReport { intact: true, admin_up: found.admin_up, carrier, mtu: found.mtu, ..EndReport::default() }
        };
        let mut problems = Vec::new();
        for (side, found) in [(Side::A, a), (Side::B, b)] {
            match found {
                None => problems.push(format!("end {side} is gone or was made anew")),
                Some(found) if !found.admin_up => problems.push(format!("end {side} is set down")),
                Some(_) => {}
            }
        }
        let (a, b) = (report(a), identity.b.as_ref().map(|_| report(b)));
        Ok(LinkReport { a, b, joined, probe: ProbeResult::NotNeeded, problems })
    }
}
