//! Parking ends of links: an end that another link is going to have stays where it is and leads nowhere meanwhile.

use lifecycle_core::name::IfName;

use super::label::{Label, Owner, owner, port_owner};
use super::{Outcome, Place, are_peers, is_finished};
use crate::netlink::{Change, Link, Which, change_link};

/// The interface on the switch's side of a node's end that was finished under `label`. One that was parked has the name that
/// it got for the link that it was made for, and so its name comes along. None when it is gone, or is somebody else's.
///
/// # Errors
/// When the switch's namespace cannot be read.
pub fn port_behind(node: Option<&Link>, switch: &Place, label: &Label) -> Outcome<Option<(IfName, Link)>> {
    let Some(index) = node.filter(|node| is_finished(node, *label)).and_then(|node| node.lower) else {
        return Ok(None);
    };
    let port = switch.link(Which::Index(index))?;
    let port = port.filter(|port| port_owner(port, label.controller) == Owner::End(*label));
    Ok(port.and_then(|port| Some((IfName::new(&port.name).ok()?, port))))
}

/// An end of a link with its port, each in its namespace; a tap is its own port.
#[derive(Debug)]
pub struct Parkable<'a> {
    node: Option<(&'a Place, &'a Link)>,
    port: (&'a Place, Link),
}

impl<'a> Parkable<'a> {
    /// The end, provided that the interface with the index `port` in the switch's namespace is its port, and is still that of
    /// the link that `is_its` tells, or `heir`'s already. `node` is the interface in the node; none for a tap.
    ///
    /// # Errors
    /// When a namespace cannot be read.
    pub fn find(
        node: Option<(&'a Place, &'a Link)>,
        switch: &'a Place,
        port: u32,
        is_its: impl Fn(Owner) -> bool,
        heir: &Label,
    ) -> Outcome<Option<Self>> {
        let Some(port) = switch.link(Which::Index(port))? else { return Ok(None) };
        let owner = match node {
            Some(_) => port_owner(&port, heir.controller),
            None => owner(&port, heir.controller),
        };
        let stands = is_its(owner) || owner == Owner::End(*heir);
        let whole = stands
            && match node {
                Some((place, node)) => are_peers(place, node, switch, &port)?,
                None => true,
            };
        Ok(whole.then_some(Self { node, port: (switch, port) }))
    }

    /// Takes the end's carrier and gives it `heir`'s label: the port first, of which alone it is told whose an end is. With
    /// `master` 0 the port is taken off its bridge; a switch that is told otherwise keeps it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn park(&self, heir: &Label, master: Option<u32>) -> Outcome<()> {
        let (alias, port_alias) = (heir.to_string(), heir.of_port());
        let of_port = if self.node.is_some() { &port_alias } else { &alias };
        let off = Change { up: Some(false), master, alias: Some(of_port), ..Change::default() };
        let (switch, port) = &self.port;
        switch.route(|route| route.run(change_link(Which::Index(port.index), &off)))?;
        let Some((place, node)) = self.node else { return Ok(()) };
        let label = Change { alias: Some(&alias), ..Change::default() };
        Ok(place.route(|route| route.run(change_link(Which::Index(node.index), &label)))?)
    }
}
