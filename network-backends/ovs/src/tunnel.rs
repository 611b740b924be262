//! Ends at tunnels: a port of type `vxlan`, on the segment of its link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use lifecycle_core::attach::{AttachPoint, Tunnel};
use lifecycle_core::error::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{EndIdentity, EndReport, LinkIdentity, SwitchPort};
use lifecycle_core::plugin::overlay::Underlay;
use lifecycle_core::policy::link::Side;
use lifecycle_linux::netlink::{Address, Route, Which};
use lifecycle_linux::wiring::label::Label;
use lifecycle_linux::wiring::{self, Failure, Outcome, Place, refuse_tunnel, way_of};
use serde_json::json;

use crate::detail::PortIdentity;
use crate::ovsdb::{Operation, Replica, map};
use crate::switch::{Draft, Port, is_bridge_in_userspace};
use crate::worker::Worker;

/// The switch's word for such an interface.
pub(crate) const VXLAN: &str = "vxlan";
/// The port where the switch sends to when nothing else is said.
const DEFAULT_PORT: &str = "4789";

/// What the database says of a tunnel.
pub(crate) type Options = BTreeMap<String, String>;

/// What the database must say for an interface to be the tunnel.
pub(crate) fn options(tunnel: &Tunnel) -> Outcome<Options> {
    refuse_tunnel(tunnel)?;
    let cannot = [("source_port", tunnel.source_port.is_some()), ("parent", tunnel.parent.is_some())];
    if let Some((name, _)) = cannot.iter().find(|(_, asked)| *asked) {
        return Err(Failure::unsupported(format!("the ovs backend cannot set `{name}` of a tunnel; leave it out")));
    }
    let mut options = Options::from([
        ("key".to_owned(), tunnel.vni.to_string()),
        ("remote_ip".to_owned(), tunnel.remote.to_string()),
        ("dst_port".to_owned(), tunnel.port.to_string()),
    ]);
    options.extend(tunnel.local.map(|local| ("local_ip".to_owned(), local.to_string())));
    if tunnel.remote.is_ipv6() {
        // Without a checksum no other kernel takes them.
        options.insert("csum".to_owned(), "true".to_owned());
    }
    Ok(options)
}

/// Tunnels of the switch, ours and others', as the name of each with its identifier and UDP port.
fn all(db: &Replica) -> impl Iterator<Item = (&str, u32, &str)> {
    db.rows("Interface").filter(|(_, row)| row.text("type") == Some(VXLAN)).filter_map(|(_, row)| {
        let options = row.map("options");
        let key = options.get("in_key").or_else(|| options.get("key"))?;
        let vni = match key.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => key.parse().ok()?,
        };
        Some((row.text("name")?, vni, options.get("dst_port").copied().unwrap_or(DEFAULT_PORT)))
    })
}

/// Refuses a tunnel whose identifier something else in the switch has.
fn refuse_taken(db: &Replica, label: &Label, tunnel: &Tunnel) -> Outcome<()> {
    let (own, port) = (label.port_name(), tunnel.port.to_string());
    match all(db).find(|(name, vni, at)| (*vni, *at) == (tunnel.vni, &port) && *name != own.as_str()) {
        Some((name, vni, _)) => Err(taken(vni, &port, name)),
        None => Ok(()),
    }
}

fn taken(vni: u32, port: &str, name: &str) -> Failure {
    let message = format!("the interface {name} of the switch has the VXLAN identifier {vni} at UDP port {port}");
    Failure::new(ErrorKind::Conflict, message)
}

impl Draft {
    /// Adds a port that is a tunnel, provided that nothing else has the tunnel's identifier.
    pub(crate) fn add_tunnel(
        &mut self,
        db: &Replica,
        bridge: &IfName,
        label: &Label,
        tag: u32,
        tunnel: &Tunnel,
    ) -> Outcome<()> {
        refuse_taken(db, label, tunnel)?;
        let (vni, port) = (tunnel.vni.to_string(), tunnel.port.to_string());
        // Also what others commit at this moment, or this very transaction does.
        let which = [
            ("type", "==", json!(VXLAN)),
            ("options", "includes", map([("key", vni.as_str()), ("dst_port", port.as_str())])),
        ];
        self.push(Operation::wait("Interface", &which, &["name"], &[]));
        let name = label.port_name();
        let interface = json!({ "name": name.as_str(), "type": VXLAN, "options": map(options(tunnel)?) });
        self.add_port_as(bridge, (&name, label), tag, interface, None);
        Ok(())
    }
}

