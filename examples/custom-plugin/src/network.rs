//! The network backend `cable`: a link is a pair of named pipes, one in the directory of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lifecycle_core::attach::{AttachPoint, NsRef, PlaceKind};
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::*;
use lifecycle_core::plugin::{HostContext, NetworkBackend};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::{Admin, LinkAttrs};
use lifecycle_core::{Error, ErrorKind, Result};

use crate::end::{End, Mark};
use crate::files::{self, failed};
use crate::news;

/// The backend as a plugin.
pub const PLUGIN: NetworkPlugin = NetworkPlugin { name: "cable", make: |context| Ok(Cables::new(context)) };

inventory::submit! { PLUGIN }

#[derive(Debug)]
struct Cables {
    controller: ControllerId,
    /// Links that were built or verified, for those who watch. Losing them costs news, never truth.
    known: Mutex<BTreeMap<LinkId, LinkIdentity>>,
    /// For those who watch, who do not keep the backend alive.
    this: Weak<Self>,
}

fn sides(identity: &LinkIdentity) -> impl Iterator<Item = &EndIdentity> {
    [&identity.a].into_iter().chain(&identity.b)
}

impl Cables {
    fn new(context: &HostContext) -> Arc<Self> {
        let controller = context.controller;
        Arc::new_cyclic(|this| Self { controller, known: Mutex::default(), this: this.clone() })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<LinkId, LinkIdentity>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity of a link that stands as it is asked for.
    fn built(&self, request: &LinkRequest) -> Result<Option<LinkIdentity>> {
        let read = |point: &AttachPoint| -> Result<Option<EndIdentity>> {
            let end = End::at(point)?;
            let ours = |mark: &Mark| (mark.link, mark.incarnation) == (request.link, request.incarnation);
            Ok(end
                .mark(self.controller)
                .filter(|mark| ours(mark) && end.exists())
                .map(|mark| end.identity(&mark, point)))
        };
        let (Some(a), b @ Some(_)) = (read(&request.a)?, read(&request.b)?) else { return Ok(None) };
        let error = |cause| failed("connect", request.link, cause);
        Ok(Some(LinkIdentity {
            backend: PluginName::new(PLUGIN.name).map_err(|cause| error(io::Error::other(cause)))?,
            link: request.link,
            incarnation: request.incarnation,
            boot: files::boot().map_err(error)?,
            a,
            b,
            detail: BTreeMap::new(),
        }))
    }

    /// Builds a link. Both ends are made aside; neither exists before the second one has landed.
    fn build(&self, request: &LinkRequest, a: &End, b: &End) -> io::Result<()> {
        let up = request.attrs.admin == Admin::Up;
        for (end, peer, point) in [(a, b, &request.a), (b, a, &request.b)] {
            end.prepare(
                peer,
                &Mark {
                    controller: self.controller,
                    link: request.link,
                    incarnation: request.incarnation,
                    number: files::draw() as u32,
                    mac: point.mac,
                    mtu: request.attrs.mtu,
                    up,
                },
            )?;
        }
        a.land().and_then(|()| b.land()).inspect_err(|_| drop(a.remove()))?;
        a.plug(up).and_then(|()| b.plug(up))
    }

    /// Our ends in a place, with their marks; none when the place has gone, since it took everything with it.
    fn ours(&self, place: &NsRef) -> io::Result<Vec<(End, Mark)>> {
        let all = End::all(place)?.into_iter();
        Ok(all.filter_map(|end| end.mark(self.controller).map(|mark| (end, mark))).collect())
    }

    fn sweep(&self, places: &[NsRef], meant: impl Fn(&Mark) -> bool) -> io::Result<()> {
        for place in places {
            self.ours(place)?.iter().filter(|(_, mark)| meant(mark)).try_for_each(|(end, _)| end.remove())?;
        }
        Ok(())
    }

    /// An end, if what stands there is what was built.
    fn standing(&self, link: &LinkIdentity, wanted: &EndIdentity) -> Option<(End, Mark)> {
        let end = End::at(&wanted.point).ok()?;
        let mark = end.mark(self.controller)?;
        let same = (mark.link, mark.incarnation, mark.number, mark.mac)
            == (link.link, link.incarnation, wanted.ifindex, wanted.mac);
        (same && end.exists()).then_some((end, mark))
    }

    fn report(&self, identity: &LinkIdentity) -> LinkReport {
        let found: Vec<_> = sides(identity).map(|end| self.standing(identity, end)).collect();
        let joined = matches!(found.as_slice(), [Some((a, _)), Some((b, _))] if a.is_joined_to(b) && b.is_joined_to(a));
        let read = |found: &Option<(End, Mark)>| match found {
            None => EndReport::default(),
            Some((end, mark)) => EndReport {
                intact: true,
                admin_up: mark.up,
                carrier: joined && end.has_carrier(),
                mtu: mark.mtu,
                ..EndReport::default()
            },
        };
        let problem = |(side, found): (Side, &Option<(End, Mark)>)| match found {
            None => Some(format!("end {side} is gone or was made anew")),
            Some((_, mark)) if !mark.up => Some(format!("end {side} is set down")),
            Some(_) => None,
        };
        let problems = [Side::A, Side::B].into_iter().zip(&found).filter_map(problem).collect();
        LinkReport { a: read(&found[0]), b: found.get(1).map(read), joined, probe: ProbeResult::NotNeeded, problems }
    }

    /// Changes how the ends of a link are set, and plugs them in or out accordingly.
    fn change(&self, identity: &LinkIdentity, change: impl Fn(Side, &mut Mark)) -> Result<()> {
        let mut ends: Vec<_> = sides(identity).filter_map(|end| self.standing(identity, end)).collect();
        if ends.len() < 2 {
            return Err(Error::new(ErrorKind::NotFound, "change link", "an end is gone").about(identity.link));
        }
        for (side, (_, mark)) in [Side::A, Side::B].into_iter().zip(&mut ends) {
            change(side, mark);
        }
        let carrier = ends.iter().all(|(_, mark)| mark.up);
        let done = ends.iter().try_for_each(|(end, mark)| end.set(mark).and_then(|()| end.plug(carrier)));
        done.map_err(|cause| failed("change link", identity.link, cause))
    }
}

fn refuse_what_cannot_be(attrs: &LinkAttrs) -> Result<()> {
    let wanted = [("rate", attrs.rate.is_some()), ("delay", attrs.delay.is_some()), ("loss", attrs.loss.is_some())];
    let refuse = |name| Error::new(ErrorKind::Unsupported, "set link attributes", format!("a pipe has no {name}"));
    wanted.iter().find(|(_, wanted)| *wanted).map_or(Ok(()), |(name, _)| Err(refuse(name)))
}

#[async_trait]
impl NetworkBackend for Cables {
    fn capabilities(&self) -> NetworkCapabilities {
        let pairs = BTreeSet::from([(PlaceKind::Namespace, PlaceKind::Namespace)]);
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
        let (a, b) = (End::at(&request.a)?, End::at(&request.b)?);
        if self.built(request)?.is_none() {
            if let Some(end) = [&a, &b].into_iter().find(|end| end.is_taken(self.controller, request.link)) {
                let message = "something that is not ours is there already; move it away";
                return Err(Error::new(ErrorKind::Foreign, "connect", message).about(end));
            }
            let swept = [&a, &b].into_iter().try_for_each(End::remove);
            let built = swept.and_then(|()| self.build(request, &a, &b));
            built.map_err(|cause| failed("connect", request.link, cause))?;
        }
        let gone = || Error::new(ErrorKind::Failed, "connect", "it vanished while it was built").about(request.link);
        let identity = self.built(request)?.ok_or_else(gone)?;
        self.known().insert(identity.link, identity.clone());
        Ok(identity)
    }

    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()> {
        self.known().remove(&identity.link);
        let places: Vec<NsRef> = sides(identity).filter_map(|end| End::place(&end.point)).collect();
        let swept = self.sweep(&places, |mark| mark.link == identity.link);
        swept.map_err(|cause| failed("disconnect", identity.link, cause))
    }

    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()> {
        refuse_what_cannot_be(attrs)?;
        self.change(identity, |_, mark| (mark.mtu, mark.up) = (attrs.mtu, attrs.admin == Admin::Up))
    }

    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()> {
        self.change(identity, |end, mark| mark.up = if end == side { up } else { mark.up })
    }

