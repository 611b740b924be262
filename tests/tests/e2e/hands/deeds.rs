//! What hands do to links.

use std::os::fd::AsFd;

use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::LINK_GROUP;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_linux::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, Link, NewLink, PortChange, Veth, Which, change_link, create_veth, delete_link,
    set_port, shape, unshape,
};
use lifecycle_linux::testing::{name, number, open_vswitch::OpenVswitch};

use super::lab::{Bench, Wire};

/// Hands at a lab, and at the switch that it is on.
pub(super) struct Hands<'a> {
    pub(super) bench: Bench<'a>,
    pub(super) switch: Option<&'a OpenVswitch>,
}

/// Something that a hand does to a link: says whom it struck, and nothing when there is nothing to do it to.
pub(super) type Deed = fn(&mut Hands<'_>, &Wire) -> Option<Vec<Wire>>;

/// The name of the part on the host's side that a hand takes: a port of a switch, or an end on the host itself.
fn part(hands: &mut Hands<'_>, wire: &Wire) -> Option<IfName> {
    let side = hands.bench.side();
    let port = wire.port(side);
    if hands.bench.host_link(&port).is_some() {
        return Some(port);
    }
    let (_, end) =
        wire.ends.iter().find(|(place, name)| !place.starts_with('n') && hands.bench.host_link(name).is_some())?;
    Some(end.clone())
}

fn change(hands: &mut Hands<'_>, wire: &Wire, change: &Change<'_>) -> Option<Vec<Wire>> {
    let part = part(hands, wire)?;
    hands.bench.run(change_link(Which::Name(&part), change));
    Some(vec![wire.clone()])
}

pub(super) fn delete(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let part = part(hands, wire)?;
    hands.bench.run(delete_link(Which::Name(&part)));
    Some(vec![wire.clone()])
}

pub(super) fn set_down(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    change(hands, wire, &Change { up: Some(false), ..Change::default() })
}

pub(super) fn set_mtu(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    change(hands, wire, &Change { mtu: Some(1200), ..Change::default() })
}

/// A port, or nothing for what is none.
fn port(hands: &mut Hands<'_>, wire: &Wire) -> Option<Link> {
    let part = part(hands, wire)?;
    hands.bench.host_link(&part).filter(|link| link.master.is_some())
}

pub(super) fn unplug(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let port = port(hands, wire)?;
    hands.bench.run(change_link(Which::Index(port.index), &Change { master: Some(0), ..Change::default() }));
    Some(vec![wire.clone()])
}

pub(super) fn hold_frames_back(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let port = port(hands, wire)?;
    hands.bench.run(set_port(Which::Index(port.index), PortChange { group_fwd_mask: Some(0), learning: None }));
    Some(vec![wire.clone()])
}

/// Everything at the bridge that a link is at, which is the link alone unless nodes share it.
fn at_bridge(hands: &mut Hands<'_>, wire: &Wire) -> Option<(IfName, Vec<Wire>)> {
    if hands.bench.host_link(&wire.bridge()).is_some() {
        return Some((wire.bridge(), vec![wire.clone()]));
    }
    let shared = name("lcbr");
    let at: Vec<Wire> = hands.bench.wires.iter().filter(|wire| wire.is_at("lcbr")).cloned().collect();
    (wire.is_at("lcbr") && hands.bench.host_link(&shared).is_some()).then_some((shared, at))
}

pub(super) fn delete_bridge(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let (bridge, struck) = at_bridge(hands, wire)?;
    hands.bench.run(delete_link(Which::Name(&bridge)));
    Some(struck)
}

pub(super) fn set_bridge_down(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let (bridge, struck) = at_bridge(hands, wire)?;
    hands.bench.run(change_link(Which::Name(&bridge), &Change { up: Some(false), ..Change::default() }));
    Some(struck)
}

/// An end that a node has of its own is taken from it.
pub(super) fn delete_in_node(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let (node, end) = wire.ends.iter().find(|(place, _)| place.starts_with('n'))?;
    hands.bench.route(node).run(delete_link(Which::Name(end))).unwrap();
    Some(vec![wire.clone()])
}

/// A pair is made again under the old names, with the same marks, in the same places.
pub(super) fn make_again(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let part = part(hands, wire);
    let (near_place, near) = match part {
        Some(part) => (String::new(), part),
        None => wire.ends[0].clone(),
    };
    let old = hands.bench.route(&near_place).link(Which::Name(&near)).unwrap()?;
    let mut far = None;
    for (place, name) in wire.ends.iter().filter(|(place, name)| (place, name) != (&near_place, &near)) {
        let stands = place.is_empty() || place.starts_with('n');
        let link = if stands { hands.bench.route(place).link(Which::Name(name)).unwrap() } else { None };
        far = link.filter(|link| link.lower == Some(old.index)).map(|link| (place.clone(), name.clone(), link)).or(far);
    }
    let (far_place, far_name, far) = far?;
    let networks = [&near_place, &far_place].map(|place| hands.bench.network(place).try_clone().unwrap());
    let new = |link: &Link, mtu| NewLink { mac: link.mac, mtu: Some(mtu), group: LINK_GROUP, ..NewLink::new(&near) };
    let a = NewLink { ns: Some(networks[0].as_fd()), ..new(&old, old.mtu) };
    let b = NewLink { ns: Some(networks[1].as_fd()), name: &far_name, ..new(&far, far.mtu) };
    hands.bench.unseen(|bench| {
        bench.route(&near_place).run(delete_link(Which::Name(&near))).unwrap();
        bench.run(create_veth(&Veth { a, b }));
        for (place, name, link) in [(&near_place, &near, &old), (&far_place, &far_name, &far)] {
            let up = Change { up: Some(true), alias: link.alias.as_deref(), master: link.master, ..Change::default() };
            bench.route(place).run(change_link(Which::Name(name), &up)).unwrap();
            if link.master.is_some() {
                let all = PortChange { group_fwd_mask: Some(BRIDGE_PORT_FORWARD_ALL), learning: Some(false) };
                bench.route(place).run(set_port(Which::Name(name), all)).unwrap();
            }
        }
    });
    Some(vec![wire.clone()])
}

/// Somebody plugs something of theirs into the bridge of a link. It is theirs afterwards too.
pub(super) fn plug_in(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let bridge = hands.bench.host_link(&wire.bridge())?;
    let (stranger, other) = (name(&format!("lc{}a", number())), name(&format!("other{}", number())));
    let master = Some(bridge.index);
    let pair = Veth { a: NewLink { master, up: true, ..NewLink::new(&stranger) }, b: NewLink::new(&other) };
    hands.bench.run(create_veth(&pair));
    hands.bench.until_put_right("a stranger on the bridge", &[wire.clone()]);
    let after = hands.bench.host_link(&stranger).unwrap();
    assert_eq!((after.master, after.admin_up), (None, true), "a stranger is taken off, and no more");
    hands.bench.run(delete_link(Which::Name(&stranger)));
    Some(Vec::new())
}

/// What slows a link down is taken away or changed, or a link is slowed down that should not be.
pub(super) fn slow_down(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let part = part(hands, wire)?;
    let index = hands.bench.host_link(&part)?.index;
    let slowed = hands.bench.route("").shaping(index).unwrap().unwrap().rate.is_some();
    if slowed {
        hands.bench.run(unshape(index));
    }
    if !slowed || hands.bench.chance(2) == 0 {
        let attrs = LinkAttrs { rate: Some(5_000_000), ..LinkAttrs::default() };
        shape(index, &attrs).into_iter().for_each(|request| hands.bench.run(request));
    }
    Some(vec![wire.clone()])
}

/// Words for `ovs-vsctl` about a port of a link.
fn vsctl(hands: &mut Hands<'_>, wire: &Wire, words: &[&str]) -> Option<String> {
    let port = wire.port(hands.bench.side());
    let words: Vec<&str> = words.iter().map(|word| if *word == "PORT" { port.as_str() } else { word }).collect();
    Some(hands.switch?.vsctl(&words))
}

pub(super) fn retag(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    // Another link's segment at times, and a free one at others.
    let tag = format!("tag={}", 1 + hands.bench.chance(30));
    let port = wire.port(hands.bench.side());
    let switch = hands.switch?;
    if switch.vsctl(&["get", "port", port.as_str(), "tag"]) == tag[4..] {
        return None;
    }
    // Whoever had the tag before is disturbed as well.
    let had = switch.vsctl(&["--bare", "--columns=name", "find", "port", &tag]);
    switch.vsctl(&["set", "port", port.as_str(), &tag]);
    let struck =
        |other: &&Wire| other.id == wire.id || had.contains(other.port(lifecycle_core::policy::link::Side::A).as_str());
    Some(hands.bench.wires.iter().filter(struck).cloned().collect())
}

pub(super) fn trunk(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    vsctl(hands, wire, &["set", "port", "PORT", "vlan_mode=access"]).map(|_| vec![wire.clone()])
}

pub(super) fn delete_port(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    vsctl(hands, wire, &["del-port", "PORT"]).map(|_| vec![wire.clone()])
}

pub(super) fn delete_switch(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let bridge = vsctl(hands, wire, &["port-to-br", "PORT"])?;
    hands.switch?.vsctl(&["del-br", &bridge]);
    Some(hands.bench.wires.clone())
}

pub(super) fn hold_switch_back(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let bridge = vsctl(hands, wire, &["port-to-br", "PORT"])?;
    hands.switch?.vsctl(&["set", "bridge", &bridge, "other_config:forward-bpdu=false"]);
    Some(hands.bench.wires.clone())
}

/// Somebody puts a port of theirs on the segment of a link. It is theirs afterwards too, segment and all.
pub(super) fn tap_in(hands: &mut Hands<'_>, wire: &Wire) -> Option<Vec<Wire>> {
    let bridge = vsctl(hands, wire, &["port-to-br", "PORT"])?;
    let tag = vsctl(hands, wire, &["get", "port", "PORT", "tag"])?;
    let stranger = format!("tapper{}", number());
    let words = ["add-port", &bridge, &stranger, &format!("tag={tag}"), "--", "set", "interface", &stranger];
    let switch = hands.switch?;
    switch.vsctl(&[&words[..], &["type=internal"]].concat());
    hands.bench.until_put_right("a stranger on the segment", &[wire.clone()]);
    assert_eq!(switch.vsctl(&["get", "port", &stranger, "tag"]), tag, "it is left on the segment, and the link is not");
    switch.vsctl(&["del-port", &stranger]);
    Some(Vec::new())
}

/// Things of others with names like ours, which nothing may happen to.
pub(super) struct Foreign {
    links: Vec<(IfName, Link)>,
}

impl Foreign {
    pub(super) fn make(hands: &mut Hands<'_>) -> Self {
        let (bridge, port, other) = (name("lb00000000000a"), name("lc00000000000aa"), name("lc00000000000ab"));
        hands.bench.run(lifecycle_linux::netlink::create_bridge(&NewLink { up: true, ..NewLink::new(&bridge) }));
        let master = hands.bench.host_link(&bridge).map(|link| link.index);
        let mac = Some(Mac([0x62, 1, 2, 3, 4, 5]));
        // One bears the very group of ours, and says that it is another controller's.
        let pair =
            Veth { a: NewLink { master, mac, group: LINK_GROUP, ..NewLink::new(&port) }, b: NewLink::new(&other) };
        hands.bench.run(create_veth(&pair));
        let theirs = "lifecycle 1 000000000001 00000000000a 1 a port";
        hands.bench.run(change_link(Which::Name(&port), &Change { alias: Some(theirs), ..Change::default() }));
        if let Some(switch) = hands.switch {
            let bridge = "ls000000000001";
            let words = ["add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"];
            switch.vsctl(&words);
            switch.vsctl(&["add-port", bridge, port.as_str(), "tag=1"]);
        }
        let links = [bridge, port, other].map(|name| (name.clone(), hands.bench.host_link(&name).unwrap()));
        Self { links: links.into() }
    }

    pub(super) fn assert_untouched(&self, hands: &mut Hands<'_>) {
        for (name, before) in &self.links {
            assert_eq!(hands.bench.host_link(name).as_ref(), Some(before));
        }
        if let Some(switch) = hands.switch {
            assert_eq!(switch.vsctl(&["list-ports", "ls000000000001"]), "lc00000000000aa");
            assert_eq!(switch.vsctl(&["get", "port", "lc00000000000aa", "tag"]), "1");
        }
    }

    pub(super) fn remove(self, hands: &mut Hands<'_>) {
        if let Some(switch) = hands.switch {
            switch.vsctl(&["del-br", "ls000000000001"]);
        }
        self.links[..2].iter().for_each(|(name, _)| hands.bench.run(delete_link(Which::Name(name))));
    }
}