impl Worker {
    /// Reads what tunnels go through.
    pub(crate) fn underlay(&mut self) -> Outcome<Underlay> {
        let switch = self.switch()?;
        let mut underlay = wiring::underlay(&switch, self.underlay.as_ref())?;
        underlay.vnis.extend(self.current_client()?.read(|db| all(db).map(|(_, vni, _)| vni).collect::<BTreeSet<_>>()));
        if let Some(address) = underlay.address {
            let addresses = switch.route(|route| route.addresses())?;
            let index = addresses.iter().find(|it| it.net.addr() == address).map(|it| it.index);
            if let Some(why) = index.map(|index| self.why_not_out_of(&switch, index)).transpose()?.flatten() {
                return Err(Failure::unsupported(why));
            }
        }
        Ok(underlay)
    }

    /// Refuses a tunnel that the switch would send nowhere, or from where the far end does not expect it.
    pub(crate) fn refuse_astray(&mut self, tunnel: &Tunnel) -> Outcome<()> {
        let switch = self.switch()?;
        match way_of(&switch, tunnel)? {
            Some(way) => self.why_astray(&switch, &way, tunnel)?.map_or(Ok(()), |why| Err(Failure::unsupported(why))),
            None => Ok(()),
        }
    }

    /// Why the switch does not send this tunnel as it was asked to. The kernel's does; one in user space finds the address
    /// to send from by itself.
    fn why_astray(&mut self, switch: &Place, way: &Route, tunnel: &Tunnel) -> Outcome<Option<String>> {
        if let Some(why) = self.why_not_out_of(switch, way.interface)? {
            return Ok(Some(why));
        }
        let Some(local) = tunnel.local.filter(|_| self.userspace) else { return Ok(None) };
        let addresses = switch.route(|route| route.addresses())?;
        let source = source_in_userspace(&addresses, way, tunnel.remote);
        Ok(source.filter(|source| *source != local).map(|source| {
            format!(
                "the userspace datapath of Open vSwitch sends tunnels to {} from {source} and not from {local}, which the far \
                 end would not take: choose {source} with the setting `underlay`, or take it off its interface",
                tunnel.remote
            )
        }))
    }

    /// Why the switch sends nothing out of the interface with this index: in user space it uses only its own bridges.
    fn why_not_out_of(&mut self, switch: &Place, index: u32) -> Outcome<Option<String>> {
        let Some(link) = switch.link(Which::Index(index))?.filter(|_| self.userspace) else { return Ok(None) };
        if self.client()?.read(|db| is_bridge_in_userspace(db, &link.name)) {
            return Ok(None);
        }
        let name = link.name;
        Ok(Some(format!(
            "the userspace datapath of Open vSwitch sends tunnels only out of its own bridges, and the way out of this host \
             is {name}: make a bridge with `datapath_type=netdev`, attach {name} to it and move its addresses and routes to \
             the bridge's own interface, or choose another address with the setting `underlay`, or another backend"
        )))
    }

