//! Ends at tunnels: a VXLAN device of the host that is a port of the link's bridge.

use lifecycle_core::attach::{AttachKind, Tunnel};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::netlink::{Link, NetlinkError, NewLink, Vxlan, Which, create_vxlan, redirect_vxlan};
use lifecycle_linux::wiring::{self, Failure, Outcome, Place, lower_of, refuse_tunnel, way_of};
use nix::errno::Errno;

use crate::stand::ends_of;
use crate::worker::Worker;

/// What a device must carry frames through to be the tunnel.
fn device(host: &Place, tunnel: &Tunnel) -> Outcome<Vxlan> {
    refuse_tunnel(tunnel)?;
    let range = |port: u16| {
        // The kernel takes the ports of a range without the last one.
        let end = port.checked_add(1).filter(|_| port != 0);
        end.map(|end| (port, end)).ok_or_else(|| {
            Failure::unsupported(format!("the kernel cannot send from UDP port {port}; choose another `source_port`"))
        })
    };
    Ok(Vxlan {
        vni: tunnel.vni,
        remote: Some(tunnel.remote),
        local: tunnel.local,
        port: tunnel.port,
        source_ports: tunnel.source_port.map_or(Ok((0, 0)), range)?,
        lower: lower_of(host, tunnel)?,
    })
}

/// What of a link's attributes holds for what leaves through the tunnel. Delay, jitter and loss meet what arrives at an
/// end, so that each way has them once: here, and at the far end. The rate holds here as well, so that what the far end
/// would drop is not sent.
fn of_what_leaves(attrs: &LinkAttrs) -> LinkAttrs {
    LinkAttrs { delay: None, jitter: None, loss: None, ..*attrs }
}

/// What of a link's attributes holds for what is sent to the end at a place.
pub(crate) fn sent_to(place: &AttachKind, attrs: &LinkAttrs) -> LinkAttrs {
    place.as_tunnel().map_or(*attrs, |_| of_what_leaves(attrs))
}

/// Makes the device of a tunnel.
pub(crate) fn bear(host: &Place, new: &NewLink<'_>, tunnel: &Tunnel) -> Outcome<()> {
    let vxlan = device(host, tunnel)?;
    host.route(|route| route.run(create_vxlan(new, &vxlan))).map_err(|error| refused(error, tunnel))
}

/// Why the kernel refused to make a tunnel's device, or to set it up.
pub(crate) fn refused(error: NetlinkError, tunnel: &Tunnel) -> Failure {
    let Tunnel { vni, port, .. } = tunnel;
    let message = match error.errno() {
        // Nothing has its name, or it would have been in the way; so it is the identifier.
        Some(Errno::EEXIST) => {
            format!("another VXLAN device of this host has the identifier {vni} at UDP port {port}")
        }
        Some(Errno::EADDRINUSE) => {
            format!(
                "something else on this host uses UDP port {port}, Open vSwitch perhaps; choose another for tunnels"
            )
        }
        _ => return error.into(),
    };
    Failure::caused(ErrorKind::Conflict, message, error)
}

/// Refuses a tunnel that the kernel made for shorter packets than the link is to pass.
pub(crate) fn refuse_shorter(device: &Link, mtu: u32) -> Outcome<()> {
    if device.mtu == mtu {
        return Ok(());
    }
    let message = format!("the tunnel passes packets of {} bytes at most, and the link's MTU is {mtu}", device.mtu);
    Err(Failure::new(ErrorKind::InvalidInput, message))
}

/// How a device differs from the tunnel that was built, if it does.
pub(crate) fn difference(host: &Place, link: &Link, tunnel: &Tunnel) -> Outcome<Option<String>> {
    let wanted = match device(host, tunnel) {
        Ok(wanted) => wanted,
        Err(failure) if failure.kind() == ErrorKind::NotFound => {
            return Ok(Some(format!("the interface that the tunnel {} goes out of is gone", link.name)));
        }
        Err(failure) => return Err(failure),
    };
    let now = match &link.vxlan {
        Some(now) if *now == wanted => return Ok(None),
        Some(now) => describe(now),
        None => "no tunnel".to_owned(),
    };
    Ok(Some(format!("{} is {now} instead of {}", link.name, describe(&wanted))))
}

/// Whether packets of a tunnel go anywhere.
pub(crate) fn has_way(host: &Place, tunnel: &Tunnel, problems: &mut Vec<String>) -> Outcome<bool> {
    let way = match way_of(host, tunnel) {
        Err(failure) if failure.kind() == ErrorKind::NotFound => None,
        way => way?,
    };
    if way.is_none() {
        problems.push(no_way(tunnel));
    }
    Ok(way.is_some())
}

fn no_way(tunnel: &Tunnel) -> String {
    let from = tunnel.local.map(|local| format!(" from {local}")).unwrap_or_default();
    format!("the host has no route{from} to {}, the far end of the tunnel", tunnel.remote)
}

fn describe(vxlan: &Vxlan) -> String {
    let address = |address: Option<std::net::IpAddr>| address.map_or_else(|| "any".to_owned(), |it| it.to_string());
    let Vxlan { vni, remote, local, port, .. } = vxlan;
    format!("the tunnel {vni} from {} to {} at UDP port {port}", address(*local), address(*remote))
}

impl Worker {
    /// Reads what tunnels go through.
    pub(crate) fn underlay(&mut self) -> Outcome<Underlay> {
        let host = self.places.host()?;
        wiring::underlay(&host, self.underlay.as_ref())
    }

    /// Leads a link's tunnel to other addresses while it stands.
    pub(crate) fn redirect(&mut self, identity: &LinkIdentity, to: &Tunnel) -> Outcome<LinkIdentity> {
        let side = [Side::A, Side::B].into_iter().zip(ends_of(identity)?);
        let mut tunnels = side.filter_map(|(side, end)| Some((side, end.point.place.as_tunnel()?)));
        let (side, from) =
            tunnels.next().ok_or_else(|| Failure::new(ErrorKind::InvalidInput, "the link has no tunnel"))?;
        wiring::refuse_other_tunnel(from, to)?;
        let mut stand = self.stand(identity)?;
        let missing = || Failure::new(ErrorKind::NotFound, "the tunnel does not stand as it was built");
        let (host, link) = stand.ends[side.index()].take().ok_or_else(missing)?;
        let wanted = device(&host, to)?;
        if way_of(&host, to)?.is_none() {
            return Err(Failure::new(ErrorKind::Failed, no_way(to)));
        }
        if link.vxlan != Some(wanted) {
            host.route(|route| route.run(redirect_vxlan(Which::Index(link.index), &wanted)))?;
        }
        let now = host.link(Which::Index(link.index))?.filter(|now| now.vxlan == Some(wanted)).ok_or_else(missing)?;
        self.news.settle(identity.link, (host.cookie, now.index), &now);
        let identity = identity.redirected(to);
        self.known.insert(identity.link, identity.clone());
        Ok(identity)
    }
}