    async fn observe(&self, namespaces: &[NsRef]) -> Result<Vec<ObservedLink>> {
        let mut found: BTreeMap<(LinkId, u64), ObservedLink> = BTreeMap::new();
        for place in namespaces {
            let ours = self.ours(place).map_err(|cause| failed("observe links", place.cookie, cause))?;
            for (end, Mark { link, incarnation, number, .. }) in ours {
                let new = ObservedLink { link, incarnation: Some(incarnation), interfaces: Vec::new() };
                let seen = found.entry((link, incarnation)).or_insert(new);
                seen.interfaces.extend(end.name().map(|name| (place.cookie, number, name)));
            }
        }
        Ok(found.into_values().collect())
    }

    async fn remove(&self, observed: &ObservedLink, namespaces: &[NsRef]) -> Result<()> {
        let seen = |mark: &Mark| observed.interfaces.iter().any(|(_, number, _)| *number == mark.number);
        let swept = self.sweep(namespaces, |mark| mark.link == observed.link && seen(mark));
        swept.map_err(|cause| failed("remove link", observed.link, cause))
    }

    fn watch(&self) -> BoxStream<'static, NetworkEvent> {
        let this = self.this.clone();
        let look = move || {
            let this = this.upgrade()?;
            let reports = this.known().iter().map(|(link, identity)| (*link, this.report(identity))).collect();
            Some(reports)
        };
        news::changes(look).map(NetworkEvent::Changed).boxed()
    }

    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport> {
        self.known().insert(identity.link, identity.clone());
        Ok(self.report(identity))
    }
}