    /// What is found of a link's end at a tunnel: whether its row is as it was built, and the rest.
    pub(crate) fn verify_tunnel(
        &mut self,
        (identity, side): (&LinkIdentity, Side),
        tunnel: &Tunnel,
        row: Option<&Port>,
        problems: &mut Vec<String>,
    ) -> Outcome<EndReport> {
        let switch = self.switch()?;
        let wanted = options(tunnel)?;
        let mut report = EndReport { admin_up: true, ..EndReport::default() };
        match row.map(|row| row.tunnel.as_ref()) {
            None => return Ok(EndReport::default()),
            Some(Some(found)) if *found == wanted => report.intact = true,
            Some(found) => {
                let now = found.map_or_else(|| "no tunnel".to_owned(), |found| format!("a tunnel with {found:?}"));
                problems.push(format!("end {side} is {now} instead of one with {wanted:?}"));
            }
        }
        let remote = tunnel.remote;
        match way_of(&switch, tunnel)? {
            None => problems.push(format!("the host has no route to {remote}, the far end of the tunnel")),
            Some(way) => match self.why_astray(&switch, &way, tunnel)? {
                None => report.carrier = row.is_some_and(Port::is_attached),
                Some(why) => problems.push(why),
            },
        }
        // A tunnel has no length of its own here; what fits into it is what fits into the rest of the link.
        let other = PortIdentity::read(identity, side.other());
        let other = other.map(|other| switch.link(Which::Index(other.ifindex))).transpose()?.flatten();
        report.mtu = other.map_or(0, |other| other.mtu);
        Ok(report)
    }

    /// Leads a link's tunnel to other addresses while it stands.
    pub(crate) fn redirect(&mut self, identity: &LinkIdentity, to: &Tunnel) -> Outcome<LinkIdentity> {
        let sides = [(Side::A, Some(&identity.a)), (Side::B, identity.b.as_ref())];
        let mut tunnels = sides.into_iter().filter_map(|(side, end)| Some((side, end?.point.place.as_tunnel()?)));
        let none = || Failure::new(ErrorKind::InvalidInput, "the link has no tunnel");
        let (side, from) = tunnels.next().ok_or_else(none)?;
        wiring::refuse_other_tunnel(from, to)?;
        let wanted = options(to)?;
        let switch = self.switch()?;
        if way_of(&switch, to)?.is_none() {
            return Err(Failure::new(ErrorKind::Failed, format!("the host has no route to {}", to.remote)));
        }
        self.refuse_astray(to)?;
        let missing = || Failure::new(ErrorKind::NotFound, "the tunnel does not stand as it was built");
        let recorded = PortIdentity::read(identity, side).filter(|_| identity.boot == self.boot).ok_or_else(missing)?;
        self.current_client()?;
        let label = Label::of(self.controller, identity.mark(side));
        let ours = |db: &Replica| {
            let port = Port::named(db, label.port_name().as_str(), label.controller)?;
            (port.uuid == recorded.uuid && port.label() == Some(label)).then_some(port)
        };
        let number = self.transact_again("redirect a tunnel", |db| {
            let mut draft = Draft::default();
            if let Some(port) = ours(db).filter(|port| port.tunnel.as_ref() != Some(&wanted)) {
                draft.redirect(port.name.as_str(), &wanted);
            }
            draft
        })?;
        let client = self.client()?;
        if let Some(number) = number {
            self.await_switch(&client, number)?;
        }
        let port = client.read(ours).ok_or_else(missing)?;
        if !port.is_attached() {
            let error = port.error.unwrap_or_else(|| "it says nothing".to_owned());
            return Err(Failure::new(ErrorKind::Failed, format!("Open vSwitch does not take the tunnel: {error}")));
        }
        let mut identity = identity.redirected(to);
        PortIdentity { number: port.number.unwrap_or_default(), ..recorded }.write(side, &mut identity.detail);
        self.known.insert(identity.link, identity.clone());
        Ok(identity)
    }
}

/// The address that a switch in user space sends from: of its interface's addresses the first in the narrowest network that
/// the next host on the way is in.
fn source_in_userspace(addresses: &[Address], way: &Route, remote: IpAddr) -> Option<IpAddr> {
    let next = way.gateway.unwrap_or(remote);
    let near = addresses.iter().filter(|it| it.index == way.interface && it.net.contains(&next));
    let narrowest = near.clone().map(|it| it.net.prefix_len()).max()?;
    near.map(|it| it.net).find(|net| net.prefix_len() == narrowest).map(|net| net.addr())
}

/// The identity of an end at a tunnel, which has no interface in the kernel.
pub(crate) fn identity(switch: &Rc<Place>, end: &AttachPoint, plugged: SwitchPort) -> EndIdentity {
    EndIdentity { point: end.clone(), namespace: switch.cookie, ifindex: 0, mac: end.mac, plugged: Some(plugged) }
}
